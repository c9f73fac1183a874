//! What a service may have of its own: each key under `[services.<name>]` counts for that service and
//! for no other.

use std::time::{Duration, Instant};

use orchestrator_tests::{Answer, Gateway, Request, Upstream, eventually, service};

/// `/w` leads to `writer`, for which the keys are set, and `/r` to `research`, which has them not.
const ROUTES: &str = r#"policy.routing.config.routes = [{ path_prefix = "/w", service = "writer" }, { path_prefix = "/r", service = "research" }]"#;

/// One attempt a request, which opens no circuit.
const ONCE: &str = "policy.retry.config.attempts = 1\nbreaker.failure_threshold = 1000";

async fn before(writer: &Upstream, research: &Upstream, lines: &str) -> Gateway {
    let services = [service("writer", [writer]), service("research", [research])].join("\n");
    Gateway::start(format!("{services}\n{ROUTES}\n{lines}")).await
}

async fn both(answer: Answer) -> (Upstream, Upstream) {
    (Upstream::answering([answer.clone()]).await, Upstream::answering([answer]).await)
}

#[tokio::test]
async fn the_host_that_the_client_asked_for() {
    let (writer, research) = both(Answer::ok("")).await;
    let lines = "services.writer.host = \"client\"";
    let gateway = before(&writer, &research, lines).await;
    for target in ["/w", "/r"] {
        gateway.call(Request::get(target).header("Host", "shop.test:81")).await;
    }
    assert_eq!(writer.request().header("host").unwrap(), "shop.test:81");
    assert_eq!(research.request().header("host").unwrap(), research.authority());
    // Where there is none, the endpoint's.
    let mut client = gateway.connect().await;
    client.send("GET /w HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.reply().await.status(), 200);
    assert_eq!(writer.requests()[1].header("host").unwrap(), writer.authority());
}

#[tokio::test]
async fn a_shorter_or_longer_time_for_a_request() {
    let (writer, research) = both(Answer::ok("late").after(Duration::from_millis(600))).await;
    for (own, general, status) in [("200ms", "30s", [504, 200]), ("30s", "200ms", [200, 504])] {
        let lines = format!(
            "services.writer.request_timeout = {own:?}\nproxy.request_timeout = {general:?}\n{ONCE}"
        );
        let gateway = before(&writer, &research, &lines).await;
        assert_eq!([gateway.get("/w").await.status(), gateway.get("/r").await.status()], status);
    }
}

#[tokio::test]
async fn a_time_for_an_attempt() {
    let (writer, research) = both(Answer::ok("late").after(Duration::from_millis(600))).await;
    let lines = format!("services.writer.attempt_timeout = \"200ms\"\n{ONCE}");
    let gateway = before(&writer, &research, &lines).await;
    let reply = gateway.get("/w").await;
    assert_eq!(reply.problem(504), "writer service timeout");
    assert_eq!(gateway.access_of(&reply).await["tried"][0]["outcome"], "attempt_timeout");
    assert_eq!(gateway.get("/r").await.text(), "late");
}

#[tokio::test]
async fn how_long_a_body_may_stand_still() {
    let half = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
    let (writer, research) = both(half.then_hang()).await;
    let gateway = before(&writer, &research, "services.writer.idle_timeout = \"200ms\"").await;
    let mut other = gateway.connect().await;
    other.begin(&Request::get("/r")).await;
    other.head().await;
    assert_eq!(other.wire.exactly(4).await.unwrap(), b"half");
    // Of a response, and of a request.
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/w")).await;
    client.head().await;
    assert_eq!(client.wire.exactly(4).await.unwrap(), b"half");
    client.ended().await;
    let mut client = gateway.connect().await;
    client.send("PUT /w HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf").await;
    assert_eq!(client.reply().await.problem(408), "the request's body stopped coming");
    let of_research = [("service", "research")];
    let in_flight = gateway.metrics().await.sum("orchestrator_in_flight_requests", &of_research);
    assert_eq!(in_flight, 1.0, "the other service's has 30 s");
}

#[tokio::test]
async fn a_time_to_connect() {
    let (nowhere, other) = (Upstream::unreachable(), Upstream::unreachable());
    let lines = format!(
        "services.writer.endpoints = [{:?}]\nservices.research.endpoints = [{:?}]\n{ROUTES}\n{ONCE}\n\
         services.writer.connect_timeout = \"200ms\"\nproxy.request_timeout = \"1s\"",
        nowhere.url(),
        other.url()
    );
    let gateway = Gateway::start(lines).await;
    let reply = gateway.get("/w").await;
    assert_eq!(reply.problem(503), "writer service unavailable: no connection");
    // The other's 5 s are more than the request has.
    assert_eq!(gateway.get("/r").await.problem(504), "research service timeout");
}

#[tokio::test]
async fn checks_under_a_path_and_at_a_pace() {
    let (writer, research) = both(Answer::ok("")).await;
    let lines = "services.writer.health = { path = \"/up\", interval = \"50ms\" }\n\
                 health.interval = \"1h\"";
    let _gateway = before(&writer, &research, lines).await;
    writer.checked(5).await;
    research.checked(1).await;
    assert!(writer.checks().iter().all(|check| check.line() == "GET /up"));
    let [check] = &research.checks()[..] else { panic!("{:?}", research.checks()) };
    assert_eq!(check.line(), "GET /health");
}

#[tokio::test]
async fn a_time_for_a_check_and_a_history_of_them() {
    let (writer, research) = (Upstream::start().await, Upstream::start().await);
    let failed = || Answer::status(500);
    for upstream in [&writer, &research] {
        upstream.answer_checks([failed(), Answer::ok("{}"), Answer::hang()]);
    }
    let lines = "services.writer.health = { timeout = \"100ms\", history = 2 }\n\
                 health.interval = \"50ms\"\nbreaker.failure_threshold = 1000";
    let gateway = before(&writer, &research, lines).await;
    // One of two passed, and then none of two: the third and the fourth had no answer in time.
    let seen = |status: &serde_json::Value| status["uptime_percentage"] == 0.0;
    gateway.status_of("writer", |it| seen(it) && it["consecutive_failures"] == 2).await;
    let waiting = gateway.get("/health/status/research").await.json();
    assert_eq!(waiting["status"], "healthy", "{waiting}");
    assert_eq!(research.checks().len(), 3);
}

#[tokio::test]
async fn a_circuit_with_its_own_thresholds() {
    let (writer, research) = both(Answer::status(503)).await;
    let lines = "services.writer.breaker = { failure_threshold = 1, open_for = \"300ms\", success_threshold = 1 }\n\
                 policy.retry.config.attempts = 1";
    let gateway = before(&writer, &research, lines).await;
    let circuit = async |name: &str| {
        let status = gateway.get(&format!("/health/status/{name}")).await.json();
        status["circuit_state"].as_str().unwrap().to_owned()
    };
    for target in ["/w", "/r", "/r"] {
        gateway.get(target).await;
    }
    assert_eq!(gateway.get("/w").await.header("retry-after").as_deref(), Some("1"));
    assert_eq!(circuit("research").await, "closed");
    gateway.get("/r").await;
    assert_eq!(gateway.get("/r").await.header("retry-after").as_deref(), Some("60"));
    // One success is enough.
    writer.answer([Answer::ok("well again")]);
    eventually("an attempt to be let through", async || {
        (gateway.get("/w").await.text() == "well again").then_some(())
    })
    .await;
    assert_eq!(circuit("writer").await, "closed");
    assert_eq!(circuit("research").await, "open");
}

#[tokio::test]
async fn a_floor_for_the_timeouts_that_count() {
    let (writer, research) = both(Answer::hang()).await;
    let lines = "services.writer.breaker.timeout_floor = \"50ms\"\nproxy.attempt_timeout = \"100ms\"\n\
                 breaker.failure_threshold = 1\npolicy.retry.config.attempts = 1";
    let gateway = before(&writer, &research, lines).await;
    let begun = Instant::now();
    for target in ["/w", "/r"] {
        gateway.get(target).await.problem(504);
    }
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(gateway.get("/w").await.problem(503), "writer service unavailable: circuit open");
    gateway.get("/r").await.problem(504);
}
