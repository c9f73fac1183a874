//! A client that leaves, at each stage of its request: what is done for it ends at once, nobody is
//! blamed, and the log has its line.

use std::time::Duration;

use orchestrator_tests::{
    Answer, Client, Gate, Gateway, Request, Upstream, component, eventually, service, toml_path,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// The line of the one request, once nothing of it is left.
async fn line_of_the_departed(gateway: &Gateway, writer: &Upstream) -> Value {
    let line = line_of_the_lost(gateway).await;
    eventually("the service to be let go", async || (writer.connections().1 == 0).then_some(()))
        .await;
    line
}

/// The same where the service does not look at its connection.
async fn line_of_the_lost(gateway: &Gateway) -> Value {
    let line = gateway.access_line(|_| true).await;
    eventually("nothing to be under way", async || {
        let metrics = gateway.metrics().await;
        let of = |name| metrics.sum(name, &[]);
        let left = of("orchestrator_in_flight_requests") + of("orchestrator_connections_open");
        (left == 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.access.lines().len(), 1, "{:?}", gateway.access);
    let status = gateway.get("/health/status").await.json();
    for (name, service) in status["services"].as_object().unwrap() {
        assert_eq!(service["circuit_state"], "closed", "{name}: {service}");
    }
    line
}

fn is_gone(line: &Value, attempts: usize) {
    assert_eq!((&line["status"], &line["why"]), (&json!(499), &json!("client_gone")), "{line}");
    assert_eq!(line["attempts"], json!(attempts), "{line}");
    assert_eq!(line["tried"].as_array().unwrap().len(), attempts, "{line}");
}

/// Each failed attempt would open the circuit.
const ONE_FAULT_OPENS: &str = "breaker.failure_threshold = 1";

/// The second attempt comes long after the end of the test.
const WAITING: &str = "policy.retry.config.delay = \"5m\"\nproxy.retry_delay_max = \"5m\"\n\
                       proxy.request_timeout = \"1h\"\nproxy.idle_timeout = \"1h\"";

/// Request and end arrive at once, and some are noticed together.
#[tokio::test]
async fn before_its_request_was_read() {
    const MANY: usize = 100;
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], ONE_FAULT_OPENS).await;
    gateway.halt();
    for _ in 0..MANY {
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
    }
    gateway.go_on();
    eventually("a line for each", async || (gateway.access.lines().len() == MANY).then_some(()))
        .await;
    for line in gateway.access.lines() {
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["status"], &line["why"]), (&json!(499), &json!("client_gone")), "{line}");
    }
}

#[tokio::test]
async fn while_its_request_is_routed() {
    let writer = Upstream::start().await;
    let gateway = Gateway::start(format!(
        "{}\npolicy.routing.component = {}\npolicy_limits.decision_timeout = \"1s\"",
        service("writer", [&writer]),
        toml_path(&component("spin"))
    ))
    .await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/evil")).await;
    drop(client);
    let line = line_of_the_departed(&gateway, &writer).await;
    is_gone(&line, 0);
    assert_eq!(line["service"], Value::Null);
}

#[tokio::test]
async fn while_services_are_asked_for_their_health() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "health.timeout = \"3s\"").await;
    writer.checked(1).await;
    writer.answer_checks([Answer::hang()]);
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/health")).await;
    writer.checked(2).await;
    drop(client);
    is_gone(&line_of_the_departed(&gateway, &writer).await, 0);
}

#[tokio::test]
async fn while_a_connection_is_made() {
    let (writer, nowhere) = (Upstream::start().await, Upstream::unreachable());
    let lines = [
        service("writer", [&writer]),
        format!("services.research.endpoints = [{:?}]", nowhere.url()),
        r#"policy.routing.config.routes = [{ path_prefix = "/", service = "research" }]"#.into(),
        ONE_FAULT_OPENS.into(),
        "proxy.connect_timeout = \"1m\"\nhealth.interval = \"1h\"\nhealth.timeout = \"1m\"".into(),
    ];
    let gateway = Gateway::start(lines.join("\n")).await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    let in_flight = [("service", "research")];
    gateway.metric_reaches("orchestrator_in_flight_requests", &in_flight, 1.0).await;
    drop(client);
    let line = line_of_the_departed(&gateway, &writer).await;
    is_gone(&line, 1);
    assert_eq!(line["tried"][0]["outcome"], "client_gone");
}

#[tokio::test]
async fn before_the_next_attempt() {
    let writer = Upstream::answering([Answer::status(503)]).await;
    let gateway = Gateway::before([&writer], WAITING).await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    gateway.metric_reaches("orchestrator_retries_total", &[("service", "writer")], 1.0).await;
    drop(client);
    let line = line_of_the_departed(&gateway, &writer).await;
    is_gone(&line, 1);
    assert_eq!(line["tried"][0]["outcome"], 503);
    assert_eq!(writer.count(), 1);
}

/// Whoever ends its half of the connection is not told apart from whoever is gone.
#[tokio::test]
async fn by_ending_its_half_of_the_connection() {
    let writer = Upstream::answering([Answer::hang()]).await;
    let gateway = Gateway::before([&writer], ONE_FAULT_OPENS).await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    writer.received(|_| true).await;
    client.wire.stream.shutdown().await.unwrap();
    is_gone(&line_of_the_departed(&gateway, &writer).await, 1);
    client.ended().await;
}

#[tokio::test]
async fn amid_its_own_body() {
    for departure in [drop, Client::reset] {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], ONE_FAULT_OPENS).await;
        let mut client = gateway.connect().await;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
        writer.received(|received| received.body == b"half").await;
        departure(client);
        let line = line_of_the_departed(&gateway, &writer).await;
        // It may have ended its own half alone, and so there is an answer.
        assert_eq!(
            (&line["status"], &line["why"]),
            (&json!(400), &json!("client_broke")),
            "{line}"
        );
        assert_eq!(line["tried"][0]["outcome"], "client_broke", "{line}");
        assert_eq!((&line["attempts"], &line["bytes_in"]), (&json!(1), &json!(4)), "{line}");
        assert!(!writer.request().whole);
    }
}

/// While nobody takes the body, nobody reads on, and so nobody would see what is behind it.
#[tokio::test]
async fn amid_a_body_that_its_service_does_not_take() {
    let writer = Upstream::answering([Answer::hang().before_body()]).await;
    let lines = format!("{ONE_FAULT_OPENS}\nproxy.idle_timeout = \"1h\"");
    let gateway = Gateway::before([&writer], lines).await;
    let mut client = gateway.connect().await;
    let length = 1_000_000_000;
    client.send(format!("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
    assert!(client.send_until_stuck(length).await < length);
    client.reset();
    is_gone(&line_of_the_lost(&gateway).await, 1);
}

/// The same where the client was waited for before, and no timer is left of that.
#[tokio::test]
async fn amid_a_body_that_its_service_has_taken_for_a_while() {
    let writer = Upstream::answering([Answer::hang().before_body()]).await;
    let lines = "proxy.idle_timeout = \"1h\"\nlimits.body_rate_min = \"off\"\n\
                 limits.keep_alive_timeout = \"1s\"";
    let gateway = Gateway::before([&writer], lines).await;
    let mut client = gateway.connect().await;
    let length = 1_000_000_000;
    client.send(format!("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
    client.send(vec![b'x'; 100_000]).await;
    // All of that is taken, and more is waited for.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(client.send_until_stuck(length).await < length);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.reset();
    is_gone(&line_of_the_lost(&gateway).await, 1);
}

#[tokio::test]
async fn amid_a_body_that_waits_for_the_next_attempt() {
    for departure in [drop, Client::reset] {
        let writer = Upstream::answering([Answer::status(503).before_body()]).await;
        let gateway = Gateway::before([&writer], WAITING).await;
        let mut client = gateway.connect().await;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
        gateway.metric_reaches("orchestrator_retries_total", &[("service", "writer")], 1.0).await;
        departure(client);
        is_gone(&line_of_the_departed(&gateway, &writer).await, 1);
        assert_eq!(writer.count(), 1);
    }
}

#[tokio::test]
async fn with_another_request_behind_the_one_that_waits() {
    for departure in [drop, Client::reset] {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], ONE_FAULT_OPENS).await;
        let mut client = gateway.connect().await;
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        writer.received(|_| true).await;
        departure(client);
        is_gone(&line_of_the_departed(&gateway, &writer).await, 1);
        assert_eq!(writer.count(), 1);
    }
}

/// The service has agreed to another protocol, and nobody is there to be told.
#[tokio::test]
async fn before_its_tunnel_begins() {
    let gate = Gate::new();
    let agreed =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n";
    let writer = Upstream::answering([Answer::bytes(agreed).behind(&gate).then_flood()]).await;
    let gateway = Gateway::before([&writer], ONE_FAULT_OPENS).await;
    let mut client = gateway.connect().await;
    let upgrade = Request::get("/x").header("Connection", "upgrade").header("Upgrade", "chat/1");
    client.begin(&upgrade).await;
    writer.received(|_| true).await;
    // It learns of both at once.
    gateway.halt();
    client.reset();
    gate.open();
    eventually("the 101 to be sent", async || (writer.flooded() > 0).then_some(())).await;
    gateway.go_on();
    let line = line_of_the_departed(&gateway, &writer).await;
    assert_eq!((&line["status"], &line["why"]), (&json!(101), &json!("client_gone")), "{line}");
}

#[tokio::test]
async fn amid_a_tunnel() {
    let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
    let gateway = Gateway::before([&writer], ONE_FAULT_OPENS).await;
    let mut client = gateway.connect().await;
    let upgrade = Request::get("/x").header("Connection", "upgrade").header("Upgrade", "chat/1");
    client.begin(&upgrade).await;
    assert_eq!(client.head().await.status(), 101);
    client.reset();
    let line = line_of_the_departed(&gateway, &writer).await;
    assert_eq!((&line["status"], &line["why"]), (&json!(101), &json!("tunnel_broken")), "{line}");
}
