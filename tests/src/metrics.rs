//! One scrape of `/metrics`, read as strictly as OpenMetrics 1.0 is written.

use std::collections::{BTreeMap, HashSet};

/// What a scrape brought.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// Fails the test where the page is not OpenMetrics.
    pub(crate) fn checked(page: String) -> Self {
        if let Err(error) = Page::default().read(&page) {
            panic!("not OpenMetrics: {error}\n{page}");
        }
        Self(page)
    }

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

/// A page as far as it was read.
#[derive(Default)]
struct Page<'a> {
    /// Name and kind of the family that the next samples belong to.
    family: Option<(&'a str, &'a str)>,
    /// What was said about it: HELP, TYPE, UNIT.
    said: HashSet<&'a str>,
    families: HashSet<&'a str>,
    samples: HashSet<String>,
    /// By name and labels without `le`.
    histograms: BTreeMap<String, Histogram>,
}

#[derive(Default)]
struct Histogram {
    /// Bounds and counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
}

type Labels = BTreeMap<String, String>;

impl<'a> Page<'a> {
    fn read(&mut self, page: &'a str) -> Result<(), String> {
        let Some(body) = page.strip_suffix("# EOF\n") else { return Err("no end".into()) };
        for line in body.lines() {
            let read = match line.strip_prefix("# ") {
                Some(description) => self.description(description),
                None => self.sample(line),
            };
            read.map_err(|error| format!("{error} in the line\n{line}"))?;
        }
        self.histograms_are_whole()
    }

    fn description(&mut self, line: &'a str) -> Result<(), String> {
        let mut words = line.splitn(3, ' ');
        let (Some(what), Some(name), Some(value)) = (words.next(), words.next(), words.next())
        else {
            return Err("too few words".into());
        };
        if self.family.is_none_or(|(known, _)| known != name) {
            if !self.families.insert(name) {
                return Err("a family that was there".into());
            }
            self.family = Some((name, "unknown"));
            self.said.clear();
        }
        if !self.said.insert(what) {
            return Err("said twice".into());
        }
        match what {
            "HELP" => Ok(()),
            "TYPE" if ["counter", "gauge", "histogram", "info"].contains(&value) => {
                self.family = Some((name, value));
                Ok(())
            }
            "UNIT" if name.ends_with(&format!("_{value}")) => Ok(()),
            _ => Err("no description".into()),
        }
    }

    fn sample(&mut self, line: &'a str) -> Result<(), String> {
        let (family, kind) = self.family.ok_or("a sample without its family")?;
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Labels::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("no blank before the value")?;
        let value: f64 = value.parse().map_err(|_| "no number")?;
        let suffix = name.strip_prefix(family).ok_or("a sample of another family")?;
        let allowed: &[&str] = match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &["_info"],
        };
        if !allowed.contains(&suffix) {
            return Err(format!("a {kind} has no sample {suffix:?}"));
        }
        if kind != "gauge" && (value.is_nan() || value < 0.0) {
            return Err("less than nothing".into());
        }
        if !self.samples.insert(format!("{name}{labels:?}")) {
            return Err("the same sample twice".into());
        }
        if kind == "histogram" {
            self.part_of_histogram(family, suffix, labels, value)?;
        }
        Ok(())
    }

    fn part_of_histogram(
        &mut self,
        family: &str,
        suffix: &str,
        mut labels: Labels,
        value: f64,
    ) -> Result<(), String> {
        let bound = labels.remove("le");
        let histogram = self.histograms.entry(format!("{family}{labels:?}")).or_default();
        match (suffix, bound) {
            ("_bucket", Some(bound)) => {
                let bound = bound.replace("+Inf", "inf").parse().map_err(|_| "no bound")?;
                histogram.buckets.push((bound, value));
            }
            ("_count", None) => histogram.count = Some(value),
            ("_sum", None) => {}
            _ => return Err("`le` belongs to buckets, and to all of them".into()),
        }
        Ok(())
    }

    fn histograms_are_whole(&self) -> Result<(), String> {
        for (name, Histogram { buckets, count }) in &self.histograms {
            let rising = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            let last = buckets.last().copied();
            if !rising || last.is_none() || last != count.map(|count| (f64::INFINITY, count)) {
                return Err(format!("{name}: {buckets:?} of {count:?}"));
            }
        }
        Ok(())
    }
}

/// `a="b",c="d"} rest`, with its escapes.
fn labels(text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    let mut rest = text;
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("no label")?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) || name.as_bytes()[0].is_ascii_digit() {
            return Err(format!("{name:?} names no label"));
        }
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next() {
                Some((end, '"')) => break end,
                Some((_, '\\')) => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('"' | '\\'))) => escaped,
                    _ => return Err("no escape".into()),
                }),
                Some((_, character)) => value.push(character),
                None => return Err("no closing quote".into()),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("{name} twice"));
        }
        rest = &quoted[end + 1..];
        match rest.as_bytes().first() {
            Some(b',') => rest = &rest[1..],
            Some(b'}') => return Ok((labels, &rest[1..])),
            _ => return Err("no end of the labels".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(page: &str) -> Option<String> {
        Page::default().read(page).err()
    }

    const GOOD: &str = "# HELP a_seconds Of a.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
        a_seconds_sum{x=\"\\\"\\n\"} 1.5\na_seconds_count{x=\"\\\"\\n\"} 2\n\
        a_seconds_bucket{le=\"0.5\",x=\"\\\"\\n\"} 1\na_seconds_bucket{le=\"+Inf\",x=\"\\\"\\n\"} 2\n\
        # TYPE b counter\nb_total 3\n# EOF\n";

    #[test]
    fn what_is_open_metrics_passes() {
        assert_eq!(error(GOOD), None);
    }

    #[test]
    fn what_is_not_does_not() {
        for (good, bad) in [
            ("# EOF\n", ""),
            ("b_total 3", "b 3"),
            ("b_total 3", "b_total -3"),
            ("b_total 3", "b_total 3\nb_total 3"),
            ("b_total 3", "b_total{} 3"),
            ("b_total 3", "b_total{a=\"1\",a=\"2\"} 3"),
            ("b_total 3", "b_total{a=\"\\x\"} 3"),
            ("b_total 3", "b_total three"),
            ("b_total 3", "c_total 3"),
            ("# TYPE b", "# TYPE a_seconds"),
            ("# TYPE b counter", "# TYPE b counter\n# TYPE b counter"),
            ("_count{x=\"\\\"\\n\"} 2", "_count{x=\"\\\"\\n\"} 3"),
            ("{le=\"0.5\",x=\"\\\"\\n\"} 1", "{le=\"0.5\",x=\"\\\"\\n\"} 3"),
            ("\"+Inf\"", "\"0.1\""),
            ("UNIT a_seconds seconds", "UNIT a_seconds bytes"),
        ] {
            assert!(GOOD.contains(good), "{good}");
            assert!(error(&GOOD.replacen(good, bad, 1)).is_some(), "{bad}");
        }
    }
}
