//! The services behind the gateway: names, endpoints, and what is known about them.
//!
//! Everything here is shared by all workers and the monitor, and made of atomics and snapshots.

pub mod balance;
pub mod budget;
pub(crate) mod pool;
pub(crate) mod resolve;

use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;

use crate::breaker::{self, Breaker, Circuit, Transition};
use crate::config;
use crate::policy::{self, ServiceState};
use budget::{Budget, BudgetRules};

/// A named upstream.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    pub endpoints: Vec<Endpoint>,
    pub budget: Budget,
    pub budget_rules: BudgetRules,
}

/// One address of a service.
#[derive(Debug)]
pub struct Endpoint {
    pub config: config::Endpoint,
    /// For the `Host` header.
    pub authority: HeaderValue,
    /// What the name stands for now; empty where it cannot be resolved.
    pub addresses: ArcSwap<Vec<SocketAddr>>,
    pub breaker: Breaker,
    /// Requests whose response has not ended.
    pub in_flight: AtomicU32,
    /// What the monitor knows; replaced whole after each check.
    pub checks: ArcSwap<Checks>,
    /// What opened the circuit the last time.
    pub last_error: ArcSwapOption<String>,
    /// How often the circuit came to be closed, half-open and open, in the order of
    /// [`Circuit::ALL`].
    pub transitions: [AtomicU64; 3],
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
    pub at: std::time::SystemTime,
    pub took: std::time::Duration,
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

/// All services of a generation, in the configuration's order.
#[derive(Debug)]
pub struct Services {
    pub all: Vec<Service>,
    pub rules: breaker::Rules,
    clock: std::time::Instant,
}

impl Services {
    pub fn new(config: &config::Config) -> Arc<Services> {
        let all = config.services.iter().map(|service| Service::new(service, &config.proxy));
        Arc::new(Services {
            all: all.collect(),
            rules: breaker::Rules {
                failure_threshold: config.breaker.failure_threshold,
                success_threshold: config.breaker.success_threshold,
                open_for: config.breaker.open_for,
            },
            clock: std::time::Instant::now(),
        })
    }

    /// The time that breakers and budgets run on: milliseconds since this generation began.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(std::time::Instant::now())
    }

    /// The same clock, for a moment that is known already.
    pub fn ms_at(&self, now: std::time::Instant) -> u64 {
        now.saturating_duration_since(self.clock).as_millis() as u64
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|service| service.name == name)
    }

    /// Notes a move of a circuit: in the log, in the metrics and for the pages.
    pub fn circuit_changed(
        &self,
        service: usize,
        endpoint: usize,
        change: Transition,
        cause: Option<String>,
    ) {
        let service = &self.all[service];
        let endpoint = &service.endpoints[endpoint];
        let to = Circuit::ALL.iter().position(|circuit| *circuit == change.to);
        endpoint.transitions[to.expect("ALL has every circuit")].fetch_add(1, Ordering::Relaxed);
        let (from, to) = (change.from.as_str(), change.to.as_str());
        let (name, url) = (&*service.name, &*endpoint.config.url);
        match cause {
            Some(cause) => {
                tracing::warn!(service = name, endpoint = url, from, to, cause, "circuit changed");
                endpoint.last_error.store(Some(Arc::new(cause)));
            }
            None => tracing::info!(service = name, endpoint = url, from, to, "circuit changed"),
        }
    }

    /// How a service stands, for `exchange.service`.
    pub fn state(&self, service: usize) -> ServiceState {
        self.all[service].state(&self.rules, self.now_ms())
    }
}

impl Service {
    fn new(config: &config::Service, proxy: &config::Proxy) -> Service {
        let endpoints = config.endpoints.iter().map(|endpoint| Endpoint {
            authority: HeaderValue::from_str(&endpoint.authority)
                .expect("the configuration accepts only authorities"),
            addresses: ArcSwap::default(),
            breaker: Breaker::new(),
            in_flight: AtomicU32::new(0),
            checks: ArcSwap::default(),
            last_error: ArcSwapOption::empty(),
            transitions: Default::default(),
            config: endpoint.clone(),
        });
        let budget_rules = BudgetRules {
            ratio: proxy.retry_budget_ratio,
            min_per_s: proxy.retry_budget_min_per_s,
        };
        Service {
            name: config.name.clone(),
            endpoints: endpoints.collect(),
            budget: Budget::new(&budget_rules, 0),
            budget_rules,
        }
    }

    /// Closed if any endpoint's circuit is, open if all are, else half-open.
    pub fn circuit(&self, rules: &breaker::Rules, now_ms: u64) -> Circuit {
        let mut all_open = true;
        for endpoint in &self.endpoints {
            match endpoint.breaker.circuit(rules, now_ms) {
                Circuit::Closed => return Circuit::Closed,
                Circuit::HalfOpen => all_open = false,
                Circuit::Open => {}
            }
        }
        if all_open { Circuit::Open } else { Circuit::HalfOpen }
    }

    /// Healthy where all endpoints are, degraded where some are or try to be, unhealthy where none is
    /// or all circuits are open, unknown while none was checked.
    pub fn health(&self, rules: &breaker::Rules, now_ms: u64) -> policy::Health {
        let circuit = self.circuit(rules, now_ms);
        let (mut all, mut any, mut known) = (true, false, false);
        for endpoint in &self.endpoints {
            let health = endpoint.health(endpoint.breaker.circuit(rules, now_ms));
            all &= health == policy::Health::Healthy;
            any |= matches!(health, policy::Health::Healthy | policy::Health::Degraded);
            known |= health != policy::Health::Unknown;
        }
        match circuit {
            Circuit::Open => policy::Health::Unhealthy,
            _ if !known => policy::Health::Unknown,
            _ if all => policy::Health::Healthy,
            _ if any => policy::Health::Degraded,
            _ => policy::Health::Unhealthy,
        }
    }

    fn state(&self, rules: &breaker::Rules, now_ms: u64) -> ServiceState {
        let circuit = self.circuit(rules, now_ms);
        ServiceState {
            health: self.health(rules, now_ms),
            circuit: match circuit {
                Circuit::Closed => policy::Circuit::Closed,
                Circuit::Open => policy::Circuit::Open,
                Circuit::HalfOpen => policy::Circuit::HalfOpen,
            },
        }
    }
}

impl Endpoint {
    /// Unhealthy where the circuit is open or the last check failed, degraded where the circuit is
    /// half-open, unknown before the first check.
    pub fn health(&self, circuit: Circuit) -> policy::Health {
        let healthy = self.checks.load().last.as_ref().map(Check::healthy);
        match (circuit, healthy) {
            (Circuit::Open, _) => policy::Health::Unhealthy,
            (_, None) => policy::Health::Unknown,
            (Circuit::HalfOpen, _) => policy::Health::Degraded,
            (Circuit::Closed, Some(true)) => policy::Health::Healthy,
            (Circuit::Closed, Some(false)) => policy::Health::Unhealthy,
        }
    }
}

/// A worker's own handle to the services. A request's copies of it count within the worker; those of
/// an `Arc` would have all workers write to one cache line.
#[derive(Debug, Clone)]
pub(crate) struct LocalServices(Rc<SharedServices>);

#[derive(Debug)]
struct SharedServices(Arc<Services>);

impl LocalServices {
    pub(crate) fn new(services: Arc<Services>) -> LocalServices {
        LocalServices(Rc::new(SharedServices(services)))
    }
}

impl Deref for LocalServices {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0.0
    }
}

/// A request under way at an endpoint, for the balancer: from the attempt to the body's end.
#[derive(Debug)]
pub(crate) struct InFlight {
    services: LocalServices,
    service: usize,
    endpoint: usize,
}

impl InFlight {
    pub(crate) fn begin(services: &LocalServices, service: usize, endpoint: usize) -> InFlight {
        services.all[service].endpoints[endpoint].in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { services: services.clone(), service, endpoint }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let endpoint = &self.services.all[self.service].endpoints[self.endpoint];
        endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
