//! What is counted is shown, summed over the workers, in a form that scrapers accept.

use std::time::SystemTime;

use super::*;
use crate::breaker::{Outcome, Source};
use crate::config::Config;
use crate::upstream::{Check, Checks, Services};

/// The built-in configuration: `writer`, `research` and `backend`, an endpoint each.
fn services() -> Arc<Services> {
    Services::new(&Config::builtin().0)
}

/// These are lines of the page.
fn check(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|other| other == *line), "no line\n{line}\nin\n{page}");
    }
}

#[test]
fn counters_are_summed_over_the_workers() {
    let workers = [Counters::new(3), Counters::new(3)];
    for worker in &workers {
        worker.request(Served::Service(0), 200);
        worker.request(Served::Service(0), 204);
        worker.request(Served::Service(2), 503);
        worker.request(Served::Gateway, 200);
        worker.request(Served::None, 404);
        worker.attempt(0, AttemptResult::Response);
        worker.attempt(0, AttemptResult::ConnectFailed);
        worker.retry(0, RetryReason::ConnectFailed);
        worker.retry_refused(1, RetryRefusal::Budget);
        worker.decision(Kind::Retry, Duration::from_micros(3), Some(FaultReason::CannotDecide));
        worker.connection_opened();
        worker.connection_opened();
        worker.connection_closed();
        worker.connection_refused();
        worker.unparsed_request();
        worker.cut(Cause::WriteStall);
        worker.log_suppressed();
    }
    workers[1].retry_refused(1, RetryRefusal::Budget);
    check(
        &encode(&services(), &workers, 7),
        &[
            r#"orchestrator_requests_total{service="writer",status_class="2xx"} 4"#,
            r#"orchestrator_requests_total{service="backend",status_class="5xx"} 2"#,
            r#"orchestrator_requests_total{service="backend",status_class="2xx"} 0"#,
            r#"orchestrator_requests_total{service="(gateway)",status_class="2xx"} 2"#,
            r#"orchestrator_requests_total{service="(none)",status_class="4xx"} 2"#,
            r#"orchestrator_attempts_total{service="writer",outcome="response"} 2"#,
            r#"orchestrator_attempts_total{service="writer",outcome="connect_failed"} 2"#,
            r#"orchestrator_attempts_total{service="writer",outcome="timeout"} 0"#,
            r#"orchestrator_retries_total{service="writer",reason="connect_failed"} 2"#,
            r#"orchestrator_retry_refused_total{service="research",reason="budget"} 3"#,
            r#"orchestrator_policy_calls_total{policy="routing"} 0"#,
            r#"orchestrator_policy_calls_total{policy="retry"} 2"#,
            r#"orchestrator_policy_faults_total{policy="retry",reason="cannot_decide"} 2"#,
            "orchestrator_connections_open 2",
            "orchestrator_connections_total 4",
            "orchestrator_connections_refused_total 2",
            r#"orchestrator_connections_cut_total{reason="write_stall"} 2"#,
            r#"orchestrator_connections_cut_total{reason="header"} 0"#,
            "orchestrator_unparsed_requests_total 2",
            "orchestrator_access_log_dropped_total 7",
            "orchestrator_log_suppressed_total 2",
            concat!(r#"orchestrator_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ],
    );
}

#[test]
fn a_status_counts_in_its_class() {
    let worker = Counters::new(3);
    for status in [0, 99, 101, 204, 302, 404, 499, 504, 599, 600, u16::MAX] {
        worker.request(Served::Service(1), status);
    }
    let page = encode(&services(), &[worker], 0);
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
        &encode(&services(), &workers, 0),
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
    let page = encode(&services, &[], 0);
    let writer = r#"{service="writer",endpoint="http://localhost:8000"}"#;
    let research = r#"{service="research",endpoint="http://localhost:8001"}"#;
    let moved = research.replace('}', ",to=");
    let moved = format!("orchestrator_circuit_transitions_total{moved}");
    check(
        &page,
        &[
            &format!("orchestrator_circuit_state{writer} 0"),
            &format!("orchestrator_circuit_state{research} 2"),
            &format!("{moved}\"open\"}} 1"),
            &format!("{moved}\"closed\"}} 0"),
            &format!("orchestrator_health_up{writer} 1"),
            &format!("orchestrator_health_up{research} 0"),
            &format!("orchestrator_in_flight_requests{writer} 0"),
            &format!("orchestrator_in_flight_requests{research} 5"),
        ],
    );
    assert!(!page.contains(r#"orchestrator_health_up{service="backend""#), "not checked yet");
}

#[test]
fn labels_are_escaped() {
    let mut services = services();
    Arc::get_mut(&mut services).expect("the only one").all[0].name = "a\"b\\c\nd".to_owned();
    let page = encode(&services, &[Counters::new(3)], 0);
    check(&page, &[r#"orchestrator_requests_total{service="a\"b\\c\nd",status_class="2xx"} 0"#]);
}

#[test]
fn a_page_is_openmetrics() {
    let page = encode(&services(), &[Counters::new(3)], 0);
    assert!(page.ends_with("\n# EOF\n"));
    assert_eq!(page.matches("# EOF").count(), 1);
    let names = |kind: &str| -> Vec<String> {
        let of = |line: &str| Some(line.strip_prefix(kind)?.split_once(' ')?.0.to_owned());
        page.lines().filter_map(of).collect()
    };
    let described = names("# HELP ");
    assert_eq!(described, names("# TYPE "));
    assert_eq!(described.len(), 19);
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
