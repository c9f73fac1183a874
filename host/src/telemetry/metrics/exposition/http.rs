//! OpenTelemetry's metrics of HTTP servers and clients, in Prometheus's spelling: requests by method,
//! status, route and service; attempts by endpoint.

use std::collections::BTreeMap;

use prometheus_client::registry::Unit;

use super::super::keys::{ClientKey, ServerKey};
use super::super::series::{DURATION_BOUNDS, Durations, Series};
use super::super::words::{Method, Why};
use super::super::{Counters, SIZE_BOUNDS, Served, Sizes, Totals};
use super::family::{Distribution, Family, Labels, Sample, Samples, labels};
use super::{GATEWAY, Metrics, NOBODY};

const NANOSECONDS: f64 = 1e9;

pub(super) fn families(of: &Metrics, all: &Totals) -> Vec<Family> {
    let bodies = |of_service: fn(&super::super::OfService) -> &Sizes| {
        let pairs = of.services.all.iter().zip(&all.services);
        let samples = pairs.map(|(service, counted)| {
            let shown = Distribution::of(of_service(counted), &SIZE_BOUNDS, 1.0);
            (labels(&[("service", &service.name)]), shown)
        });
        Samples::Histogram(Unit::Bytes, samples.collect())
    };
    let active = Method::ALL.iter().zip(all.requests_begun.0.iter().zip(&all.requests_ended.0));
    let active = active.map(|(method, (begun, ended))| {
        let labels = labels(&[("http_request_method", method.word()), ("url_scheme", "http")]);
        (labels, begun.get().saturating_sub(ended.get()) as f64)
    });
    vec![
        Family {
            name: "http_server_request_duration",
            help: "Requests that have ended, from the head's arrival to the response's last byte. \
                   error_type is the access log's `why`, or the status where that is an error.",
            samples: Samples::Histogram(Unit::Seconds, requests(of)),
        },
        Family {
            name: "http_server_active_requests",
            help: "Requests that have begun and not ended.",
            samples: Samples::Gauge(active.collect()),
        },
        Family {
            name: "http_server_request_body_size",
            help: "Bodies of requests for a service, as far as they came.",
            samples: bodies(|service| &service.request_bodies),
        },
        Family {
            name: "http_server_response_body_size",
            help: "Bodies of responses to requests for a service, as far as they went.",
            samples: bodies(|service| &service.response_bodies),
        },
        Family {
            name: "http_client_request_duration",
            help: "Attempts at endpoints, from their beginning, connecting included, to the \
                   response's head or the failure.",
            samples: Samples::Histogram(Unit::Seconds, attempts(of)),
        },
    ]
}

/// What all workers counted under the same labels, in an order that stays.
struct Sums<K> {
    by_key: BTreeMap<K, Durations>,
    overflow: Durations,
}

impl<K: Ord> Sums<K> {
    fn new<'a>(
        workers: &'a [std::sync::Arc<Counters>],
        series: fn(&Counters) -> &Series,
        key: impl Fn(&'a Counters, u64) -> K,
    ) -> Sums<K> {
        let mut sums = Sums { by_key: BTreeMap::new(), overflow: Durations::default() };
        for worker in workers {
            for (packed, durations) in series(worker).iter() {
                sums.by_key.entry(key(worker, packed)).or_default().absorb(durations);
            }
            sums.overflow.absorb(&series(worker).overflow);
        }
        sums
    }

    fn samples(&self, labels_of: impl Fn(&K) -> Labels) -> Vec<Sample<Distribution>> {
        let shown = |durations| Distribution::of(durations, &DURATION_BOUNDS, NANOSECONDS);
        let pairs = self.by_key.iter();
        let mut samples: Vec<_> =
            pairs.map(|(key, durations)| (labels_of(key), shown(durations))).collect();
        if self.overflow.buckets.sum() > 0 {
            samples.push((labels(&[("otel_metric_overflow", "true")]), shown(&self.overflow)));
        }
        samples
    }
}

fn requests(of: &Metrics) -> Vec<Sample<Distribution>> {
    let sums = Sums::new(
        &of.counters,
        |worker| &worker.requests,
        |worker, packed| {
            let key = ServerKey::unpack(packed);
            let service = match key.served {
                Served::Service(service) => &of.services.all[service].name,
                Served::Gateway => GATEWAY,
                Served::None => NOBODY,
            };
            // A route has another number in another worker.
            (service, worker.routes.name(key.route), key.method.word(), key.status, key.why.word())
        },
    );
    sums.samples(|&(service, route, method, status, why)| {
        let mut all = labels(&[("http_request_method", method), ("url_scheme", "http")]);
        all.extend(outcome(status, why));
        // Who has no route has no such label, as OpenTelemetry wants it.
        all.extend((!route.is_empty()).then(|| ("http_route", route.to_owned())));
        all.push(("service", service.to_owned()));
        all
    })
}

fn attempts(of: &Metrics) -> Vec<Sample<Distribution>> {
    let sums = Sums::new(
        &of.counters,
        |worker| &worker.attempts,
        |_, packed| {
            let ClientKey { service, endpoint, method, status, why } = ClientKey::unpack(packed);
            // A place may have had another address when this was counted: what stays is the name.
            let name = of.services.all[service].name_at(endpoint);
            (service, name, method.word(), status, why.word())
        },
    );
    sums.samples(|&(service, name, method, status, why)| {
        let service = &of.services.all[service];
        let endpoint = &service.config.endpoints[name];
        let mut all = labels(&[("http_request_method", method)]);
        all.extend(outcome(status, why));
        all.extend(labels(&[
            ("server_address", &endpoint.host),
            ("server_port", &endpoint.port.to_string()),
            ("service", &service.name),
            ("endpoint", &endpoint.url),
        ]));
        all
    })
}

/// `http_response_status_code` where there was a response, and `error_type` where something went
/// wrong.
fn outcome(status: Option<u16>, why: &str) -> Labels {
    let mut labels = Labels::new();
    let code = status.map(|status| status.to_string());
    let error = match status {
        _ if why != Why::Done.word() => Some(why.to_owned()),
        Some(500..) => code.clone(),
        _ => None,
    };
    labels.extend(code.map(|code| ("http_response_status_code", code)));
    labels.extend(error.map(|error| ("error_type", error)));
    labels
}
