//! What is counted, and how it is shown at `/metrics`.
//!
//! Each worker has [`Counters`] of its own and is the only one to write them: counting is a load
//! and a store of a word that no other worker writes, with no lookup and no text. When somebody
//! asks, [`encode`] adds them up and puts the state of the services beside them.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::policy::Kind;

mod exposition;
#[cfg(test)]
mod tests;

pub use exposition::{CONTENT_TYPE, encode};

/// An enum whose values are counted apart, and the word for each in its label.
macro_rules! labelled {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $value,)+ }

        impl $name {
            /// The label of each value, in the order of the values.
            const WORDS: &'static [&'static str] = &[$($word),+];
        }
    };
}

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

labelled! {
    /// What came of one attempt at one endpoint.
    AttemptResult {
        /// A response's head, of any status.
        Response = "response",
        ConnectFailed = "connect_failed",
        ConnectionLost = "connection_lost",
        Timeout = "timeout",
        /// The client broke off, or its body could not be read.
        Client = "client",
    }
}

labelled! {
    /// What made an attempt be tried again.
    RetryReason {
        ConnectFailed = "connect_failed",
        ConnectionLost = "connection_lost",
        Timeout = "timeout",
        /// The response's status.
        Status = "status",
    }
}

labelled! {
    /// Which limit of the host refused a retry.
    RetryRefusal {
        /// `retry_attempts_max`; the policy was not asked.
        Ceiling = "ceiling",
        /// `request_timeout` would be over before the next attempt.
        Deadline = "deadline",
        /// The service's retry budget.
        Budget = "budget",
        /// The policy granted the service's `Retry-After`, and `retry_delay_max` is shorter.
        RetryAfter = "retry_after",
    }
}

labelled! {
    /// Why a policy gave no usable decision: [`crate::policy::Fault`] without its text.
    FaultReason {
        Trap = "trap",
        Timeout = "timeout",
        WallClock = "wall_clock",
        Invalid = "invalid",
        CannotDecide = "cannot_decide",
        NoInstance = "no_instance",
    }
}

labelled! {
    /// Which limit ended a client's connection.
    Cause {
        /// `keep_alive_timeout`: no next request came.
        KeepAlive = "keep_alive",
        /// `header_timeout`: a request's head took too long.
        Header = "header",
        /// `idle_timeout`: the client took no byte of its response.
        WriteStall = "write_stall",
        /// `body_rate_min`: the client reads its response too slowly.
        SlowReader = "slow_reader",
    }
}

/// The classes of a response's status. `other` is for what a service makes up beyond 599.
const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

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

const KINDS: [Kind; 2] = [Kind::Routing, Kind::Retry];

/// The counters of one worker, which alone writes them.
//
// Cache lines of its own: the next worker's counters change as often as these.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    services: Box<[OfService]>,
    gateway_requests: Cells<{ STATUS_CLASSES.len() }>,
    undecided_requests: Cells<{ STATUS_CLASSES.len() }>,
    policies: [OfPolicy; KINDS.len()],
    connections_opened: Cell,
    connections_closed: Cell,
    connections_refused: Cell,
    connections_cut: Cells<{ Cause::WORDS.len() }>,
    unparsed_requests: Cell,
    log_suppressed: Cell,
}

#[derive(Debug, Default)]
struct OfService {
    requests: Cells<{ STATUS_CLASSES.len() }>,
    attempts: Cells<{ AttemptResult::WORDS.len() }>,
    retries: Cells<{ RetryReason::WORDS.len() }>,
    retries_refused: Cells<{ RetryRefusal::WORDS.len() }>,
}

#[derive(Debug, Default)]
struct OfPolicy {
    decisions: Cells<{ DECISION_BOUNDS.len() + 1 }>,
    nanoseconds: Cell,
    faults: Cells<{ FaultReason::WORDS.len() }>,
}

impl Counters {
    /// For a worker of a generation with so many services.
    pub fn new(services: usize) -> Arc<Counters> {
        Arc::new(Counters {
            services: (0..services).map(|_| OfService::default()).collect(),
            gateway_requests: Cells::default(),
            undecided_requests: Cells::default(),
            policies: array::from_fn(|_| OfPolicy::default()),
            connections_opened: Cell::default(),
            connections_closed: Cell::default(),
            connections_refused: Cell::default(),
            connections_cut: Cells::default(),
            unparsed_requests: Cell::default(),
            log_suppressed: Cell::default(),
        })
    }

    /// A request has ended, with the status that the access log has for it.
    pub fn request(&self, served: Served, status: u16) {
        let requests = match served {
            Served::Service(service) => &self.services[service].requests,
            Served::Gateway => &self.gateway_requests,
            Served::None => &self.undecided_requests,
        };
        let class = usize::from(status / 100);
        requests.add(if class < STATUS_CLASSES.len() { class } else { 0 });
    }

    pub fn attempt(&self, service: usize, result: AttemptResult) {
        self.services[service].attempts.add(result as usize);
    }

    pub fn retry(&self, service: usize, reason: RetryReason) {
        self.services[service].retries.add(reason as usize);
    }

    /// The host allowed no retry where there was something to retry.
    pub fn retry_refused(&self, service: usize, refusal: RetryRefusal) {
        self.services[service].retries_refused.add(refusal as usize);
    }

    /// A policy was asked and answered, or did not, after so long.
    pub fn decision(&self, kind: Kind, took: Duration, fault: Option<FaultReason>) {
        let policy = &self.policies[match kind {
            Kind::Routing => 0,
            Kind::Retry => 1,
        }];
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // A bucket contains its bound.
        policy.decisions.add(DECISION_BOUNDS.partition_point(|bound| *bound < nanoseconds));
        policy.nanoseconds.add(nanoseconds);
        if let Some(fault) = fault {
            policy.faults.add(fault as usize);
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

    /// hyper answered by itself: what arrived is no request.
    pub fn unparsed_request(&self) {
        self.unparsed_requests.add(1);
    }

    /// A limit ended a client's connection.
    pub fn cut(&self, cause: Cause) {
        self.connections_cut.add(cause as usize);
    }

    /// A line of the gateway's own log was left out, because there were too many like it.
    pub fn log_suppressed(&self) {
        self.log_suppressed.add(1);
    }

    /// Adds another worker's counts to these.
    fn absorb(&self, worker: &Counters) {
        for (sum, of) in self.services.iter().zip(&worker.services) {
            sum.requests.absorb(&of.requests);
            sum.attempts.absorb(&of.attempts);
            sum.retries.absorb(&of.retries);
            sum.retries_refused.absorb(&of.retries_refused);
        }
        self.gateway_requests.absorb(&worker.gateway_requests);
        self.undecided_requests.absorb(&worker.undecided_requests);
        for (sum, of) in self.policies.iter().zip(&worker.policies) {
            sum.decisions.absorb(&of.decisions);
            sum.nanoseconds.add(of.nanoseconds.get());
            sum.faults.absorb(&of.faults);
        }
        // Closed before opened, so that seldom more seem closed than were opened.
        self.connections_closed.add(worker.connections_closed.get());
        self.connections_opened.add(worker.connections_opened.get());
        self.connections_refused.add(worker.connections_refused.get());
        self.connections_cut.absorb(&worker.connections_cut);
        self.unparsed_requests.add(worker.unparsed_requests.get());
        self.log_suppressed.add(worker.log_suppressed.get());
    }
}

/// A counter with one writer, so that it needs no locked instruction. It wraps after centuries.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Cell {
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
struct Cells<const N: usize>([Cell; N]);

impl<const N: usize> Cells<N> {
    fn add(&self, at: usize) {
        self.0[at].add(1);
    }

    fn absorb(&self, others: &Cells<N>) {
        for (sum, other) in self.0.iter().zip(&others.0) {
            sum.add(other.get());
        }
    }
}

impl<const N: usize> Default for Cells<N> {
    fn default() -> Self {
        Cells(array::from_fn(|_| Cell::default()))
    }
}
