//! The counters of all workers, and the state of the services, as text for scrapers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use prometheus_client::registry::Unit;

use super::{
    AttemptResult, Cell, Cells, Counters, DECISION_BOUNDS, FaultReason, Limit, OfService,
    RetryReason, STATUS_CLASSES, ServiceLimit, Totals,
};
use crate::breaker::Circuit;
use crate::policy::Kind;
use crate::telemetry::rollout::Rollouts;
use crate::upstream::{Endpoint, Services};
use family::{Distribution, Family, Labels, Sample, Samples, by_word, labels};

mod family;
mod http;
mod plain;
mod process;
mod rollouts;

/// The label `service` of requests for the gateway's own pages, and of those that were for nobody.
/// No service can have these names.
const GATEWAY: &str = "(gateway)";
const NOBODY: &str = "(none)";

/// What `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    pub services: Arc<Services>,
    /// Those of the workers, made for these services.
    pub counters: Vec<Arc<Counters>>,
    /// Lines of the access log that found no room.
    pub access_dropped: Arc<AtomicU64>,
    /// What became of the policies' versions.
    pub rollouts: Arc<Rollouts>,
    pub started: SystemTime,
}

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Plain,
}

impl Format {
    /// The format for a scraper that sends this `Accept`: the older one only if it asks for that
    /// alone.
    pub fn accepted(accept: Option<&str>) -> Format {
        match accept {
            Some(accept)
                if accept.contains("text/plain")
                    && !accept.contains("application/openmetrics-text") =>
            {
                Format::Plain
            }
            _ => Format::OpenMetrics,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => plain::CONTENT_TYPE,
        }
    }
}

impl Metrics {
    /// All metrics as they are now. Takes a time in proportion to what was seen, at the most some
    /// ten thousand lines for each worker.
    pub fn page(&self, format: Format) -> String {
        let all = Totals::new(self.services.all.len());
        for worker in &self.counters {
            all.absorb(&worker.totals);
        }
        let mut families = http::families(self, &all);
        families.extend(self.of_requests(&all));
        families.push(self.of_limits(&all));
        families.extend(self.of_policies(&all));
        families.extend(rollouts::families(&self.rollouts));
        families.extend(of_connections(&all));
        families.extend(self.of_logs(&all));
        families.extend(of_endpoints(&self.services));
        families.push(Family {
            name: "orchestrator_build",
            help: "The version of this gateway.",
            samples: Samples::Info(vec![labels(&[("version", env!("CARGO_PKG_VERSION"))])]),
        });
        families.extend(process::families(self.started));
        let page = family::open_metrics(families);
        match format {
            Format::OpenMetrics => page,
            Format::Plain => plain::plain(&page),
        }
    }

    /// Connections from clients that are open now.
    pub fn open_connections(&self) -> u64 {
        let count = |of: fn(&Totals) -> &Cell| -> u64 {
            self.counters.iter().map(|worker| of(&worker.totals).get()).sum()
        };
        let closed = count(|totals| &totals.connections_closed);
        count(|totals| &totals.connections_opened).saturating_sub(closed)
    }

    fn of_requests(&self, all: &Totals) -> Vec<Family> {
        fn each<const N: usize>(
            services: &Services,
            all: &Totals,
            words: (&'static str, &[&str]),
            cells: impl Fn(&OfService) -> &Cells<N>,
        ) -> Vec<Sample<u64>> {
            let pairs = services.all.iter().zip(&all.services);
            let samples = pairs.map(|(service, counted)| {
                by_word(&[("service", &service.name)], words, cells(counted))
            });
            samples.flatten().collect()
        }
        let services = &*self.services;
        let classes = ("status_class", &STATUS_CLASSES[..]);
        let mut requests = each(services, all, classes, |service| &service.requests);
        requests.extend(by_word(&[("service", GATEWAY)], classes, &all.gateway_requests));
        requests.extend(by_word(&[("service", NOBODY)], classes, &all.undecided_requests));
        let outcomes = ("outcome", AttemptResult::WORDS);
        let attempts = each(services, all, outcomes, |service| &service.attempts);
        let reasons = ("reason", RetryReason::WORDS);
        let retries = each(services, all, reasons, |service| &service.retries);
        let now_ms = services.now_ms();
        let budgets = services.all.iter().map(|service| {
            let left = service.budget.balance(&service.budget_rules, now_ms);
            (labels(&[("service", &service.name)]), left)
        });
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
                name: "orchestrator_retry_budget_left",
                help: "Retries that the budget of a service is good for now.",
                samples: Samples::Gauge(budgets.collect()),
            },
        ]
    }

    /// Every limit, those that never bit too.
    fn of_limits(&self, all: &Totals) -> Family {
        let hit = |of: Option<(&'static str, &str)>, (key, effect), count| {
            let mut all: Labels = labels(&[("limit", key), ("effect", effect)]);
            all.extend(of.map(|(label, value)| (label, value.to_owned())));
            (all, count)
        };
        let limits = Limit::WORDS.iter().zip(&all.limits.0);
        let mut samples: Vec<_> =
            limits.map(|(words, count)| hit(None, *words, count.get())).collect();
        for (service, counted) in self.services.all.iter().zip(&all.services) {
            let of = Some(("service", &*service.name));
            let limits = ServiceLimit::WORDS.iter().zip(&counted.limits.0);
            samples.extend(limits.map(|(words, count)| hit(of, *words, count.get())));
            let late = service.endpoints.iter().map(|it| it.checks_timed_out.load(Relaxed)).sum();
            samples.push(hit(of, ("health.timeout", "check_failed"), late));
        }
        for (kind, counted) in Kind::ALL.iter().zip(&all.policies) {
            let of = Some(("policy", kind.name()));
            let faults = FaultReason::ALL.iter().zip(&counted.faults.0);
            samples.extend(
                faults.filter_map(|(fault, count)| Some(hit(of, fault.limit()?, count.get()))),
            );
            samples.extend(rollouts::limits(&self.rollouts, *kind));
        }
        Family {
            name: "orchestrator_limit_hits",
            help: "How often a limit was reached, by its key in the configuration and what came of \
                   it.",
            samples: Samples::Counter(samples),
        }
    }

    fn of_policies(&self, all: &Totals) -> Vec<Family> {
        let policies = || Kind::ALL.iter().map(|kind| kind.name()).zip(&all.policies);
        let calls = policies()
            .map(|(name, counted)| (labels(&[("policy", name)]), counted.decisions.buckets.sum()));
        let faults = policies().flat_map(|(name, counted)| {
            by_word(&[("policy", name)], ("reason", FaultReason::WORDS), &counted.faults)
        });
        let decisions = policies().map(|(name, counted)| {
            let shown = Distribution::of(&counted.decisions, &DECISION_BOUNDS, 1e9);
            (labels(&[("policy", name)]), shown)
        });
        let fallbacks = policies()
            .map(|(name, counted)| (labels(&[("policy", name)]), counted.fallbacks.get()));
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
                name: "orchestrator_policy_decision",
                help: "How long a policy took to decide.",
                samples: Samples::Histogram(Unit::Seconds, decisions.collect()),
            },
            Family {
                name: "orchestrator_policy_fallback_decisions",
                help: "Decisions that the last good version was asked for, since the active one had \
                       failed.",
                samples: Samples::Counter(fallbacks.collect()),
            },
        ]
    }

    fn of_logs(&self, all: &Totals) -> Vec<Family> {
        vec![
            Family {
                name: "orchestrator_access_log_dropped",
                help: "Lines of the access log that were dropped because its reader is too slow.",
                samples: Samples::Count(self.access_dropped.load(Relaxed)),
            },
            Family {
                name: "orchestrator_log_suppressed",
                help: "Lines of the gateway's own log that were left out because there were too \
                       many.",
                samples: Samples::Count(all.log_suppressed.get()),
            },
        ]
    }
}

fn of_connections(all: &Totals) -> Vec<Family> {
    let (closed, opened) = (all.connections_closed.get(), all.connections_opened.get());
    let (over, begun) = (all.tunnels_closed.get(), all.tunnels_opened.get());
    vec![
        Family {
            name: "orchestrator_connections_open",
            help: "Connections from clients that are open now.",
            samples: Samples::Level(opened.saturating_sub(closed) as f64),
        },
        Family {
            name: "orchestrator_connections",
            help: "Connections from clients.",
            samples: Samples::Count(opened),
        },
        Family {
            name: "orchestrator_tunnels_open",
            help: "Connections that have switched protocols and are open now.",
            samples: Samples::Level(begun.saturating_sub(over) as f64),
        },
        Family {
            name: "orchestrator_tunnels",
            help: "Connections that have switched protocols.",
            samples: Samples::Count(begun),
        },
        Family {
            name: "orchestrator_unparsed_requests",
            help: "Requests that could not be parsed and got a bare 4xx.",
            samples: Samples::Count(all.unparsed_requests.get()),
        },
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
            circuits.push((labels(&pair), state.expect("ALL has every circuit") as f64));
            for (to, count) in Circuit::ALL.iter().zip(&endpoint.transitions) {
                let labels = labels(&[pair[0], pair[1], ("to", to.as_str())]);
                transitions.push((labels, count.load(Relaxed)));
            }
            up.extend(healthy(endpoint).map(|healthy| (labels(&pair), f64::from(healthy))));
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
