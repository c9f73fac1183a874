//! One endpoint: its address, its circuit, what checks and traffic know of it, and how it stands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use http::HeaderValue;

use super::balance::stable_hash;
use super::load::RecentFaults;
use crate::breaker::{self, Breaker, Circuit, Source};
use crate::config;
use crate::policy::Health;

/// One address of a service; or a name, of which any address will do. With `resolve = "all"` a place
/// for one address of a name, which may be empty: see [`Service::found`](super::Service::found).
#[derive(Debug)]
pub struct Endpoint {
    /// The entry of the configuration that it comes from.
    pub config: config::Endpoint,
    /// For the `Host` header.
    pub authority: HeaderValue,
    /// What is connected to; empty where the name cannot be resolved, or the address is gone.
    pub addresses: ArcSwap<Vec<SocketAddr>>,
    /// With `resolve = "all"` the address whose place this is, also after it left.
    pub(super) place_of: ArcSwapOption<SocketAddr>,
    incarnation: AtomicU64,
    /// See [`Endpoint::url`].
    url: ArcSwap<String>,
    /// For consistent hashing: what the endpoint is, in a word.
    identity: AtomicU64,
    pub breaker: Breaker,
    /// Requests whose response has not ended.
    pub in_flight: AtomicU32,
    pub faults: RecentFaults,
    /// When it came back, on the services' clock; 0 where it never was away.
    pub(super) returned_ms: AtomicU64,
    /// What the monitor knows; replaced whole after each check.
    pub checks: ArcSwap<Checks>,
    /// What opened the circuit the last time.
    pub opened: ArcSwapOption<Opened>,
    /// What closed it the last time, and when.
    pub(super) closed: ArcSwapOption<(Source, SystemTime)>,
    /// How often the circuit came to be closed, half-open and open, in the order of
    /// [`Circuit::ALL`].
    pub transitions: [AtomicU64; 3],
    /// Checks that took `health.timeout`.
    pub checks_timed_out: AtomicU64,
}

/// Why a circuit opened.
#[derive(Debug, Clone)]
pub struct Opened {
    pub by: Source,
    /// What went wrong the last time, in words.
    pub cause: String,
}

/// The monitor's view of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// None before the first check.
    pub last: Option<Check>,
    pub consecutive_failures: u32,
    /// Over the history that is kept, in percent; 0 before the first check.
    pub uptime_percentage: f64,
}

/// One check of one endpoint.
#[derive(Debug, Clone)]
pub struct Check {
    /// When it ended.
    pub at: SystemTime,
    pub took: Duration,
    /// None: healthy.
    pub error: Option<String>,
    /// The service's own JSON object, else empty.
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl Check {
    pub fn healthy(&self) -> bool {
        self.error.is_none()
    }
}

impl Endpoint {
    pub(super) fn new(config: &config::Endpoint) -> Endpoint {
        Endpoint {
            authority: HeaderValue::from_str(&config.authority)
                .expect("the configuration accepts only authorities"),
            addresses: ArcSwap::default(),
            place_of: ArcSwapOption::empty(),
            incarnation: AtomicU64::new(0),
            url: ArcSwap::from_pointee(config.url.clone()),
            identity: AtomicU64::new(stable_hash(config.authority.as_bytes())),
            breaker: Breaker::new(),
            in_flight: AtomicU32::new(0),
            faults: RecentFaults::default(),
            returned_ms: AtomicU64::new(0),
            checks: ArcSwap::default(),
            opened: ArcSwapOption::empty(),
            closed: ArcSwapOption::empty(),
            transitions: Default::default(),
            checks_timed_out: AtomicU64::new(0),
            config: config.clone(),
        }
    }

    /// What it is called in logs, metrics and pages: its address as configured, or, where each address
    /// of a name is an endpoint, that address.
    pub fn url(&self) -> Guard<Arc<String>> {
        self.url.load()
    }

    /// Another number for each address whose place this was.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Relaxed)
    }

    pub(super) fn identity(&self) -> u64 {
        self.identity.load(Relaxed)
    }

    /// For how long it has been back.
    pub(super) fn age_ms(&self, now_ms: u64) -> u64 {
        match self.returned_ms.load(Relaxed) {
            0 => u64::MAX,
            returned_ms => now_ms.saturating_sub(returned_ms),
        }
    }

    /// Becomes the place of another address, of which nothing is known yet.
    pub(super) fn becomes(&self, address: SocketAddr) {
        self.incarnation.fetch_add(1, Relaxed);
        self.place_of.store(Some(Arc::new(address)));
        self.url.store(Arc::new(format!("http://{address}")));
        self.identity.store(stable_hash(address.to_string().as_bytes()), Relaxed);
        self.breaker.reset();
        self.faults.forget();
        self.checks.store(Arc::default());
        self.opened.store(None);
        self.closed.store(None);
        for count in &self.transitions {
            count.store(0, Relaxed);
        }
    }

    pub fn circuit(&self, rules: &breaker::Rules, now_ms: u64) -> Circuit {
        self.breaker.circuit(rules, now_ms)
    }

    pub fn health(&self, circuit: Circuit) -> Health {
        self.standing(circuit).0
    }

    /// The one state that checks and traffic agree in, and which of them decided it.
    ///
    /// Unhealthy where the circuit is open, whoever opened it, or the last check failed; degraded
    /// where the circuit is half-open; unknown before the first check. A circuit that closed after a
    /// check that failed is the later word: the endpoint is healthy.
    pub fn standing(&self, circuit: Circuit) -> (Health, Option<Source>) {
        let opened_by = || self.opened.load().as_ref().map(|opened| opened.by);
        let checks = self.checks.load();
        match (circuit, checks.last.as_ref()) {
            (Circuit::Open, _) => (Health::Unhealthy, opened_by()),
            (_, None) => (Health::Unknown, None),
            (Circuit::HalfOpen, _) => (Health::Degraded, opened_by()),
            (Circuit::Closed, Some(check)) if check.healthy() => {
                (Health::Healthy, Some(Source::Check))
            }
            (Circuit::Closed, Some(check)) => match self.closed.load().as_deref() {
                Some((by, at)) if *at > check.at => (Health::Healthy, Some(*by)),
                _ => (Health::Unhealthy, Some(Source::Check)),
            },
        }
    }
}
