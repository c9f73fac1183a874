//! What is counted, and how it is shown at `/metrics`.
//!
//! Each worker has [`Counters`] of its own and is the only one to write them: counting is a load
//! and a store of a word that no other worker writes, with no lock and no text. When somebody asks,
//! [`Metrics`] adds them up and puts the state of the services beside them.
//!
//! Labels are bounded: services, endpoints and policies are those of the configuration, methods,
//! reasons and limits those of `metrics/words.rs`; routes and statuses, which policies and services
//! make up, are bounded by `metrics/series.rs`.

use std::array;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Kind;
use cells::{Cell, Cells, Histogram};
use keys::{ClientKey, ServerKey};
use series::{Names, Series};

mod cells;
mod exposition;
mod keys;
mod series;
#[cfg(test)]
mod tests;
mod words;

pub use exposition::{Format, Metrics};
pub use words::{AttemptResult, FaultReason, Limit, Method, RetryReason, ServiceLimit, Why};

/// Who made the response that a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The request was for this service, whoever made the response in the end.
    Service(usize),
    /// One of the gateway's own pages.
    Gateway,
    /// Nobody was chosen: no route, a policy's own answer, a request that is not valid.
    None,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub served: Served,
    pub method: Method,
    /// None: the client left before there was a response.
    pub status: Option<u16>,
    pub route: Option<&'a str>,
    pub why: Why,
    pub took: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// An attempt that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Attempted {
    pub service: usize,
    pub endpoint: usize,
    pub method: Method,
    pub result: AttemptResult,
    /// The response's status.
    pub status: Option<u16>,
    /// [`Why::Done`] where there was a response.
    pub why: Why,
    /// Until the response's head, or the failure.
    pub took: Duration,
}

/// The classes of a response's status. `other` is for what a service makes up beyond 599.
const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The class of a request whose client left before there was a response.
const NO_RESPONSE_CLASS: usize = 4;

/// The buckets of a decision's duration, in nanoseconds; one more is for what is longer.
const DECISION_BOUNDS: [u64; 16] = {
    const US: u64 = 1000;
    const MS: u64 = 1000 * US;
    [
        US,
        2 * US,
        5 * US,
        10 * US,
        20 * US,
        50 * US,
        100 * US,
        200 * US,
        500 * US,
        MS,
        2 * MS,
        5 * MS,
        10 * MS,
        20 * MS,
        50 * MS,
        100 * MS,
    ]
};

/// The buckets of a body's size, in bytes; one more is for what is larger.
const SIZE_BOUNDS: [u64; 8] =
    [0, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

type Sizes = Histogram<{ SIZE_BOUNDS.len() + 1 }>;

/// The counters of one worker, which alone writes them.
//
// Cache lines of its own: the next worker's counters change as often as these.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    totals: Totals,
    /// By [`ServerKey`].
    requests: Series,
    /// By [`ClientKey`].
    attempts: Series,
    routes: Names,
}

/// What has a fixed number of labels.
#[derive(Debug)]
struct Totals {
    services: Box<[OfService]>,
    gateway_requests: Cells<{ STATUS_CLASSES.len() }>,
    undecided_requests: Cells<{ STATUS_CLASSES.len() }>,
    requests_begun: Cells<{ Method::ALL.len() }>,
    requests_ended: Cells<{ Method::ALL.len() }>,
    policies: [OfPolicy; Kind::ALL.len()],
    limits: Cells<{ Limit::WORDS.len() }>,
    connections_opened: Cell,
    connections_closed: Cell,
    tunnels_opened: Cell,
    tunnels_closed: Cell,
    unparsed_requests: Cell,
    log_suppressed: Cell,
}

#[derive(Debug, Default)]
struct OfService {
    requests: Cells<{ STATUS_CLASSES.len() }>,
    attempts: Cells<{ AttemptResult::WORDS.len() }>,
    retries: Cells<{ RetryReason::WORDS.len() }>,
    limits: Cells<{ ServiceLimit::WORDS.len() }>,
    request_bodies: Sizes,
    response_bodies: Sizes,
}

#[derive(Debug, Default)]
struct OfPolicy {
    decisions: Histogram<{ DECISION_BOUNDS.len() + 1 }>,
    faults: Cells<{ FaultReason::WORDS.len() }>,
    fallbacks: Cell,
}

impl Counters {
    /// For a worker of a generation with so many services.
    pub fn new(services: usize) -> Arc<Counters> {
        Arc::new(Counters {
            totals: Totals::new(services),
            requests: Series::new(),
            attempts: Series::new(),
            routes: Names::new(),
        })
    }

    /// A request's head has arrived.
    pub fn request_begun(&self, method: Method) {
        self.totals.requests_begun.add(method as usize);
    }

    /// Every request that has begun ends, once.
    pub fn request_ended(&self, ended: &Ended<'_>) {
        let totals = &self.totals;
        totals.requests_ended.add(ended.method as usize);
        let class = ended.status.map_or(NO_RESPONSE_CLASS, |status| usize::from(status / 100));
        let class = if class < STATUS_CLASSES.len() { class } else { 0 };
        match ended.served {
            Served::Service(service) => {
                let service = &totals.services[service];
                service.requests.add(class);
                service.request_bodies.observe(&SIZE_BOUNDS, ended.bytes_in);
                service.response_bodies.observe(&SIZE_BOUNDS, ended.bytes_out);
            }
            Served::Gateway => totals.gateway_requests.add(class),
            Served::None => totals.undecided_requests.add(class),
        }
        let key = ServerKey {
            served: ended.served,
            method: ended.method,
            status: ended.status,
            why: ended.why,
            route: self.routes.number(ended.route),
        };
        self.requests.observe(key.pack(), nanoseconds(ended.took));
        match (ended.why, ended.served) {
            (Why::DrainTimeout, _) => self.limit(Limit::Drain),
            (Why::TunnelIdle, _) => self.limit(Limit::TunnelIdle),
            (Why::BodyTooLarge, Served::Service(service)) => {
                self.service_limit(service, ServiceLimit::BodyBytes);
            }
            (Why::ClientSlow, Served::Service(service)) => {
                self.service_limit(service, ServiceLimit::ClientSlow);
            }
            (Why::UpstreamIdle, Served::Service(service)) => {
                self.service_limit(service, ServiceLimit::ServiceSentNothing);
            }
            (Why::CircuitOpen, Served::Service(service)) => {
                self.service_limit(service, ServiceLimit::CircuitOpen);
            }
            _ => {}
        }
    }

    /// An attempt has ended, if only because the client left.
    pub fn attempted(&self, attempted: &Attempted) {
        let &Attempted { service, endpoint, method, result, status, why, took } = attempted;
        self.totals.services[service].attempts.add(result as usize);
        let key = ClientKey { service, endpoint, method, status, why };
        self.attempts.observe(key.pack(), nanoseconds(took));
    }

    pub fn retry(&self, service: usize, reason: RetryReason) {
        self.totals.services[service].retries.add(reason as usize);
    }

    /// A policy was asked and answered, or did not, after so long.
    pub fn decision(&self, kind: Kind, took: Duration, fault: Option<FaultReason>) {
        let policy = &self.totals.policies[kind as usize];
        policy.decisions.observe(&DECISION_BOUNDS, nanoseconds(took));
        if let Some(fault) = fault {
            policy.faults.add(fault as usize);
        }
    }

    /// A decision was made by the last good version, since the active one had failed.
    pub fn fell_back(&self, kind: Kind) {
        self.totals.policies[kind as usize].fallbacks.add(1);
    }

    /// A limit bit that is nobody's in particular.
    pub fn limit(&self, limit: Limit) {
        self.totals.limits.add(limit as usize);
    }

    /// A limit bit that belongs to a service.
    pub fn service_limit(&self, service: usize, limit: ServiceLimit) {
        self.totals.services[service].limits.add(limit as usize);
    }

    pub fn connection_opened(&self) {
        self.totals.connections_opened.add(1);
    }

    pub fn connection_closed(&self) {
        self.totals.connections_closed.add(1);
    }

    /// A connection became a tunnel, after a 101.
    pub fn tunnel_opened(&self) {
        self.totals.tunnels_opened.add(1);
    }

    pub fn tunnel_closed(&self) {
        self.totals.tunnels_closed.add(1);
    }

    /// What arrived is no request.
    pub fn unparsed_request(&self) {
        self.totals.unparsed_requests.add(1);
    }

    /// A line of the gateway's own log was left out, because there were too many like it.
    pub fn log_suppressed(&self) {
        self.totals.log_suppressed.add(1);
    }
}

impl Totals {
    fn new(services: usize) -> Totals {
        Totals {
            services: (0..services).map(|_| OfService::default()).collect(),
            gateway_requests: Cells::default(),
            undecided_requests: Cells::default(),
            requests_begun: Cells::default(),
            requests_ended: Cells::default(),
            policies: array::from_fn(|_| OfPolicy::default()),
            limits: Cells::default(),
            connections_opened: Cell::default(),
            connections_closed: Cell::default(),
            tunnels_opened: Cell::default(),
            tunnels_closed: Cell::default(),
            unparsed_requests: Cell::default(),
            log_suppressed: Cell::default(),
        }
    }

    /// Adds another worker's counts to these.
    fn absorb(&self, worker: &Totals) {
        for (sum, of) in self.services.iter().zip(&worker.services) {
            sum.requests.absorb(&of.requests);
            sum.attempts.absorb(&of.attempts);
            sum.retries.absorb(&of.retries);
            sum.limits.absorb(&of.limits);
            sum.request_bodies.absorb(&of.request_bodies);
            sum.response_bodies.absorb(&of.response_bodies);
        }
        self.gateway_requests.absorb(&worker.gateway_requests);
        self.undecided_requests.absorb(&worker.undecided_requests);
        for (sum, of) in self.policies.iter().zip(&worker.policies) {
            sum.decisions.absorb(&of.decisions);
            sum.faults.absorb(&of.faults);
            sum.fallbacks.add(of.fallbacks.get());
        }
        self.limits.absorb(&worker.limits);
        // The end before the beginning, so that seldom more seem over than had begun.
        self.requests_ended.absorb(&worker.requests_ended);
        self.requests_begun.absorb(&worker.requests_begun);
        self.connections_closed.add(worker.connections_closed.get());
        self.connections_opened.add(worker.connections_opened.get());
        self.tunnels_closed.add(worker.tunnels_closed.get());
        self.tunnels_opened.add(worker.tunnels_opened.get());
        self.unparsed_requests.add(worker.unparsed_requests.get());
        self.log_suppressed.add(worker.log_suppressed.get());
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
