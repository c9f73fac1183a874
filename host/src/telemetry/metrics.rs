//! The metrics: counted by each worker for itself, added up when somebody asks.
//!
//! A worker's [`Counters`] are plain numbers that only it writes: to count is to load, add and
//! store, without a lock, a locked instruction, a lookup or a string. [`encode`] reads all of them,
//! and what others know at that moment ([`Snapshot`]), and writes OpenMetrics text.

use std::array;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::breaker::Circuit;

#[cfg(test)]
mod tests;

/// The `Content-Type` of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Declares an enum whose members are the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$member_doc])* $member,)+
        }

        impl $name {
            const TEXTS: &[&str] = &[$($text),+];
        }
    };
}

label! {
    /// Which policy decided.
    Policy {
        Routing => "routing",
        Retry => "retry",
    }
}

label! {
    /// What came of an attempt.
    AttemptResult {
        /// A response head, with whatever status.
        Response => "response",
        ConnectFailed => "connect_failed",
        ConnectionLost => "connection_lost",
        Timeout => "timeout",
        /// The client left, or broke off its body.
        Client => "client",
    }
}

label! {
    /// Which failure was retried.
    RetryReason {
        ConnectFailed => "connect_failed",
        ConnectionLost => "connection_lost",
        Timeout => "timeout",
        Status => "status",
    }
}

label! {
    /// Which limit refused a retry.
    RetryRefusal {
        /// `proxy.retry_attempts_max`.
        Ceiling => "ceiling",
        /// It would not fit into the time that is left.
        Deadline => "deadline",
        /// The service's retry budget is used up.
        Budget => "budget",
    }
}

label! {
    /// Why a decision of a policy was void.
    FaultReason {
        Trap => "trap",
        Timeout => "timeout",
        Invalid => "invalid",
        CannotDecide => "cannot_decide",
        NoInstance => "no_instance",
    }
}

label! {
    /// Which limit closed a client's connection.
    Cause {
        /// `limits.keep_alive_timeout`.
        KeepAlive => "keep_alive",
        /// `limits.header_timeout`.
        Header => "header",
        /// The client did not read for `proxy.idle_timeout`.
        WriteStall => "write_stall",
    }
}

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The service with this index, or the gateway in its place.
    Service(usize),
    /// The gateway: one of its own pages.
    Gateway,
    /// The request was answered before routing had decided on a service.
    None,
}

/// Upper bounds of the decision histogram, in nanoseconds: 1 µs to 100 ms.
const DECISION_BOUNDS_NS: [u64; 16] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
];

/// Responses by the first digit of their status, from 1 to 5.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What one worker counts. Only that worker may call the methods; everybody may read.
#[derive(Debug)]
pub struct Counters {
    services: Box<[ServiceCounters]>,
    gateway: [Counter; STATUS_CLASSES.len()],
    none: [Counter; STATUS_CLASSES.len()],
    policies: [PolicyCounters; Policy::TEXTS.len()],
    connections_opened: Counter,
    connections_closed: Counter,
    connections_refused: Counter,
    cuts: [Counter; Cause::TEXTS.len()],
    unparsed_requests: Counter,
    suppressed_logs: Counter,
}

#[derive(Debug, Default)]
struct ServiceCounters {
    requests: [Counter; STATUS_CLASSES.len()],
    attempts: [Counter; AttemptResult::TEXTS.len()],
    retries: [Counter; RetryReason::TEXTS.len()],
    refused: [Counter; RetryRefusal::TEXTS.len()],
}

#[derive(Debug, Default)]
struct PolicyCounters {
    /// By the first bound that is not exceeded; the last is for what exceeds all.
    decisions: [Counter; DECISION_BOUNDS_NS.len() + 1],
    nanoseconds: Counter,
    faults: [Counter; FaultReason::TEXTS.len()],
}

/// A number with one writer. Two would lose counts, and no more than that.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// For one worker, and so many services.
    pub fn new(services: usize) -> Arc<Self> {
        Arc::new(Self {
            services: (0..services).map(|_| ServiceCounters::default()).collect(),
            gateway: array::from_fn(|_| Counter::default()),
            none: array::from_fn(|_| Counter::default()),
            policies: array::from_fn(|_| PolicyCounters::default()),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            connections_refused: Counter::default(),
            cuts: array::from_fn(|_| Counter::default()),
            unparsed_requests: Counter::default(),
            suppressed_logs: Counter::default(),
        })
    }

    /// A request ended with this status.
    pub fn request(&self, served: Served, status: u16) {
        let requests = match served {
            Served::Service(service) => &self.services[service].requests,
            Served::Gateway => &self.gateway,
            Served::None => &self.none,
        };
        let class = usize::from(status / 100).clamp(1, STATUS_CLASSES.len()) - 1;
        requests[class].add(1);
    }

    pub fn attempt(&self, service: usize, result: AttemptResult) {
        self.services[service].attempts[result as usize].add(1);
    }

    pub fn retry(&self, service: usize, reason: RetryReason) {
        self.services[service].retries[reason as usize].add(1);
    }

    pub fn retry_refused(&self, service: usize, why: RetryRefusal) {
        self.services[service].refused[why as usize].add(1);
    }

    /// A policy was called, and this is what came of it.
    pub fn decision(&self, policy: Policy, took: Duration, fault: Option<FaultReason>) {
        let counters = &self.policies[policy as usize];
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // Nearly always one of the first: a search would take longer.
        let bucket = DECISION_BOUNDS_NS.iter().position(|&bound| nanoseconds <= bound);
        counters.decisions[bucket.unwrap_or(DECISION_BOUNDS_NS.len())].add(1);
        counters.nanoseconds.add(nanoseconds);
        if let Some(fault) = fault {
            counters.faults[fault as usize].add(1);
        }
    }

    pub fn connection_opened(&self) {
        self.connections_opened.add(1);
    }

    pub fn connection_closed(&self) {
        self.connections_closed.add(1);
    }

    /// `limits.connections` was reached.
    pub fn connection_refused(&self) {
        self.connections_refused.add(1);
    }

    /// A client's connection was closed by a limit.
    pub fn cut(&self, cause: Cause) {
        self.cuts[cause as usize].add(1);
    }

    /// hyper answered what it could not parse with a bare 4xx.
    pub fn unparsed_request(&self) {
        self.unparsed_requests.add(1);
    }

    /// A policy's fault was not logged, for there were too many.
    pub fn log_suppressed(&self) {
        self.suppressed_logs.add(1);
    }
}

/// What is known outside of the workers, at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// In the order of the indices that [`Counters`] counts by.
    pub services: Vec<ServiceSnapshot>,
    pub access_log_dropped: u64,
}

#[derive(Debug, Clone)]
pub struct ServiceSnapshot {
    pub name: String,
    pub endpoints: Vec<EndpointSnapshot>,
}

#[derive(Debug, Clone)]
pub struct EndpointSnapshot {
    pub url: String,
    pub circuit: Circuit,
    /// How often the circuit came to be in each state, in the order of [`Circuit::ALL`].
    pub transitions: [u64; Circuit::ALL.len()],
    /// What the last check said; none before the first.
    pub healthy: Option<bool>,
}

/// All metrics, as OpenMetrics text.
pub fn encode(workers: &[Arc<Counters>], snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("orchestrator");
    registry.register_collector(Box::new(Scrape { workers: workers.to_vec(), snapshot }));
    let mut text = String::with_capacity(16 << 10);
    text::encode(&mut text, &registry).expect("a String takes all that is written");
    text
}

/// One scrape.
#[derive(Debug)]
struct Scrape {
    workers: Vec<Arc<Counters>>,
    snapshot: Snapshot,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.policies(&mut encoder)?;
        self.connections(&mut encoder)?;
        self.endpoints(&mut encoder)?;
        let build = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
        gauges(&mut encoder, "build_info", "The version that runs: always 1", build)
    }
}

impl Scrape {
    /// The same counter of all workers.
    fn sum<'a>(&'a self, counter: impl Fn(&'a Counters) -> &'a Counter) -> u64 {
        self.workers.iter().fold(0, |sum, worker| sum.wrapping_add(counter(worker).get()))
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (gateway, none) = (self.free_name(GATEWAY), self.free_name(NONE));
        let own = STATUS_CLASSES.iter().enumerate().flat_map(|(at, &class)| {
            let labels = |service| [("service", service), ("status_class", class)];
            [
                (labels(gateway), self.sum(|worker| &worker.gateway[at])),
                (labels(none), self.sum(|worker| &worker.none[at])),
            ]
        });
        let served = self.by_service("status_class", &STATUS_CLASSES, |service| &service.requests);
        counters(
            encoder,
            "requests",
            "Requests by the service that was to answer: gateway for its own pages, none where \
             routing had not decided",
            served.chain(own),
        )?;
        let attempts =
            self.by_service("outcome", AttemptResult::TEXTS, |service| &service.attempts);
        counters(encoder, "attempts", "Attempts at endpoints, by what came of them", attempts)?;
        let retries = self.by_service("reason", RetryReason::TEXTS, |service| &service.retries);
        counters(encoder, "retries", "Retries, by the failure that was retried", retries)?;
        let refused = self.by_service("reason", RetryRefusal::TEXTS, |service| &service.refused);
        let help = "Failed attempts that were not retried because of a limit";
        counters(encoder, "retry_refused", help, refused)
    }

    fn policies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let policies = || Policy::TEXTS.iter().enumerate();
        let buckets = |at: usize| -> [u64; DECISION_BOUNDS_NS.len() + 1] {
            array::from_fn(|bucket| self.sum(|worker| &worker.policies[at].decisions[bucket]))
        };
        let calls = policies().map(|(at, &policy)| {
            let calls = buckets(at).iter().sum();
            ([("policy", policy)], calls)
        });
        counters(encoder, "policy_calls", "Decisions that were asked of a policy", calls)?;
        let faults = policies().flat_map(|(at, &policy)| {
            FaultReason::TEXTS.iter().enumerate().map(move |(fault, &reason)| {
                let labels = [("policy", policy), ("reason", reason)];
                (labels, self.sum(|worker| &worker.policies[at].faults[fault]))
            })
        });
        counters(encoder, "policy_faults", "Decisions of a policy that were void", faults)?;

        let name = "policy_decision";
        let help = "How long a policy took to decide";
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (at, &policy) in policies() {
            let counts = buckets(at);
            let bounds = DECISION_BOUNDS_NS.map(|bound| bound as f64 / 1e9);
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let histogram: Vec<_> = bounds.zip(counts).collect();
            let seconds = self.sum(|worker| &worker.policies[at].nanoseconds) as f64 / 1e9;
            let count = counts.iter().sum();
            let labels = [("policy", policy)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(seconds, count, &histogram, None)?;
        }
        let suppressed = self.sum(|worker| &worker.suppressed_logs);
        let help = "Faults of policies that were too many to be logged";
        counter(encoder, "policy_fault_logs_suppressed", help, suppressed)
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // Closed ones first, for a connection may open and close in between.
        let closed = self.sum(|worker| &worker.connections_closed);
        let opened = self.sum(|worker| &worker.connections_opened);
        let open = i64::try_from(opened.saturating_sub(closed)).unwrap_or(i64::MAX);
        let help = "Clients' connections that are open";
        encoder
            .encode_descriptor("connections_open", help, None, MetricType::Gauge)?
            .encode_gauge(&open)?;
        counter(encoder, "connections", "Clients' connections that were accepted", opened)?;
        let refused = self.sum(|worker| &worker.connections_refused);
        let help = "Clients' connections beyond limits.connections";
        counter(encoder, "connections_refused", help, refused)?;
        let cuts = Cause::TEXTS.iter().enumerate();
        let cuts =
            cuts.map(|(at, &cause)| ([("cause", cause)], self.sum(|worker| &worker.cuts[at])));
        let help = "Clients' connections that a limit closed";
        counters(encoder, "connections_cut", help, cuts)?;
        let unparsed = self.sum(|worker| &worker.unparsed_requests);
        let help = "What clients sent that is not HTTP: answered with a bare 4xx";
        counter(encoder, "unparsed_requests", help, unparsed)?;
        let help = "Lines of the access log that were not written";
        counter(encoder, "access_log_dropped", help, self.snapshot.access_log_dropped)
    }

    fn endpoints(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = self.by_endpoint().map(|(labels, endpoint)| {
            let at = Circuit::ALL.iter().position(|&circuit| circuit == endpoint.circuit);
            (labels, at.map_or(-1, |at| at as i64))
        });
        let help = "The endpoint's circuit: 0 closed, 1 half-open, 2 open";
        gauges(encoder, "circuit_state", help, states)?;
        let transitions = self.by_endpoint().flat_map(|(labels, endpoint)| {
            let [service, url] = labels;
            Circuit::ALL
                .into_iter()
                .zip(endpoint.transitions)
                .map(move |(to, count)| ([service, url, ("to", to.as_str())], count))
        });
        let help = "How often the endpoint's circuit came to be in a state";
        counters(encoder, "circuit_transitions", help, transitions)?;
        let health = self.by_endpoint().filter_map(|(labels, endpoint)| {
            endpoint.healthy.map(|healthy| (labels, i64::from(healthy)))
        });
        gauges(encoder, "health_up", "Whether the endpoint passed its last check", health)
    }

    fn by_endpoint(&self) -> impl Iterator<Item = ([(&str, &str); 2], &EndpointSnapshot)> {
        self.snapshot.services.iter().flat_map(|service| {
            service.endpoints.iter().map(|endpoint| {
                ([("service", &*service.name), ("endpoint", &*endpoint.url)], endpoint)
            })
        })
    }

    /// The first of two names that no service has. A scraper refuses a text that has a series twice,
    /// and no service can have a name with parentheses.
    fn free_name(&self, [name, otherwise]: [&'static str; 2]) -> &'static str {
        let taken = self.snapshot.services.iter().any(|service| service.name == name);
        if taken { otherwise } else { name }
    }

    /// A counter of each service by a label.
    fn by_service<'a, const N: usize>(
        &'a self,
        label: &'static str,
        texts: &'static [&'static str],
        counter: impl Fn(&'a ServiceCounters) -> &'a [Counter; N] + Copy + 'a,
    ) -> impl Iterator<Item = ([(&'a str, &'a str); 2], u64)> {
        self.snapshot.services.iter().enumerate().flat_map(move |(service, snapshot)| {
            texts.iter().enumerate().map(move |(at, &text)| {
                let labels = [("service", &*snapshot.name), (label, text)];
                (labels, self.sum(|worker| &counter(&worker.services[service])[at]))
            })
        })
    }
}

/// The `service` of requests that no service was to answer.
const GATEWAY: [&str; 2] = ["gateway", "(gateway)"];
const NONE: [&str; 2] = ["none", "(none)"];

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

/// A family of counters. Its name gets the suffix `_total`.
fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (impl EncodeLabelSet, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        let mut metric = family.encode_family(&labels)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (impl EncodeLabelSet, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
