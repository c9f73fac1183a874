//! OpenMetrics into the text format 0.0.4, for scrapers that do not know the former. The samples are
//! the same; what describes them is not.

/// The `Content-Type` of the older format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn plain(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len());
    // Of a family, the help comes before the type, and needs the name that the type decides.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(of_family) = line.strip_prefix("# HELP ") {
            help = of_family.split_once(' ').map(|(_, text)| text);
        } else if let Some(of_family) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = of_family.split_once(' ') else { continue };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            if let Some(help) = help.take() {
                page.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            page.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            page.extend([line, "\n"]);
        }
    }
    page
}
