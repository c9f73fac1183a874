//! The checks: when they are sent, what they ask, what they change.

use std::time::Duration;

use orchestrator_tests::{Answer, EVERYTHING_TO_WRITER, Gateway, Upstream, eventually, service};

const OFTEN: &str = r#"health.interval = "50ms""#;

#[tokio::test]
async fn begin_at_start_and_go_on_once_per_process() {
    let writer = Upstream::start().await;
    let lines = "server.workers = 4\nhealth.interval = \"200ms\"";
    let begun = std::time::Instant::now();
    let gateway = Gateway::before([&writer], lines).await;
    writer.checked(6).await;
    // Four workers that checked each for itself would have been done within two intervals.
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?}", begun.elapsed());
    drop(gateway);
}

#[tokio::test]
async fn do_not_wait_for_an_interval_at_start() {
    let (writer, research) = (Upstream::start().await, Upstream::start().await);
    let lines = [service("writer", [&writer]), service("research", [&research])].join("\n");
    let _gateway =
        Gateway::start(format!("{lines}\n{EVERYTHING_TO_WRITER}\nhealth.interval = \"1h\"")).await;
    writer.checked(1).await;
    research.checked(1).await;
}

#[tokio::test]
async fn are_spread_by_jitter() {
    let writer = Upstream::start().await;
    let _gateway = Gateway::before([&writer], "health.interval = \"20ms\"").await;
    let mut at = Vec::new();
    for times in 1..=20 {
        writer.checked(times).await;
        at.push(std::time::Instant::now());
    }
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*most > *least, "{gaps:?}");
}

#[tokio::test]
async fn ask_for_the_health_path_at_the_endpoint_itself() {
    let writer = Upstream::start().await;
    let _gateway = Gateway::before([&writer], "").await;
    writer.checked(1).await;
    let check = &writer.checks()[0];
    assert_eq!(check.line(), "GET /health");
    assert_eq!(check.header("host").unwrap(), writer.authority());
    assert!(check.header("user-agent").unwrap().starts_with("orchestrator/"));
    for name in ["x-forwarded-for", "via"] {
        assert!(!check.head.has(name), "nobody stands behind a check: {:?}", check.head);
    }
}

#[tokio::test]
async fn ask_for_another_path_where_one_is_configured() {
    let writer = Upstream::start().await;
    let _gateway = Gateway::before([&writer], r#"health.path = "/up?deep=1""#).await;
    writer.checked(1).await;
    assert_eq!(writer.checks()[0].line(), "GET /up?deep=1");
}

#[tokio::test]
async fn find_out_that_a_service_went_down_and_that_it_came_back() {
    let mut writer = Upstream::start().await;
    let lines = format!("{OFTEN}\nbreaker.open_for = \"200ms\"");
    let gateway = Gateway::before([&writer], lines).await;
    gateway.status_of("writer", |it| it["status"] == "healthy").await;
    writer.go_down().await;
    gateway.status_of("writer", |it| it["status"] == "unhealthy").await;
    let up = [("service", "writer")];
    assert_eq!(gateway.metrics().await.sum("orchestrator_health_up", &up), 0.0);
    writer.up();
    let back = gateway.status_of("writer", |it| it["status"] == "healthy").await;
    assert_eq!(back["consecutive_failures"], 0);
    assert!(back["uptime_percentage"].as_f64().unwrap() < 100.0);
    assert_eq!(back["error"], serde_json::Value::Null);
    assert_eq!(gateway.metrics().await.sum("orchestrator_health_up", &up), 1.0);
}

#[tokio::test]
async fn that_get_no_answer_in_time_have_failed() {
    let writer = Upstream::start().await;
    writer.answer_checks([Answer::hang()]);
    let gateway = Gateway::before([&writer], r#"health.timeout = "100ms""#).await;
    let status = gateway.status_of("writer", |it| it["status"] == "unhealthy").await;
    assert!(status["response_time_ms"].as_f64().unwrap() >= 90.0, "{status}");
}

#[tokio::test]
async fn that_fail_once_do_not_stop_the_traffic() {
    let writer = Upstream::start().await;
    writer.answer_checks([Answer::status(500)]);
    let gateway = Gateway::before([&writer], "").await;
    gateway.status_of("writer", |it| it["status"] == "unhealthy").await;
    assert_eq!(gateway.get("/x").await.text(), "hello");
}

#[tokio::test]
async fn are_no_requests_in_log_and_metrics() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], OFTEN).await;
    writer.checked(5).await;
    let reply = gateway.get("/x").await;
    gateway.access_of(&reply).await;
    assert_eq!(gateway.access.lines().len(), 1, "{:?}", gateway.access);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("orchestrator_requests_total", &[("service", "writer")]), 1.0);
    assert_eq!(metrics.sum("orchestrator_attempts_total", &[("service", "writer")]), 1.0);
}

#[tokio::test]
async fn are_not_made_where_they_are_off_and_traffic_alone_moves_the_circuit() {
    let failing = (0..3).map(|_| Answer::status(503));
    let writer = Upstream::answering(failing.chain([Answer::ok("hello")])).await;
    writer.answer_checks([Answer::status(404)]);
    let research = Upstream::start().await;
    let services = [service("writer", [&writer]), service("research", [&research])].join("\n");
    let gateway = Gateway::start(format!(
        "{services}\n{EVERYTHING_TO_WRITER}\n{OFTEN}\nservices.writer.health.interval = \"off\"\n\
         breaker.open_for = \"100ms\"\npolicy.retry.config.attempts = 1"
    ))
    .await;
    research.checked(5).await;
    assert_eq!(writer.checks().len(), 0);
    gateway.status_of("writer", |it| it["status"] == "unknown").await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/x").await.status(), 503);
    }
    gateway.status_of("writer", |it| it["status"] == "unhealthy").await;
    eventually("the circuit to be half-open", async || {
        (gateway.get("/x").await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/x").await.text(), "hello");
    gateway.status_of("writer", |it| it["circuit_state"] == "closed").await;
    assert_eq!(writer.checks().len(), 0);
    let page = gateway.get("/health/status").await.json();
    assert_eq!(page["monitoring"]["running"], true, "of the other");
}

#[tokio::test]
async fn of_one_service_do_not_wait_for_those_of_another() {
    let (hanging, fine) = (Upstream::start().await, Upstream::start().await);
    hanging.answer_checks([Answer::hang()]);
    let lines = [service("writer", [&hanging]), service("research", [&fine]), OFTEN.into()];
    let gateway = Gateway::start(format!("{}\n{EVERYTHING_TO_WRITER}", lines.join("\n"))).await;
    fine.checked(5).await;
    assert_eq!(hanging.checks().len(), 1);
    let times = eventually("a later check", async || {
        let status = gateway.get("/health/status/research").await.json();
        status["last_check"].as_str().map(str::to_owned)
    })
    .await;
    gateway.status_of("research", |it| it["last_check"] != times.as_str()).await;
}

#[tokio::test]
async fn that_answer_without_end_are_given_up() {
    let writer = Upstream::start().await;
    let endless = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
    writer.answer_checks([endless.then_flood()]);
    let gateway = Gateway::before([&writer], "").await;
    let status = gateway.status_of("writer", |it| it["status"] != "unknown").await;
    assert_eq!(status["status"], "healthy", "2xx is 2xx");
    assert_eq!(status["details"], serde_json::json!({}));
    eventually("the connection to be closed", async || (writer.connections().1 == 0).then_some(()))
        .await;
}
