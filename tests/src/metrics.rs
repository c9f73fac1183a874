//! One scrape of `/metrics`.

/// What a scrape brought.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all samples of a metric that carry these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| value_of(line, name, labels)).sum()
    }

    /// Whether the metric is described at all.
    pub fn describes(&self, name: &str) -> bool {
        let family = name.strip_suffix("_total").unwrap_or(name);
        self.0.lines().any(|line| {
            line.strip_prefix("# TYPE ")
                .and_then(|rest| rest.split(' ').next())
                .is_some_and(|described| described == name || described == family)
        })
    }
}

fn value_of(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (labelled, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let has = |(name, value): &(&str, &str)| {
        let pair = format!("{name}=\"{value}\"");
        labelled.starts_with(&pair) || labelled.contains(&format!(",{pair}"))
    };
    labels.iter().all(has).then(|| value.trim().parse().ok())?
}
