//! One metric with all its labels, as prometheus-client writes it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::super::cells::{Cells, Histogram};

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) fn labels(of: &[(&'static str, &str)]) -> Labels {
    of.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

pub(super) type Sample<V> = (Labels, V);

/// A sample for each of `words`, beside the labels that all have.
pub(super) fn by_word<const N: usize>(
    shared: &[(&'static str, &str)],
    (label, words): (&'static str, &[&str]),
    cells: &Cells<N>,
) -> Vec<Sample<u64>> {
    let each = words.iter().zip(&cells.0);
    each.map(|(word, count)| (labels(&[shared, &[(label, word)]].concat()), count.get())).collect()
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

#[derive(Debug)]
pub(super) enum Samples {
    /// A counter without labels.
    Count(u64),
    /// The same of a time.
    Seconds(f64),
    /// A gauge without labels.
    Level(f64),
    Counter(Vec<Sample<u64>>),
    Gauge(Vec<Sample<f64>>),
    /// The unit is appended to the family's name.
    Histogram(Unit, Vec<Sample<Distribution>>),
    Info(Vec<Labels>),
}

/// A histogram as it is shown.
#[derive(Debug)]
pub(super) struct Distribution {
    sum: f64,
    count: u64,
    /// Upper bound, and how many are in this bucket alone: the encoder adds them up.
    buckets: Vec<(f64, u64)>,
}

impl Distribution {
    /// `scale`: how many of the histogram's units make one that is shown.
    pub(super) fn of<const BUCKETS: usize>(
        histogram: &Histogram<BUCKETS>,
        bounds: &[u64],
        scale: f64,
    ) -> Distribution {
        let shown = |value: u64| value as f64 / scale;
        let bounds = bounds.iter().map(|bound| shown(*bound)).chain([f64::INFINITY]);
        let counts = histogram.buckets.0.iter().map(|count| count.get());
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Distribution {
            sum: shown(histogram.sum.get()),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

impl Family {
    fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (kind, unit) = match &self.samples {
            Samples::Count(_) | Samples::Seconds(_) | Samples::Counter(_) => {
                (MetricType::Counter, None)
            }
            Samples::Level(_) | Samples::Gauge(_) => (MetricType::Gauge, None),
            Samples::Histogram(unit, _) => (MetricType::Histogram, Some(unit)),
            Samples::Info(_) => (MetricType::Info, None),
        };
        let mut metric = to.encode_descriptor(self.name, self.help, unit, kind)?;
        let no_exemplar = None::<&Exemplar<NoLabelSet, u64>>;
        match &self.samples {
            Samples::Seconds(seconds) => {
                metric.encode_counter(seconds, None::<&Exemplar<NoLabelSet, f64>>)
            }
            Samples::Count(count) => metric.encode_counter(count, no_exemplar),
            Samples::Level(value) => metric.encode_gauge(value),
            Samples::Counter(samples) => samples.iter().try_for_each(|(labels, count)| {
                metric.encode_family(labels)?.encode_counter(count, no_exemplar)
            }),
            Samples::Gauge(samples) => samples
                .iter()
                .try_for_each(|(labels, value)| metric.encode_family(labels)?.encode_gauge(value)),
            Samples::Histogram(_, samples) => samples.iter().try_for_each(|(labels, shown)| {
                let Distribution { sum, count, buckets } = shown;
                let mut metric = metric.encode_family(labels)?;
                metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }),
            Samples::Info(all) => all.iter().try_for_each(|labels| metric.encode_info(labels)),
        }
    }
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// The families as OpenMetrics 1.0.
pub(super) fn open_metrics(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a string takes all");
    page
}
