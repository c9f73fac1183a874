//! The counters of all workers, and the state of the services, as OpenMetrics 1.0 text.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::{
    AttemptResult, Cause, Cells, Counters, DECISION_BOUNDS, FaultReason, KINDS, OfPolicy,
    OfService, RetryReason, RetryRefusal, STATUS_CLASSES,
};
use crate::breaker::Circuit;
use crate::upstream::{Endpoint, Services};

/// The `Content-Type` of what [`encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label `service` of requests for the gateway's own pages, and of those that were for nobody.
/// No service can have these names.
const GATEWAY: &str = "(gateway)";
const NOBODY: &str = "(none)";

/// All metrics as they are now. `counters` are those of the workers, made for these `services`.
pub fn encode(services: &Services, counters: &[Arc<Counters>], access_dropped: u64) -> String {
    let all = Counters::new(services.all.len());
    for worker in counters {
        all.absorb(worker);
    }
    let mut families = of_requests(services, &all);
    families.extend(of_policies(&all));
    families.extend(of_connections(&all));
    families.extend(of_logs(&all, access_dropped));
    families.extend(of_endpoints(services));
    families.push(Family {
        name: "orchestrator_build",
        help: "The version of this gateway.",
        samples: Samples::Info(labels(&[("version", env!("CARGO_PKG_VERSION"))])),
    });
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a string takes all");
    page
}

fn of_requests(services: &Services, all: &Counters) -> Vec<Family> {
    fn each<const N: usize>(
        services: &Services,
        all: &Counters,
        (label, words): (&'static str, &[&str]),
        cells: impl Fn(&OfService) -> &Cells<N>,
    ) -> Vec<Sample<u64>> {
        let pairs = services.all.iter().zip(&all.services);
        let samples = pairs.map(|(service, counted)| {
            by_word(("service", &service.name), (label, words), cells(counted))
        });
        samples.flatten().collect()
    }
    let classes = ("status_class", &STATUS_CLASSES[..]);
    let mut requests = each(services, all, classes, |service| &service.requests);
    requests.extend(by_word(("service", GATEWAY), classes, &all.gateway_requests));
    requests.extend(by_word(("service", NOBODY), classes, &all.undecided_requests));
    let outcomes = ("outcome", AttemptResult::WORDS);
    let attempts = each(services, all, outcomes, |service| &service.attempts);
    let reasons = ("reason", RetryReason::WORDS);
    let retries = each(services, all, reasons, |service| &service.retries);
    let refusals = ("reason", RetryRefusal::WORDS);
    let refused = each(services, all, refusals, |service| &service.retries_refused);
    vec![
        Family {
            name: "orchestrator_requests",
            help: "Requests that have ended, by the service they were for and their status.",
            samples: Samples::Counter(requests),
        },
        Family {
            name: "orchestrator_attempts",
            help: "Attempts at the endpoints of a service, by what came of them.",
            samples: Samples::Counter(attempts),
        },
        Family {
            name: "orchestrator_retries",
            help: "Attempts that were made again, by what had come of the one before.",
            samples: Samples::Counter(retries),
        },
        Family {
            name: "orchestrator_retry_refused",
            help: "Retries that a limit of the gateway did not allow.",
            samples: Samples::Counter(refused),
        },
    ]
}

fn of_policies(all: &Counters) -> Vec<Family> {
    let policies = || KINDS.iter().map(|kind| kind.name()).zip(&all.policies);
    let calls = policies().map(|(name, counted)| {
        let calls = counted.decisions.0.iter().map(|bucket| bucket.get()).sum();
        (labels(&[("policy", name)]), calls)
    });
    let faults = policies().flat_map(|(name, counted)| {
        by_word(("policy", name), ("reason", FaultReason::WORDS), &counted.faults)
    });
    let decisions =
        policies().map(|(name, counted)| (labels(&[("policy", name)]), Histogram::of(counted)));
    vec![
        Family {
            name: "orchestrator_policy_calls",
            help: "Decisions that a policy was asked for.",
            samples: Samples::Counter(calls.collect()),
        },
        Family {
            name: "orchestrator_policy_faults",
            help: "Decisions that a policy did not make, by the reason.",
            samples: Samples::Counter(faults.collect()),
        },
        Family {
            // Its unit is appended.
            name: "orchestrator_policy_decision",
            help: "How long a policy took to decide.",
            samples: Samples::Seconds(decisions.collect()),
        },
    ]
}

fn of_connections(all: &Counters) -> Vec<Family> {
    let closed = all.connections_closed.get();
    let opened = all.connections_opened.get();
    let cuts = Cause::WORDS.iter().zip(&all.connections_cut.0);
    let cuts = cuts.map(|(word, count)| (labels(&[("reason", word)]), count.get()));
    vec![
        Family {
            name: "orchestrator_connections_open",
            help: "Connections from clients that are open now.",
            samples: Samples::Level(opened.saturating_sub(closed)),
        },
        Family::total("orchestrator_connections", "Connections from clients.", opened),
        Family::total(
            "orchestrator_connections_refused",
            "Connections from clients that were closed at once because there were too many.",
            all.connections_refused.get(),
        ),
        Family {
            name: "orchestrator_connections_cut",
            help: "Connections from clients that a limit ended.",
            samples: Samples::Counter(cuts.collect()),
        },
        Family::total(
            "orchestrator_unparsed_requests",
            "Requests that could not be parsed and got a bare 4xx.",
            all.unparsed_requests.get(),
        ),
    ]
}

fn of_logs(all: &Counters, access_dropped: u64) -> Vec<Family> {
    vec![
        Family::total(
            "orchestrator_access_log_dropped",
            "Lines of the access log that were dropped because its reader is too slow.",
            access_dropped,
        ),
        Family::total(
            "orchestrator_log_suppressed",
            "Lines of the gateway's own log that were left out because there were too many.",
            all.log_suppressed.get(),
        ),
    ]
}

fn of_endpoints(services: &Services) -> Vec<Family> {
    let now_ms = services.now_ms();
    let (mut circuits, mut transitions) = (Vec::new(), Vec::new());
    let (mut up, mut in_flight) = (Vec::new(), Vec::new());
    for service in &services.all {
        for endpoint in service.endpoints_now() {
            let url = endpoint.url();
            let pair = [("service", &*service.name), ("endpoint", url.as_str())];
            let circuit = endpoint.circuit(&service.rules, now_ms);
            let state = Circuit::ALL.iter().position(|known| *known == circuit);
            circuits.push((labels(&pair), state.expect("ALL has every circuit") as u64));
            for (to, count) in Circuit::ALL.iter().zip(&endpoint.transitions) {
                let labels = labels(&[pair[0], pair[1], ("to", to.as_str())]);
                transitions.push((labels, count.load(Relaxed)));
            }
            up.extend(healthy(endpoint).map(|healthy| (labels(&pair), u64::from(healthy))));
            in_flight.push((labels(&pair), endpoint.in_flight.load(Relaxed).into()));
        }
    }
    vec![
        Family {
            name: "orchestrator_circuit_state",
            help: "The circuit of an endpoint: 0 is closed, 1 half-open, 2 open.",
            samples: Samples::Gauge(circuits),
        },
        Family {
            name: "orchestrator_circuit_transitions",
            help: "Moves of an endpoint's circuit, by the state it came to.",
            samples: Samples::Counter(transitions),
        },
        Family {
            name: "orchestrator_health_up",
            help: "Whether the last check of an endpoint passed; absent before the first.",
            samples: Samples::Gauge(up),
        },
        Family {
            name: "orchestrator_in_flight_requests",
            help: "Requests at an endpoint whose response has not ended.",
            samples: Samples::Gauge(in_flight),
        },
    ]
}

/// None before the first check.
fn healthy(endpoint: &Endpoint) -> Option<bool> {
    Some(endpoint.checks.load().last.as_ref()?.healthy())
}

/// A sample for each of `words`, beside a label that all have.
fn by_word<const N: usize>(
    shared: (&'static str, &str),
    (label, words): (&'static str, &[&str]),
    cells: &Cells<N>,
) -> Vec<Sample<u64>> {
    let each = words.iter().zip(&cells.0);
    each.map(|(word, count)| (labels(&[shared, (label, word)]), count.get())).collect()
}

type Labels = Vec<(&'static str, String)>;

fn labels(of: &[(&'static str, &str)]) -> Labels {
    of.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

type Sample<V> = (Labels, V);

/// A metric with all its labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    /// A counter without labels.
    Total(u64),
    /// A gauge without labels.
    Level(u64),
    Counter(Vec<Sample<u64>>),
    Gauge(Vec<Sample<u64>>),
    Seconds(Vec<Sample<Histogram>>),
    Info(Labels),
}

#[derive(Debug)]
struct Histogram {
    sum: f64,
    count: u64,
    /// Upper bound, and how many are in this bucket alone: the encoder adds them up.
    buckets: Vec<(f64, u64)>,
}

impl Histogram {
    fn of(policy: &OfPolicy) -> Histogram {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let bounds = DECISION_BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let counts = policy.decisions.0.iter().map(|count| count.get());
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Histogram {
            sum: seconds(policy.nanoseconds.get()),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

impl Family {
    fn total(name: &'static str, help: &'static str, count: u64) -> Family {
        Family { name, help, samples: Samples::Total(count) }
    }

    fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (kind, unit) = match self.samples {
            Samples::Total(_) | Samples::Counter(_) => (MetricType::Counter, None),
            Samples::Level(_) | Samples::Gauge(_) => (MetricType::Gauge, None),
            Samples::Seconds(_) => (MetricType::Histogram, Some(&Unit::Seconds)),
            Samples::Info(_) => (MetricType::Info, None),
        };
        let mut metric = to.encode_descriptor(self.name, self.help, unit, kind)?;
        let no_exemplar = None::<&Exemplar<NoLabelSet, u64>>;
        match &self.samples {
            Samples::Total(count) => metric.encode_counter(count, no_exemplar),
            Samples::Level(value) => metric.encode_gauge(value),
            Samples::Counter(samples) => samples.iter().try_for_each(|(labels, count)| {
                metric.encode_family(labels)?.encode_counter(count, no_exemplar)
            }),
            Samples::Gauge(samples) => samples
                .iter()
                .try_for_each(|(labels, value)| metric.encode_family(labels)?.encode_gauge(value)),
            Samples::Seconds(samples) => samples.iter().try_for_each(|(labels, histogram)| {
                let Histogram { sum, count, buckets } = histogram;
                let mut metric = metric.encode_family(labels)?;
                metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }),
            Samples::Info(labels) => metric.encode_info(labels),
        }
    }
}

/// What one scrape shows.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}
