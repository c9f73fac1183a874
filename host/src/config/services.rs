//! `[services.<name>]`: the names and addresses of what stands behind the gateway.

use super::reader::Section;
use super::sections::{breaker, health};
use super::value::{DAY, HOUR, MINUTE, MS, duration, fraction, list, or_off, word};
use super::web::{endpoint, same_address};
use super::{Balance, Breaker, Health, HostHeader, Proxy, Resolve, Service};

const SERVICES_MAX: usize = 1000;

/// As many as a service's endpoints may be, those that `resolve = "all"` finds included.
pub const ENDPOINTS_MAX: usize = 256;

/// The sections whose keys a service may have of its own.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) health: &'a Health,
    pub(super) breaker: &'a Breaker,
}

/// All services in the order of the file; none of them has a default.
pub(super) fn services(section: &Section<'_>, shared: &Shared<'_>) -> Option<Vec<Service>> {
    let entries = section.entries();
    if entries.is_empty() || entries.len() > SERVICES_MAX {
        let (message, help) = if entries.is_empty() {
            let help = "add a table like `[services.backend]` with \
                        `endpoints = [\"http://localhost:8000\"]`";
            ("no service is configured".to_owned(), help.to_owned())
        } else {
            let help = format!("at most {SERVICES_MAX} are allowed");
            (format!("{} services are configured", entries.len()), help)
        };
        section.problems.add(section.span(), message, None, Some(help));
        return None;
    }
    let mut services = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let inner = section.inner(name.get_ref(), Some(value));
        let name_is_fine = is_name(name.get_ref());
        if !name_is_fine {
            section.problems.add(
                name.span(),
                format!("`{}` is not a service's name", name.get_ref().escape_debug()),
                None,
                Some("a name has 1 to 64 letters, digits, `_` and `-`".to_owned()),
            );
        }
        if inner.is_given()
            && let Some(service) = service(inner, name.get_ref(), shared)
            && name_is_fine
        {
            services.push(service);
        }
    }
    Some(services)
}

fn service(mut section: Section<'_>, name: &str, shared: &Shared<'_>) -> Option<Service> {
    let proxy = shared.proxy;
    let endpoints = section.read("endpoints", None, list(endpoint, same_address, ENDPOINTS_MAX));
    if endpoints.as_ref().is_some_and(Vec::is_empty) {
        section.problems.add(
            section.span_of("endpoints"),
            format!("`{}` is empty", section.path_of("endpoints")),
            None,
            Some("write at least one address: [\"http://localhost:8000\"]".to_owned()),
        );
    }
    let balances = [
        ("p2c", Balance::P2c),
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("consistent_hash", Balance::ConsistentHash),
    ];
    let balance = section.read("balance", Some(Balance::P2c), word(&balances));
    let slow_start = section.read("slow_start", Some(None), or_off(duration(MS..=HOUR)));
    let panic_threshold = section.read("panic_threshold", Some(0.25), fraction(0.0..=1.0));
    let hosts = [("endpoint", HostHeader::Endpoint), ("client", HostHeader::Client)];
    let host = section.read("host", Some(HostHeader::Endpoint), word(&hosts));
    let resolves = [("one", Resolve::One), ("all", Resolve::All)];
    let resolve = section.read("resolve", Some(Resolve::One), word(&resolves));

    let request_timeout =
        section.read("request_timeout", Some(proxy.request_timeout), duration(MS..=HOUR));
    let attempt_timeout =
        section.read("attempt_timeout", Some(proxy.attempt_timeout), or_off(duration(MS..=HOUR)));
    let idle_timeout = section.read("idle_timeout", Some(proxy.idle_timeout), duration(MS..=DAY));
    let connect_timeout =
        section.read("connect_timeout", Some(proxy.connect_timeout), duration(MS..=5 * MINUTE));
    // One that `[proxy]` sets for all is no slip of this service's.
    if let (Some(request), Some(Some(attempt))) = (request_timeout, attempt_timeout)
        && attempt > request
        && section.has("attempt_timeout")
    {
        section.problems.add(
            section.span_of("attempt_timeout"),
            format!(
                "`{}` is longer than the service's request_timeout",
                section.path_of("attempt_timeout")
            ),
            Some("never comes into effect"),
            Some(format!(
                "all attempts of a request share {}: give one attempt less, or write \"off\"",
                humantime::format_duration(request)
            )),
        );
    }
    let health = health(section.section("health"), Some(shared.health));
    let breaker = breaker(section.section("breaker"), Some(shared.breaker));
    section.finish();
    Some(Service {
        name: name.to_owned(),
        endpoints: endpoints?,
        balance: balance?,
        slow_start: slow_start?,
        panic_threshold: panic_threshold?,
        host: host?,
        resolve: resolve?,
        request_timeout: request_timeout?,
        attempt_timeout: attempt_timeout?,
        idle_timeout: idle_timeout?,
        connect_timeout: connect_timeout?,
        health: health?,
        breaker: breaker?,
    })
}

/// Whether something in the configuration can be called so.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}
