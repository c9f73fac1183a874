//! What is counted is shown, summed over the workers, in forms that scrapers accept.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use super::*;
use crate::breaker::{Outcome, Source};
use crate::config::{Config, Origin};
use crate::telemetry::rollout::Rollouts;
use crate::upstream::{Check, Checks, Services};

/// The built-in configuration: `writer`, `research` and `backend`, an endpoint each.
fn services() -> Arc<Services> {
    Services::new(&Config::builtin().0)
}

fn metrics(services: &Arc<Services>, counters: &[Arc<Counters>]) -> Metrics {
    Metrics {
        services: services.clone(),
        counters: counters.to_vec(),
        access_dropped: Arc::default(),
        rollouts: rollouts(),
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
    }
}

fn rollouts() -> Arc<Rollouts> {
    let rollouts = Rollouts::new(|_| Arc::default());
    for (kind, name) in Kind::ALL.into_iter().zip(["0123456789ab", "ba9876543210"]) {
        rollouts.of(kind).active.store(Arc::new(name.into()));
    }
    rollouts
}

fn page(counters: &[Arc<Counters>]) -> String {
    metrics(&services(), counters).page(Format::OpenMetrics)
}

/// These are lines of the page.
fn check(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|other| other == *line), "no line\n{line}\nin\n{page}");
    }
}

fn a_request() -> Ended<'static> {
    Ended {
        served: Served::Service(0),
        method: Method::Get,
        status: Some(200),
        route: Some("notes"),
        why: Why::Done,
        took: Duration::from_millis(7),
        bytes_in: 0,
        bytes_out: 100,
    }
}

fn an_attempt() -> Attempted {
    Attempted {
        service: 0,
        endpoint: 0,
        method: Method::Get,
        result: AttemptResult::Response,
        status: Some(200),
        why: Why::Done,
        took: Duration::from_millis(6),
    }
}

/// A scraper refuses a page on which two samples have the same name and labels.
#[test]
fn the_addresses_of_one_name_are_one_endpoint_of_the_attempts() {
    let config = "[services.a]\nendpoints = ['http://pods:80', 'http://more:81']\nresolve = 'all'\n\
                  [policy.routing]\nconfig.routes = [{ path_prefix = '/', service = 'a' }]";
    let origin = Origin { name: "gateway.toml".to_owned(), folder: "".into() };
    let (config, _) = Config::parse(config, origin).expect("a configuration");
    let services = Services::new(&config);
    let more = services.all[0].endpoints.len() / 2;
    let worker = Counters::new(1);
    for endpoint in [0, 1, more, more + 1, more + 2] {
        worker.attempted(&Attempted { endpoint, ..an_attempt() });
    }
    let page = metrics(&services, &[worker]).page(Format::OpenMetrics);
    let counts: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("http_client_request_duration_seconds_count"))
        .map(|line| line.split_once("server_address=").expect("a label").1)
        .collect();
    let of = |host, port, count| {
        format!(
            "\"{host}\",server_port=\"{port}\",service=\"a\",endpoint=\"http://{host}:{port}\"}} {count}"
        )
    };
    assert_eq!(counts, [of("pods", 80, 2), of("more", 81, 3)]);
}

#[test]
fn counters_are_summed_over_the_workers() {
    let workers = [Counters::new(3), Counters::new(3)];
    for worker in &workers {
        worker.request_begun(Method::Get);
        worker.request_begun(Method::Get);
        worker.request_ended(&a_request());
        worker.request_ended(&Ended { status: Some(204), ..a_request() });
        worker.request_ended(&Ended {
            served: Served::Service(2),
            status: Some(503),
            ..a_request()
        });
        worker.request_ended(&Ended { served: Served::Gateway, ..a_request() });
        worker.request_ended(&Ended {
            served: Served::None,
            status: Some(404),
            method: Method::Put,
            ..a_request()
        });
        worker.attempted(&an_attempt());
        let result = AttemptResult::ConnectFailed;
        worker.attempted(&Attempted {
            result,
            status: None,
            why: Why::ConnectFailed,
            ..an_attempt()
        });
        worker.retry(0, RetryReason::ConnectFailed);
        worker.service_limit(1, ServiceLimit::RetryBudget);
        worker.decision(Kind::Retry, Duration::from_micros(3), Some(FaultReason::CannotDecide));
        worker.connection_opened();
        worker.connection_opened();
        worker.connection_closed();
        worker.tunnel_opened();
        worker.tunnel_opened();
        worker.tunnel_closed();
        worker.limit(Limit::Connections);
        worker.unparsed_request();
        worker.log_suppressed();
    }
    workers[1].service_limit(1, ServiceLimit::RetryBudget);
    workers[1].request_begun(Method::Patch);
    let metrics = metrics(&services(), &workers);
    metrics.access_dropped.store(7, Relaxed);
    check(
        &metrics.page(Format::OpenMetrics),
        &[
            r#"orchestrator_requests_total{service="writer",status_class="2xx"} 4"#,
            r#"orchestrator_requests_total{service="backend",status_class="5xx"} 2"#,
            r#"orchestrator_requests_total{service="backend",status_class="2xx"} 0"#,
            r#"orchestrator_requests_total{service="(gateway)",status_class="2xx"} 2"#,
            r#"orchestrator_requests_total{service="(none)",status_class="4xx"} 2"#,
            r#"http_server_active_requests{http_request_method="PATCH",url_scheme="http"} 1.0"#,
            r#"http_server_active_requests{http_request_method="GET",url_scheme="http"} 0.0"#,
            r#"orchestrator_attempts_total{service="writer",outcome="response"} 2"#,
            r#"orchestrator_attempts_total{service="writer",outcome="connect_failed"} 2"#,
            r#"orchestrator_attempts_total{service="writer",outcome="timeout"} 0"#,
            r#"orchestrator_retries_total{service="writer",reason="connect_failed"} 2"#,
            r#"orchestrator_retry_budget_left{service="writer"} 10.0"#,
            r#"orchestrator_limit_hits_total{limit="proxy.retry_budget_ratio",effect="retry_refused",service="research"} 3"#,
            r#"orchestrator_limit_hits_total{limit="limits.connections",effect="connection_refused"} 2"#,
            r#"orchestrator_limit_hits_total{limit="limits.header_timeout",effect="connection_closed"} 0"#,
            r#"orchestrator_policy_calls_total{policy="routing"} 0"#,
            r#"orchestrator_policy_calls_total{policy="retry"} 2"#,
            r#"orchestrator_policy_faults_total{policy="retry",reason="cannot_decide"} 2"#,
            r#"orchestrator_policy_info{policy="retry",version="ba9876543210"} 1"#,
            "orchestrator_connections_open 2.0",
            "orchestrator_connections_total 4",
            "orchestrator_tunnels_open 2.0",
            "orchestrator_tunnels_total 4",
            "orchestrator_unparsed_requests_total 2",
            "orchestrator_access_log_dropped_total 7",
            "orchestrator_log_suppressed_total 2",
            concat!(r#"orchestrator_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "process_start_time_seconds 1.5",
        ],
    );
}

#[test]
fn requests_are_told_apart_by_method_status_route_service_and_reason() {
    let workers = [Counters::new(3), Counters::new(3)];
    // Its names have other numbers than those of the other worker.
    workers[1].request_ended(&Ended { route: Some("other"), ..a_request() });
    for worker in &workers {
        worker.request_ended(&a_request());
        worker.request_ended(&Ended { took: Duration::from_secs(20), ..a_request() });
        let lost = Ended { why: Why::UpstreamLost, ..a_request() };
        worker.request_ended(&lost);
        worker.request_ended(&Ended { status: Some(500), route: None, ..a_request() });
        let gone =
            Ended { status: None, why: Why::ClientGone, method: Method::Other, ..a_request() };
        worker.request_ended(&gone);
    }
    let name = "http_server_request_duration_seconds";
    let get = r#"http_request_method="GET",url_scheme="http",http_response_status_code="#;
    let writer = r#"service="writer""#;
    let count = |labels: String, count| format!("{name}_count{{{labels}}} {count}");
    let notes = format!(r#"{get}"200",http_route="notes",{writer}"#);
    let bucket = |le, count| format!(r#"{name}_bucket{{le="{le}",{notes}}} {count}"#);
    let page = page(&workers);
    check(
        &page,
        &[
            &count(notes.clone(), 4),
            &bucket("0.005", 0),
            &bucket("0.01", 2),
            &bucket("10.0", 2),
            &bucket("+Inf", 4),
            &format!("{name}_sum{{{notes}}} 40.014"),
            &count(format!(r#"{get}"200",http_route="other",{writer}"#), 1),
            &count(
                format!(r#"{get}"200",error_type="upstream_lost",http_route="notes",{writer}"#),
                2,
            ),
            &count(format!(r#"{get}"500",error_type="500",{writer}"#), 2),
            &count(
                format!(
                    r#"http_request_method="_OTHER",url_scheme="http",error_type="client_gone",http_route="notes",{writer}"#
                ),
                2,
            ),
        ],
    );
    assert_eq!(page.matches(&format!("{name}_count")).count(), 5);
}

#[test]
fn attempts_are_told_apart_by_endpoint() {
    let worker = Counters::new(3);
    worker.attempted(&Attempted { service: 1, ..an_attempt() });
    worker.attempted(&Attempted { status: None, why: Why::AttemptTimeout, ..an_attempt() });
    let of = |service, port| {
        format!(
            r#"server_address="localhost",server_port="{port}",service="{service}",endpoint="http://localhost:{port}"}} 1"#
        )
    };
    let count = r#"http_client_request_duration_seconds_count{http_request_method="GET","#;
    check(
        &page(&[worker]),
        &[
            &format!(r#"{count}http_response_status_code="200",{}"#, of("research", 8001)),
            &format!(r#"{count}error_type="attempt_timeout",{}"#, of("writer", 8000)),
        ],
    );
}

#[test]
fn what_is_beyond_the_bound_of_series_is_counted_together() {
    let workers = [Counters::new(3), Counters::new(3)];
    for worker in &workers {
        for route in 0..3000 {
            for status in [200, 404] {
                let route = route.to_string();
                let request = Ended { route: Some(&route), status: Some(status), ..a_request() };
                worker.request_ended(&request);
            }
        }
    }
    let page = page(&workers);
    let counts =
        page.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count"));
    let values = counts.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>());
    let values: Vec<_> = values.collect::<Result<_, _>>().expect("numbers");
    // The first thousand routes, with two statuses each, are all that a worker tells apart.
    assert_eq!(values.len(), 2001);
    assert_eq!(values.iter().sum::<u64>(), 12_000);
    check(
        &page,
        &[
            r#"http_server_request_duration_seconds_count{otel_metric_overflow="true"} 8000"#,
            r#"orchestrator_requests_total{service="writer",status_class="2xx"} 6000"#,
        ],
    );
}

#[test]
fn sizes_of_bodies_are_counted_for_each_service() {
    let worker = Counters::new(3);
    worker.request_ended(&a_request());
    worker.request_ended(&Ended { bytes_in: 1_000, bytes_out: 5_000_000_000, ..a_request() });
    worker.request_ended(&Ended { served: Served::Gateway, ..a_request() });
    check(
        &page(&[worker]),
        &[
            r#"http_server_request_body_size_bytes_count{service="writer"} 2"#,
            r#"http_server_request_body_size_bytes_bucket{le="0.0",service="writer"} 1"#,
            r#"http_server_request_body_size_bytes_bucket{le="1000.0",service="writer"} 2"#,
            r#"http_server_response_body_size_bytes_bucket{le="1000000000.0",service="writer"} 1"#,
            r#"http_server_response_body_size_bytes_sum{service="writer"} 5000000100.0"#,
        ],
    );
}

#[test]
fn a_status_counts_in_its_class() {
    let worker = Counters::new(3);
    for status in [0, 99, 101, 204, 302, 404, 504, 599, 600, u16::MAX] {
        let request = Ended { served: Served::Service(1), status: Some(status), ..a_request() };
        worker.request_ended(&request);
    }
    let none = Ended { served: Served::Service(1), status: None, ..a_request() };
    worker.request_ended(&none);
    let page = page(&[worker]);
    for (class, count) in [("other", 4), ("1xx", 1), ("2xx", 1), ("3xx", 1), ("4xx", 2), ("5xx", 2)]
    {
        let name = r#"orchestrator_requests_total{service="research",status_class="#;
        check(&page, &[&format!("{name}\"{class}\"}} {count}")]);
    }
}

#[test]
fn buckets_contain_their_bound_and_everything_below() {
    let workers = [Counters::new(3), Counters::new(3)];
    let took = |worker: usize, nanoseconds| {
        let took = Duration::from_nanos(nanoseconds);
        workers[worker].decision(Kind::Routing, took, None);
    };
    took(0, 0);
    took(0, 1000);
    took(1, 1001);
    took(1, 2000);
    took(0, 30_000);
    took(1, 100_000_000);
    took(0, 100_000_001);
    let name = "orchestrator_policy_decision_seconds";
    let bucket =
        |bound: &str, count| format!(r#"{name}_bucket{{le="{bound}",policy="routing"}} {count}"#);
    check(
        &page(&workers),
        &[
            &bucket("0.000001", 2),
            &bucket("0.000002", 4),
            &bucket("0.000005", 4),
            &bucket("0.00002", 4),
            &bucket("0.00005", 5),
            &bucket("0.05", 5),
            &bucket("0.1", 6),
            &bucket("+Inf", 7),
            &format!(r#"{name}_count{{policy="routing"}} 7"#),
            &format!(r#"{name}_sum{{policy="routing"}} 0.200034002"#),
            &format!(r#"{name}_count{{policy="retry"}} 0"#),
            &format!("# TYPE {name} histogram"),
            &format!("# UNIT {name} seconds"),
        ],
    );
}

#[test]
fn the_state_of_every_endpoint_is_shown() {
    let services = services();
    let service = &services.all[1];
    let endpoint = &service.endpoints[0];
    for _ in 0..service.rules.failure_threshold {
        let permit = endpoint.breaker.admit(&service.rules, services.now_ms(), Source::Traffic);
        let permit = permit.expect("closed");
        if let Some(change) = permit.settle(&service.rules, services.now_ms(), Outcome::Fault) {
            services.circuit_changed(1, 0, change, Source::Traffic, None);
        }
    }
    endpoint.in_flight.fetch_add(5, Relaxed);
    endpoint.checks_timed_out.fetch_add(6, Relaxed);
    for (service, error) in [(0, None), (1, Some("no connection".to_owned()))] {
        let check = Check {
            at: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            error,
            details: serde_json::Map::new(),
        };
        let checks = Checks { last: Some(check), ..Checks::default() };
        services.all[service].endpoints[0].checks.store(Arc::new(checks));
    }
    let page = metrics(&services, &[]).page(Format::OpenMetrics);
    let writer = r#"{service="writer",endpoint="http://localhost:8000"}"#;
    let research = r#"{service="research",endpoint="http://localhost:8001"}"#;
    let moved = research.replace('}', ",to=");
    let moved = format!("orchestrator_circuit_transitions_total{moved}");
    check(
        &page,
        &[
            &format!("orchestrator_circuit_state{writer} 0.0"),
            &format!("orchestrator_circuit_state{research} 2.0"),
            &format!("{moved}\"open\"}} 1"),
            &format!("{moved}\"closed\"}} 0"),
            &format!("orchestrator_health_up{writer} 1.0"),
            &format!("orchestrator_health_up{research} 0.0"),
            &format!("orchestrator_in_flight_requests{writer} 0.0"),
            &format!("orchestrator_in_flight_requests{research} 5.0"),
            r#"orchestrator_limit_hits_total{limit="health.timeout",effect="check_failed",service="research"} 6"#,
        ],
    );
    assert!(!page.contains(r#"orchestrator_health_up{service="backend""#), "not checked yet");
}

#[test]
fn labels_are_escaped() {
    let mut services = services();
    Arc::get_mut(&mut services).expect("the only one").all[0].name = "a\"b\\c\nd".to_owned();
    let worker = Counters::new(3);
    worker.request_ended(&Ended { route: Some("\"\\\n} 1\n# EOF"), ..a_request() });
    let page = metrics(&services, &[worker]).page(Format::OpenMetrics);
    check(&page, &[r#"orchestrator_requests_total{service="a\"b\\c\nd",status_class="2xx"} 1"#]);
    assert!(page.contains(r#"http_route="\"\\\n} 1\n# EOF""#), "{page}");
    assert_eq!(page.lines().filter(|line| line.contains("# EOF")).count(), 18);
}

#[test]
fn a_page_is_openmetrics() {
    let worker = Counters::new(3);
    worker.request_ended(&a_request());
    worker.attempted(&an_attempt());
    let page = page(&[worker]);
    assert!(page.ends_with("\n# EOF\n"));
    assert_eq!(page.matches("# EOF").count(), 1);
    let names = |kind: &str| -> Vec<String> {
        let of = |line: &str| Some(line.strip_prefix(kind)?.split_once(' ')?.0.to_owned());
        page.lines().filter_map(of).collect()
    };
    let described = names("# HELP ");
    assert_eq!(described, names("# TYPE "));
    let mut once = described.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), described.len(), "each family once");
    for line in page.lines().filter(|line| line.starts_with("# HELP ")) {
        assert!(line.ends_with('.'), "a sentence: {line}");
    }
    // Every sample belongs to the family above it.
    let mut family = "";
    for line in page.lines().take_while(|line| *line != "# EOF") {
        match line.strip_prefix("# HELP ") {
            Some(help) => family = help.split(' ').next().expect("a name"),
            None => assert!(line.trim_start_matches("# TYPE ").contains(family), "{line}"),
        }
    }
}

#[test]
fn the_older_format_has_the_same_samples() {
    let worker = Counters::new(3);
    worker.request_ended(&a_request());
    let metrics = metrics(&services(), &[worker]);
    let samples = |page: &str| -> Vec<String> {
        // What the machine says changes from one page to the next.
        let wanted = |line: &&str| !line.starts_with('#') && !line.starts_with("process_");
        page.lines().filter(wanted).map(str::to_owned).collect()
    };
    let plain = metrics.page(Format::Plain);
    assert_eq!(samples(&plain), samples(&metrics.page(Format::OpenMetrics)));
    check(
        &plain,
        &[
            "# TYPE orchestrator_requests_total counter",
            "# TYPE orchestrator_connections_open gauge",
            "# TYPE orchestrator_build_info gauge",
            "# TYPE http_server_request_duration_seconds histogram",
            "# HELP orchestrator_build_info The version of this gateway.",
        ],
    );
    for line in plain.lines().filter(|line| line.starts_with('#')) {
        assert!(line.starts_with("# HELP ") || line.starts_with("# TYPE "), "{line}");
        assert!(!line.ends_with(" info") && !line.ends_with(" unknown"), "{line}");
    }
}

#[test]
fn a_scraper_gets_the_format_that_it_knows() {
    for (accept, format) in [
        (None, Format::OpenMetrics),
        (Some("*/*"), Format::OpenMetrics),
        (
            Some("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"),
            Format::OpenMetrics,
        ),
        (Some("text/plain"), Format::Plain),
        (Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), Format::Plain),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
}

/// What each key of the configuration limits, and where its metric is; or why it has none.
mod limits {
    use super::*;

    enum Key {
        /// `orchestrator_limit_hits_total` has it.
        Limit,
        /// The same under this key, with which it makes one limit.
        With(&'static str),
        /// It is not a limit that can bite while the gateway serves.
        None,
    }
    use Key::{Limit, None, With};

    const KEYS: &[(&str, Key)] = &[
        ("server.listen", None),
        ("server.workers", None),
        ("server.pages", None),
        ("server.pages_prefix", None),
        ("server.trusted_proxies", None),
        ("server.strict_paths", None),
        ("server.cache_dir", None),
        ("server.state_dir", None),
        ("server.watch", None),
        ("server.drain_delay", None),
        ("server.drain_timeout", Limit),
        ("admin.listen", None),
        ("admin.tokens", None),
        ("proxy.request_timeout", Limit),
        ("proxy.attempt_timeout", Limit),
        ("proxy.idle_timeout", Limit),
        ("proxy.tunnel_idle_timeout", Limit),
        ("proxy.connect_timeout", Limit),
        ("proxy.replay_body_max", Limit),
        ("proxy.retry_attempts_max", Limit),
        ("proxy.retry_delay_max", Limit),
        ("proxy.retry_budget_ratio", Limit),
        ("proxy.retry_budget_min_per_s", With("proxy.retry_budget_ratio")),
        ("limits.connections", Limit),
        ("limits.header_bytes", Limit),
        ("limits.header_count", Limit),
        ("limits.header_timeout", Limit),
        ("limits.keep_alive_timeout", Limit),
        ("limits.body_rate_min", Limit),
        ("limits.body_bytes", Limit),
        ("health.interval", None),
        ("health.timeout", Limit),
        ("health.path", None),
        ("health.history", None),
        ("breaker.failure_threshold", With("breaker.open_for")),
        ("breaker.open_for", Limit),
        ("breaker.success_threshold", With("breaker.open_for")),
        ("breaker.timeout_floor", None),
        ("log.level", None),
        ("log.access", None),
        ("policy_limits.decision_timeout", Limit),
        ("policy_limits.wall_timeout", Limit),
        ("policy_limits.configure_timeout", Limit),
        ("policy_limits.memory_max", Limit),
        ("policy_limits.result_max", Limit),
        ("policy_limits.instances_max", With("policy_limits.wall_timeout")),
        ("policy_limits.stack_max", Limit),
        ("policy_limits.table_elements_max", Limit),
        ("policy_limits.tables_max", Limit),
        ("policy_limits.core_instances_max", Limit),
        ("policy_limits.log_lines_per_s", Limit),
        ("policy_limits.component_max", Limit),
        ("policy_limits.compile_memory_max", Limit),
        ("policy_limits.compile_cpu", Limit),
        ("policy_limits.compile_cpu_per_mib", With("policy_limits.compile_cpu")),
        ("policy_limits.compile_timeout", Limit),
        ("policy_limits.self_test_timeout", Limit),
        ("policy_limits.fault_threshold", Limit),
        ("policy_limits.fault_window", With("policy_limits.fault_threshold")),
    ];

    /// The keys of `config.rs`, but for the tables whose keys are words of CORS, services and
    /// policies.
    fn keys() -> Vec<String> {
        let source = include_str!("../../config.rs");
        let mut keys = Vec::new();
        let mut section = Option::None;
        let mut is_doc = false;
        for line in source.lines() {
            if let Some(rest) = line.strip_prefix("/// `[") {
                section = rest.split_once("]`").map(|(name, _)| name.to_owned());
                is_doc = true;
            } else if line.starts_with("pub struct") {
                section = section.take().filter(|_| is_doc);
                is_doc = false;
            } else if let (Some(section), Some(field)) = (&section, line.strip_prefix("    pub ")) {
                let field = field.split(':').next().expect("a field has a type");
                keys.push(format!("{section}.{field}"));
            }
        }
        let apart = ["cors.", "services.", "policy.routing"];
        keys.retain(|key| apart.iter().all(|table| !key.starts_with(table)));
        keys
    }

    #[test]
    fn every_key_of_the_configuration_is_looked_at() {
        let keys = keys();
        assert!(keys.len() > 25, "config.rs is not read as it is written: {keys:?}");
        for key in &keys {
            assert!(
                KEYS.iter().any(|(known, _)| known == key),
                "`{key}` is new: say in this table whether it is a limit; a limit is counted when \
                 it bites (`limits!` in words.rs)"
            );
        }
        for (known, _) in KEYS {
            assert!(keys.iter().any(|key| key == known), "there is no `{known}` any more");
        }
    }

    #[test]
    fn every_limit_is_shown_before_it_bites() {
        let page = page(&[Counters::new(3)]);
        let shown: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix(r#"orchestrator_limit_hits_total{limit=""#))
            .map(|rest| rest.split('"').next().expect("a label"))
            .collect();
        for (key, of) in KEYS {
            match of {
                Limit => assert!(shown.contains(key), "`{key}` has no metric"),
                With(other) => {
                    assert!(KEYS.iter().any(|(known, of)| known == other && matches!(of, Limit)));
                }
                None => assert!(!shown.contains(key), "`{key}` is said to be no limit"),
            }
        }
        for key in shown.iter().filter(|key| !key.starts_with('(')) {
            assert!(KEYS.iter().any(|(known, _)| known == key), "`{key}` is no key");
        }
    }
}
