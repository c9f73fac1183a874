//! The services behind the gateway: names, endpoints, and what is known about them.
//!
//! Everything here is shared by all workers and the monitor, and made of atomics and snapshots.

pub mod balance;
pub mod budget;
pub mod endpoint;
pub mod load;
pub(crate) mod pool;
pub(crate) mod resolve;
pub mod set;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use tokio::sync::Notify;

use crate::breaker::{self, Circuit, Source, Transition};
use crate::config::{self, Balance, ENDPOINTS_MAX, Resolve};
use crate::policy::{self, ServiceState};
use balance::RoundRobin;
use budget::{Budget, BudgetRules};
pub use endpoint::{Check, Checks, Endpoint, Opened};
use set::EndpointSet;

/// A named upstream.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    /// The endpoints, and with `resolve = "all"` room for more: only those in [`Service::present`]
    /// are there.
    pub endpoints: Vec<Endpoint>,
    present: [AtomicU64; ENDPOINTS_MAX / 64],
    /// Rung when an address came or went.
    pub(crate) moved: Notify,
    pub config: config::Service,
    pub rules: breaker::Rules,
    pub budget: Budget,
    pub budget_rules: BudgetRules,
}

/// All services of a generation, in the configuration's order.
#[derive(Debug)]
pub struct Services {
    pub all: Vec<Service>,
    /// How often the address of an endpoint changed: idle connections are looked through then.
    pub(crate) moves: AtomicU64,
    clock: std::time::Instant,
}

impl Services {
    pub fn new(config: &config::Config) -> Arc<Services> {
        let all = config.services.iter().map(|service| Service::new(service, &config.proxy));
        Arc::new(Services {
            all: all.collect(),
            moves: AtomicU64::new(0),
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

    /// Notes a move of a circuit: in the log, in the metrics and for the pages. `cause` is there where
    /// the circuit opened.
    pub fn circuit_changed(
        &self,
        service: usize,
        endpoint: usize,
        change: Transition,
        by: Source,
        cause: Option<String>,
    ) {
        let service = &self.all[service];
        let endpoint = &service.endpoints[endpoint];
        let to = Circuit::ALL.iter().position(|circuit| *circuit == change.to);
        endpoint.transitions[to.expect("ALL has every circuit")].fetch_add(1, Relaxed);
        if change.to == Circuit::Closed {
            endpoint.returned_ms.store(self.now_ms().max(1), Relaxed);
            endpoint.closed.store(Some(Arc::new((by, SystemTime::now()))));
        }
        let (from, to) = (change.from.as_str(), change.to.as_str());
        let (name, url, by_whom) = (&*service.name, endpoint.url(), by.as_str());
        match cause {
            Some(cause) => {
                tracing::warn!(
                    service = name,
                    endpoint = url.as_str(),
                    from,
                    to,
                    by = by_whom,
                    cause,
                    "circuit changed"
                );
                endpoint.opened.store(Some(Arc::new(Opened { by, cause })));
            }
            None => tracing::info!(
                service = name,
                endpoint = url.as_str(),
                from,
                to,
                by = by_whom,
                "circuit changed"
            ),
        }
    }

    /// How a service stands, for `exchange.service`.
    pub fn state(&self, service: usize) -> ServiceState {
        self.all[service].state(self.now_ms())
    }
}

impl Service {
    fn new(config: &config::Service, proxy: &config::Proxy) -> Service {
        let places = match config.resolve {
            Resolve::One => 1,
            // All names have the same room, so that none can crowd out another.
            Resolve::All => ENDPOINTS_MAX / config.endpoints.len(),
        };
        let endpoints =
            config.endpoints.iter().flat_map(|name| (0..places).map(|_| Endpoint::new(name)));
        let endpoints: Vec<Endpoint> = endpoints.collect();
        // Until a name is resolved it is one endpoint that is down.
        let present: EndpointSet = (0..endpoints.len()).step_by(places).collect();
        let budget_rules = BudgetRules {
            ratio: proxy.retry_budget_ratio,
            min_per_s: proxy.retry_budget_min_per_s,
        };
        Service {
            name: config.name.clone(),
            endpoints,
            present: present.words().map(AtomicU64::new),
            moved: Notify::new(),
            config: config.clone(),
            rules: breaker::Rules {
                failure_threshold: config.breaker.failure_threshold,
                success_threshold: config.breaker.success_threshold,
                open_for: config.breaker.open_for,
            },
            budget: Budget::new(&budget_rules, 0),
            budget_rules,
        }
    }

    /// The places where there is an endpoint now. At least one, and for each name; but while they
    /// change, which takes several words, a reader may see fewer, or none.
    pub fn present(&self) -> EndpointSet {
        EndpointSet::of_words(|word| self.present[word].load(Relaxed))
    }

    /// The endpoints that are there, in the order of their places.
    pub fn endpoints_now(&self) -> impl Iterator<Item = &Endpoint> {
        self.present().iter().map(|place| &self.endpoints[place])
    }

    /// The places of a name, by its number in the configuration.
    fn places_of(&self, name: usize) -> Range<usize> {
        let each = self.endpoints.len() / self.config.endpoints.len();
        name * each..(name + 1) * each
    }

    /// The number in the configuration of the name whose place this is.
    pub(crate) fn name_at(&self, place: usize) -> usize {
        place / (self.endpoints.len() / self.config.endpoints.len())
    }

    /// Takes over what a name was resolved to, which is at least one address. Whether anything
    /// changed. Only the control thread calls this.
    ///
    /// With `resolve = "all"` an address keeps its place while it is there, and finds it again, with
    /// its circuit and its checks, when it comes back before another needed the place. `starting`: at
    /// the gateway's start no endpoint is new among old ones, and so none starts slowly.
    pub(crate) fn found(
        &self,
        name: usize,
        addresses: &[SocketAddr],
        now_ms: u64,
        starting: bool,
    ) -> bool {
        let places = self.places_of(name);
        if self.config.resolve == Resolve::One {
            let endpoint = &self.endpoints[places.start];
            let changed = **endpoint.addresses.load() != addresses;
            if changed {
                endpoint.addresses.store(Arc::new(addresses.to_vec()));
            }
            return changed;
        }
        let mut wanted = addresses.to_vec();
        wanted.sort();
        wanted.dedup();
        if wanted.len() > places.len() {
            let (found, room) = (wanted.len(), places.len());
            let endpoint = &*self.config.endpoints[name].url;
            tracing::warn!(
                endpoint,
                found,
                room,
                "more addresses than a service may have endpoints"
            );
            wanted.truncate(room);
        }
        let home_of = |place: usize| self.endpoints[place].place_of.load().as_deref().copied();
        let before = self.present();
        let (mut present, mut changed) = (before, false);
        for place in places.clone() {
            if present.contains(place) && home_of(place).is_none_or(|home| !wanted.contains(&home))
            {
                present.remove(place);
            }
        }
        for address in wanted {
            let own = places.clone().find(|place| home_of(*place) == Some(address));
            // An empty place, rather one that was never used, then one where nothing is under way.
            let empty = places.clone().filter(|place| !present.contains(*place));
            let place = own.or_else(|| {
                empty.min_by_key(|place| {
                    let endpoint = &self.endpoints[*place];
                    (home_of(*place).is_some(), endpoint.in_flight.load(Relaxed))
                })
            });
            let place = place.expect("there are no more addresses than places");
            let endpoint = &self.endpoints[place];
            if own.is_none() {
                endpoint.becomes(address);
            }
            if own.is_none() || !before.contains(place) {
                changed = true;
                endpoint.addresses.store(Arc::new(vec![address]));
                let returned_ms = if starting { 0 } else { now_ms.max(1) };
                endpoint.returned_ms.store(returned_ms, Relaxed);
            }
            present.insert(place);
        }
        for (word, bits) in present.words().into_iter().enumerate() {
            self.present[word].store(bits, Relaxed);
        }
        for gone in before.without(present).iter() {
            self.endpoints[gone].addresses.store(Arc::default());
        }
        changed || present != before
    }

    /// An endpoint's weight now, of which one that came back has only a part for a while.
    pub(crate) fn weight(&self, endpoint: usize, now_ms: u64) -> u32 {
        let endpoint = &self.endpoints[endpoint];
        let slow_start = self.config.slow_start.map_or(0, |time| time.as_millis() as u64);
        load::ramped(endpoint.config.weight, endpoint.age_ms(now_ms), slow_start)
    }

    pub(crate) fn in_flight(&self, endpoint: usize) -> u32 {
        self.endpoints[endpoint].in_flight.load(Relaxed)
    }

    /// What is under way at an endpoint, and what failed there of late.
    pub(crate) fn load(&self, endpoint: usize, now_ms: u64) -> u32 {
        self.in_flight(endpoint).saturating_add(self.endpoints[endpoint].faults.count(now_ms))
    }

    pub(crate) fn identity(&self, endpoint: usize) -> u64 {
        self.endpoints[endpoint].identity()
    }

    /// Whether open circuits are passed over, since too few are closed.
    pub fn panics(&self, now_ms: u64) -> bool {
        let (mut closed, mut all) = (0, 0);
        for endpoint in self.endpoints_now() {
            all += 1;
            closed += usize::from(endpoint.circuit(&self.rules, now_ms) == Circuit::Closed);
        }
        balance::panics(closed, all, self.config.panic_threshold)
    }

    /// Closed if any endpoint's circuit is, open if all are, else half-open.
    pub fn circuit(&self, now_ms: u64) -> Circuit {
        let mut all_open = true;
        for endpoint in self.endpoints_now() {
            match endpoint.circuit(&self.rules, now_ms) {
                Circuit::Closed => return Circuit::Closed,
                Circuit::HalfOpen => all_open = false,
                Circuit::Open => {}
            }
        }
        if all_open { Circuit::Open } else { Circuit::HalfOpen }
    }

    /// Healthy where all endpoints are, degraded where some are or try to be, unhealthy where none is
    /// or all circuits are open, unknown while none was checked.
    pub fn health(&self, now_ms: u64) -> policy::Health {
        let circuit = self.circuit(now_ms);
        let (mut all, mut any, mut known) = (true, false, false);
        for endpoint in self.endpoints_now() {
            let health = endpoint.health(endpoint.circuit(&self.rules, now_ms));
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

    fn state(&self, now_ms: u64) -> ServiceState {
        let circuit = self.circuit(now_ms);
        ServiceState {
            health: self.health(now_ms),
            circuit: match circuit {
                Circuit::Closed => policy::Circuit::Closed,
                Circuit::Open => policy::Circuit::Open,
                Circuit::HalfOpen => policy::Circuit::HalfOpen,
            },
        }
    }
}

/// A worker's own handle to the services. A request's copies of it count within the worker; those of
/// an `Arc` would have all workers write to one cache line.
#[derive(Debug, Clone)]
pub(crate) struct LocalServices(Rc<SharedServices>);

#[derive(Debug)]
struct SharedServices {
    shared: Arc<Services>,
    /// For each service whose turn it is; empty where turns are not taken.
    turns: Box<[RoundRobin]>,
}

impl LocalServices {
    pub(crate) fn new(services: Arc<Services>) -> LocalServices {
        let turns = services.all.iter().map(|service| match service.config.balance {
            Balance::RoundRobin => RoundRobin::new(service.endpoints.len()),
            Balance::P2c | Balance::Random | Balance::ConsistentHash => RoundRobin::new(0),
        });
        let turns = turns.collect();
        LocalServices(Rc::new(SharedServices { shared: services, turns }))
    }

    /// One of these endpoints of a service, as its balancing says; none of none. `key` counts for
    /// consistent hashing only.
    pub(crate) fn pick(
        &self,
        service: usize,
        of: EndpointSet,
        key: u64,
        random: u64,
        now_ms: u64,
    ) -> Option<usize> {
        let it = &self.all[service];
        let weight = |endpoint| it.weight(endpoint, now_ms);
        match it.config.balance {
            Balance::P2c => balance::p2c(of, weight, |endpoint| it.load(endpoint, now_ms), random),
            Balance::RoundRobin => self.0.turns[service].next(of, weight),
            Balance::Random => balance::random(of, weight, random),
            // Failures do not move keys, unless they open the circuit: whoever belongs together
            // stays together.
            Balance::ConsistentHash => balance::consistent_hash(
                of,
                weight,
                |endpoint| it.in_flight(endpoint),
                |endpoint| it.identity(endpoint),
                key,
            ),
        }
    }
}

impl Deref for LocalServices {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0.shared
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
        services.all[service].endpoints[endpoint].in_flight.fetch_add(1, Relaxed);
        InFlight { services: services.clone(), service, endpoint }
    }

    pub(crate) fn service(&self) -> &Service {
        &self.services.all[self.service]
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let endpoint = &self.services.all[self.service].endpoints[self.endpoint];
        endpoint.in_flight.fetch_sub(1, Relaxed);
    }
}
