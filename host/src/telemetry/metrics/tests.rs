use super::*;

fn snapshot() -> Snapshot {
    let endpoint = |url: &str, circuit, healthy| EndpointSnapshot {
        url: url.to_owned(),
        circuit,
        transitions: [1, 2, 3],
        healthy,
    };
    Snapshot {
        services: vec![
            ServiceSnapshot {
                name: "writer".to_owned(),
                endpoints: vec![endpoint("http://a", Circuit::Open, Some(false))],
            },
            ServiceSnapshot {
                name: "research".to_owned(),
                endpoints: vec![
                    endpoint("http://b", Circuit::Closed, Some(true)),
                    endpoint("http://c", Circuit::HalfOpen, None),
                ],
            },
        ],
        access_log_dropped: 4,
    }
}

fn check(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.lines().any(|found| found == *line), "no {line:?} in\n{text}");
    }
}

#[test]
fn workers_count_apart_and_are_added_up() {
    let workers = [Counters::new(2), Counters::new(2)];
    for worker in &workers {
        worker.request(Served::Service(1), 200);
        worker.request(Served::Service(1), 204);
        worker.attempt(1, AttemptResult::ConnectionLost);
        worker.connection_opened();
    }
    workers[0].request(Served::Gateway, 200);
    workers[1].request(Served::None, 404);
    workers[1].retry(0, RetryReason::Status);
    workers[1].retry_refused(0, RetryRefusal::Budget);
    workers[1].connection_closed();
    workers[1].connection_refused();
    workers[1].cut(Cause::Header);
    workers[1].unparsed_request();
    workers[1].log_suppressed();
    check(
        &encode(&workers, snapshot()),
        &[
            r#"orchestrator_requests_total{service="research",status_class="2xx"} 4"#,
            r#"orchestrator_requests_total{service="writer",status_class="2xx"} 0"#,
            r#"orchestrator_requests_total{service="gateway",status_class="2xx"} 1"#,
            r#"orchestrator_requests_total{service="none",status_class="4xx"} 1"#,
            r#"orchestrator_attempts_total{service="research",outcome="connection_lost"} 2"#,
            r#"orchestrator_retries_total{service="writer",reason="status"} 1"#,
            r#"orchestrator_retry_refused_total{service="writer",reason="budget"} 1"#,
            "orchestrator_connections_open 1",
            "orchestrator_connections_total 2",
            "orchestrator_connections_refused_total 1",
            r#"orchestrator_connections_cut_total{cause="header"} 1"#,
            "orchestrator_unparsed_requests_total 1",
            "orchestrator_policy_fault_logs_suppressed_total 1",
            "orchestrator_access_log_dropped_total 4",
            concat!(r#"orchestrator_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ],
    );
}

#[test]
fn endpoints_show_their_circuit_and_their_health() {
    let text = encode(&[], snapshot());
    check(
        &text,
        &[
            r#"orchestrator_circuit_state{service="writer",endpoint="http://a"} 2"#,
            r#"orchestrator_circuit_state{service="research",endpoint="http://b"} 0"#,
            r#"orchestrator_circuit_state{service="research",endpoint="http://c"} 1"#,
            r#"orchestrator_circuit_transitions_total{service="writer",endpoint="http://a",to="closed"} 1"#,
            r#"orchestrator_circuit_transitions_total{service="writer",endpoint="http://a",to="half_open"} 2"#,
            r#"orchestrator_circuit_transitions_total{service="writer",endpoint="http://a",to="open"} 3"#,
            r#"orchestrator_health_up{service="writer",endpoint="http://a"} 0"#,
            r#"orchestrator_health_up{service="research",endpoint="http://b"} 1"#,
        ],
    );
    assert!(!text.contains(r#"health_up{service="research",endpoint="http://c"}"#), "not checked");
}

#[test]
fn decisions_fall_into_the_bucket_that_holds_them() {
    let worker = Counters::new(0);
    for nanoseconds in [650, 1_000, 1_001, 100_000_000, 100_000_001] {
        worker.decision(Policy::Routing, Duration::from_nanos(nanoseconds), None);
    }
    worker.decision(Policy::Retry, Duration::MAX, Some(FaultReason::Timeout));
    check(
        &encode(&[worker], Snapshot::default()),
        &[
            "# TYPE orchestrator_policy_decision_seconds histogram",
            r#"orchestrator_policy_decision_seconds_bucket{le="0.000001",policy="routing"} 2"#,
            r#"orchestrator_policy_decision_seconds_bucket{le="0.000002",policy="routing"} 3"#,
            r#"orchestrator_policy_decision_seconds_bucket{le="0.1",policy="routing"} 4"#,
            r#"orchestrator_policy_decision_seconds_bucket{le="+Inf",policy="routing"} 5"#,
            r#"orchestrator_policy_decision_seconds_count{policy="routing"} 5"#,
            r#"orchestrator_policy_decision_seconds_count{policy="retry"} 1"#,
            r#"orchestrator_policy_calls_total{policy="routing"} 5"#,
            r#"orchestrator_policy_faults_total{policy="retry",reason="timeout"} 1"#,
            r#"orchestrator_policy_faults_total{policy="routing",reason="trap"} 0"#,
        ],
    );
}

#[test]
fn every_status_has_a_class() {
    let worker = Counters::new(0);
    for status in [0, 99, 100, 199, 599, 600, u16::MAX] {
        worker.request(Served::None, status);
    }
    let text = encode(&[worker], Snapshot::default());
    check(
        &text,
        &[
            r#"orchestrator_requests_total{service="none",status_class="1xx"} 4"#,
            r#"orchestrator_requests_total{service="none",status_class="5xx"} 3"#,
        ],
    );
}

#[test]
fn no_metric_is_written_twice_and_the_text_is_complete() {
    let mut snapshot = snapshot();
    // A name that the gateway uses itself.
    snapshot.services[0].name = "none".to_owned();
    let text = encode(&[Counters::new(2)], snapshot);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<_> = samples.filter_map(|line| line.rsplit_once(' ')).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup_by_key(|(name, _)| *name);
    assert_eq!(names.len(), all);
    assert!(text.ends_with("# EOF\n"));
    for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(family.starts_with("orchestrator_"), "{family}");
    }
}
