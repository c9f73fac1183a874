//! Names whose addresses come and go, and what is known of an endpoint through that.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::breaker::Outcome;
use crate::config::{Config, Origin};
use crate::policy::Health;

/// One service with these lines of TOML.
fn services(lines: &str) -> Arc<Services> {
    let text = format!(
        "[services.a]\n{lines}\n[policy.routing]\n\
         config.routes = [{{ path_prefix = '/', service = 'a' }}]"
    );
    let origin = Origin { name: "gateway.toml".to_owned(), folder: "".into() };
    match Config::parse(&text, origin) {
        Ok((config, _)) => Services::new(&config),
        Err(wrong) => panic!("{wrong}"),
    }
}

const ALL: &str = "endpoints = ['http://pods:80']\nresolve = 'all'\nslow_start = '10s'";

fn addresses(last: &[u8]) -> Vec<SocketAddr> {
    last.iter().map(|last| ([10, 0, 0, *last], 80).into()).collect()
}

fn urls(service: &Service) -> Vec<String> {
    let mut urls: Vec<_> = service.endpoints_now().map(|it| it.url().to_string()).collect();
    urls.sort();
    urls
}

fn place_of(service: &Service, url: &str) -> usize {
    service.present().iter().find(|place| service.endpoints[*place].url().as_str() == url).unwrap()
}

/// Three faults of traffic, with which the circuit opens.
fn open(services: &Services, place: usize) {
    let service = &services.all[0];
    for _ in 0..service.rules.failure_threshold {
        let now = services.now_ms();
        let breaker = &service.endpoints[place].breaker;
        let permit = breaker.admit(&service.rules, now, Source::Traffic).expect("closed");
        if let Some(change) = permit.settle(&service.rules, now, Outcome::Fault) {
            let cause = Some("answered 503".to_owned());
            services.circuit_changed(0, place, change, Source::Traffic, cause);
        }
    }
}

#[test]
fn a_name_is_one_endpoint_with_all_its_addresses() {
    let services = services("endpoints = ['http://pods:80']");
    let service = &services.all[0];
    assert!(service.found(0, &addresses(&[1, 2]), 0, true));
    assert_eq!(urls(service), ["http://pods:80"]);
    assert_eq!(**service.endpoints[0].addresses.load(), addresses(&[1, 2]));
    assert!(!service.found(0, &addresses(&[1, 2]), 0, false));
    assert!(service.found(0, &addresses(&[2]), 0, false));
    assert_eq!(**service.endpoints[0].addresses.load(), addresses(&[2]));
}

#[test]
fn each_address_is_an_endpoint_and_an_unknown_name_one_that_is_down() {
    let services = services(ALL);
    let service = &services.all[0];
    assert_eq!(urls(service), ["http://pods:80"]);
    assert!(service.endpoints_now().all(|it| it.addresses.load().is_empty()));
    assert!(service.found(0, &addresses(&[2, 1, 1]), 0, true));
    assert_eq!(urls(service), ["http://10.0.0.1:80", "http://10.0.0.2:80"]);
    for place in service.present().iter() {
        assert_eq!(service.weight(place, 5), load::WHOLE, "none is new among old ones");
        assert_eq!(service.endpoints[place].addresses.load().len(), 1);
        assert_eq!(service.endpoints[place].authority, "pods", "the name is what it answers to");
    }
}

#[test]
fn the_circuit_of_an_address_stays_with_it() {
    let services = services(ALL);
    let service = &services.all[0];
    service.found(0, &addresses(&[1, 2]), 0, true);
    let first = place_of(service, "http://10.0.0.1:80");
    open(&services, first);
    // Others come, in front of it and behind it.
    service.found(0, &addresses(&[0, 1, 2, 3]), 1, false);
    assert_eq!(place_of(service, "http://10.0.0.1:80"), first);
    assert_eq!(service.endpoints[first].circuit(&service.rules, services.now_ms()), Circuit::Open);
    // It goes and comes back.
    service.found(0, &addresses(&[2]), 2, false);
    assert!(!service.present().contains(first));
    assert!(service.endpoints[first].addresses.load().is_empty(), "nothing is sent there");
    service.found(0, &addresses(&[1, 2]), 3, false);
    assert_eq!(place_of(service, "http://10.0.0.1:80"), first);
    assert_eq!(service.endpoints[first].circuit(&service.rules, services.now_ms()), Circuit::Open);
    assert_eq!(**service.endpoints[first].addresses.load(), addresses(&[1]));
}

#[test]
fn an_address_in_anothers_place_begins_anew_and_late_results_are_not_its_own() {
    let lines = format!("{ALL}\nbreaker.failure_threshold = 1");
    let services = services(&lines.replace("['http://pods:80']", &format!("{:?}", names(256))));
    let service = &services.all[0];
    service.found(7, &addresses(&[1]), 0, true);
    let late = service.endpoints[7].breaker.admit(&service.rules, 0, Source::Traffic).unwrap();
    open(&services, 7);
    assert_eq!(service.endpoints[7].circuit(&service.rules, services.now_ms()), Circuit::Open);
    // There is one place for each of so many names.
    assert!(service.found(7, &addresses(&[2]), 0, false));
    let endpoint = &service.endpoints[7];
    assert_eq!(endpoint.url().as_str(), "http://10.0.0.2:80");
    assert_eq!(endpoint.circuit(&service.rules, services.now_ms()), Circuit::Closed);
    assert_eq!(late.settle(&service.rules, 0, Outcome::Fault), None);
    assert_eq!(endpoint.circuit(&service.rules, services.now_ms()), Circuit::Closed);
    assert!(endpoint.opened.load().is_none());
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("http://pod-{i}:80")).collect()
}

#[test]
fn only_as_many_addresses_as_there_is_room_for_are_endpoints() {
    let services = services(&ALL.replace("'http://pods:80'", "'http://pods:80', 'http://more:80'"));
    let service = &services.all[0];
    let many: Vec<SocketAddr> =
        (0..=255).map(|last| SocketAddr::from(([10, 0, 1, last], 80))).collect();
    service.found(0, &many, 0, true);
    assert_eq!(service.present().len(), 128 + 1, "half of the places, and the other name");
    service.found(1, &addresses(&[1, 2, 3]), 0, true);
    assert_eq!(service.present().len(), 128 + 3);
    // The same ones stay when the answer is in another order.
    let before = urls(service);
    let turned: Vec<_> = many.iter().rev().copied().collect();
    assert!(!service.found(0, &turned, 1, false));
    assert_eq!(urls(service), before);
}

#[test]
fn what_comes_while_others_serve_starts_slowly() {
    let services = services(ALL);
    let service = &services.all[0];
    service.found(0, &addresses(&[1]), 0, true);
    service.found(0, &addresses(&[1, 2]), 1_000, false);
    let [old, new] = ["http://10.0.0.1:80", "http://10.0.0.2:80"].map(|it| place_of(service, it));
    for (now, share) in [(1_000, 102), (6_000, 512), (11_000, 1024), (99_000, 1024)] {
        assert_eq!((service.weight(old, now), service.weight(new, now)), (1024, share), "{now}");
    }
    // And so does one that was away.
    service.found(0, &addresses(&[2]), 50_000, false);
    service.found(0, &addresses(&[1, 2]), 60_000, false);
    assert_eq!((service.weight(old, 60_000), service.weight(new, 60_000)), (102, 1024));
}

#[test]
fn a_circuit_that_closes_starts_slowly() {
    let services = services("endpoints = ['http://a', 'http://b']\nslow_start = '1h'");
    let service = &services.all[0];
    assert_eq!(service.weight(0, services.now_ms()), load::WHOLE);
    let change = Transition { from: Circuit::HalfOpen, to: Circuit::Closed };
    services.circuit_changed(0, 0, change, Source::Check, None);
    assert_eq!(service.weight(0, services.now_ms()), load::WHOLE / 10);
    assert_eq!(service.weight(1, services.now_ms()), load::WHOLE);
}

fn checked(endpoint: &Endpoint, error: Option<&str>) {
    let last = Check {
        at: SystemTime::now(),
        took: Duration::ZERO,
        error: error.map(str::to_owned),
        details: serde_json::Map::new(),
    };
    endpoint.checks.store(Arc::new(Checks { last: Some(last), ..Checks::default() }));
}

#[test]
fn checks_and_traffic_agree_in_one_state() {
    let services = services("endpoints = ['http://a']");
    let endpoint = &services.all[0].endpoints[0];
    assert_eq!(endpoint.standing(Circuit::Closed), (Health::Unknown, None));
    checked(endpoint, None);
    assert_eq!(endpoint.standing(Circuit::Closed), (Health::Healthy, Some(Source::Check)));
    // Traffic opens it, whatever the checks say.
    open(&services, 0);
    assert_eq!(endpoint.standing(Circuit::Open), (Health::Unhealthy, Some(Source::Traffic)));
    assert_eq!(endpoint.standing(Circuit::HalfOpen), (Health::Degraded, Some(Source::Traffic)));
    // A check that fails is the later word than traffic that passes below the threshold.
    checked(endpoint, Some("answered 500"));
    assert_eq!(endpoint.standing(Circuit::Closed), (Health::Unhealthy, Some(Source::Check)));
    // Traffic that closed the circuit after that is later still.
    std::iter::repeat_with(SystemTime::now)
        .find(|now| *now > endpoint.checks.load().last.as_ref().unwrap().at);
    let change = Transition { from: Circuit::HalfOpen, to: Circuit::Closed };
    services.circuit_changed(0, 0, change, Source::Traffic, None);
    assert_eq!(endpoint.standing(Circuit::Closed), (Health::Healthy, Some(Source::Traffic)));
}

mod picking {
    use super::*;

    fn shares(lines: &str, before: impl Fn(&Services), key: impl Fn(u64) -> u64) -> Vec<usize> {
        let services = services(lines);
        before(&services);
        let local = LocalServices::new(services);
        let mut shares = vec![0; local.all[0].endpoints.len()];
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..8_000 {
            let of = local.all[0].present();
            let picked = local.pick(0, of, key(round), random.u64(..), 0).unwrap();
            shares[picked] += 1;
        }
        shares
    }

    #[test]
    fn keeps_to_the_weights_in_each_of_the_four_ways() {
        for balance in ["p2c", "round_robin", "random", "consistent_hash"] {
            let lines = format!(
                "balance = '{balance}'\n\
                 endpoints = ['http://a', {{ url = 'http://b', weight = 3 }}]"
            );
            let shares = shares(&lines, |_| {}, |round| balance::stable_hash(&round.to_be_bytes()));
            assert!((1_850..2_150).contains(&shares[0]), "{balance}: {shares:?}");
        }
    }

    #[test]
    fn an_endpoint_that_fails_at_once_gets_no_more_than_one_that_works() {
        let lines = "endpoints = ['http://a', 'http://b']";
        let services = services(lines);
        let local = LocalServices::new(services);
        let mut random = fastrand::Rng::with_seed(3);
        let (mut failed, mut worked) = (0, 0);
        // A request each millisecond for ten seconds; the good endpoint takes 5 ms for each, the bad
        // one none, so that it never has anything under way.
        let mut ends = std::collections::VecDeque::new();
        for now_ms in 0..10_000 {
            while ends.front().is_some_and(|end| *end <= now_ms) {
                ends.pop_front();
                local.all[0].endpoints[1].in_flight.fetch_sub(1, Relaxed);
            }
            match local.pick(0, EndpointSet::first(2), 0, random.u64(..), now_ms).unwrap() {
                0 => {
                    failed += 1;
                    local.all[0].endpoints[0].faults.add(now_ms);
                }
                _ => {
                    worked += 1;
                    local.all[0].endpoints[1].in_flight.fetch_add(1, Relaxed);
                    ends.push_back(now_ms + 5);
                }
            }
        }
        assert!(failed * 50 < worked, "{failed} failed, {worked} worked");
    }
}
