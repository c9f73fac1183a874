//! `Expect: 100-continue`: the service asks for the body, and nobody else.

use orchestrator_tests::{Answer, Gate, Gateway, Request, Upstream, within};

const ANNOUNCED: &str =
    "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[tokio::test]
async fn the_services_100_reaches_the_client_and_then_the_body_the_service() {
    let writer = Upstream::answering([Answer::ok("hello").asking_for_the_body()]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    for count in 1..=2 {
        client.send(ANNOUNCED).await;
        assert_eq!(client.head().await.status(), 100);
        client.send("body").await;
        assert_eq!(client.reply().await.text(), "hello", "and the connection serves on");
        let received = &writer.requests()[count - 1];
        assert_eq!(received.header("expect").as_deref(), Some("100-continue"));
        assert_eq!(received.body, b"body");
    }
}

#[tokio::test]
async fn a_final_answer_is_all_that_the_client_gets_where_the_service_does_not_ask() {
    let refusal = Answer::status(417).before_body();
    let writer = Upstream::answering([refusal]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(ANNOUNCED).await;
    let reply = client.reply().await;
    assert_eq!((reply.status(), reply.text().as_str()), (417, "417 by the upstream"));
    // Whether the body follows is the client's choice, so what comes next could not be understood.
    assert_eq!(reply.header("connection").as_deref(), Some("close"));
    client.ended().await;
}

/// A 100 behind the final head would be a part of that response, or the next one.
#[tokio::test]
async fn a_service_that_asks_and_answers_at_once_makes_no_mess_of_the_response() {
    let gate = Gate::new();
    let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let answer = Answer::bytes(head).before_body().then_wait(&gate).then_send("world");
    let writer = Upstream::answering([answer]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(ANNOUNCED).await;
    let mut head = client.head().await;
    if head.status() == 100 {
        head = client.head().await;
    }
    assert_eq!(head.status(), 200);
    client.send("body").await;
    gate.open();
    assert_eq!(within("the body", client.wire.exactly(10)).await.unwrap(), b"helloworld");
}

#[tokio::test]
async fn a_body_that_comes_unasked_is_passed_on() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(format!("{ANNOUNCED}body")).await;
    assert_eq!(client.reply().await.text(), "hello");
    assert_eq!(writer.request().body, b"body");
}

#[tokio::test]
async fn a_service_that_asks_late_is_still_heard() {
    let gate = Gate::new();
    let writer = Upstream::answering([Answer::ok("late").asking_behind(&gate)]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(ANNOUNCED).await;
    writer.received(|_| true).await;
    gate.open();
    assert_eq!(client.head().await.status(), 100);
    client.send("body").await;
    assert_eq!(client.reply().await.text(), "late");
}

/// Clients may wait for ever, and nobody else would ask them.
#[tokio::test]
async fn the_next_attempt_asks_where_the_one_before_ended_without() {
    let refusal = Answer::status(503).before_body();
    let asking = Answer::ok("second").asking_for_the_body();
    let writer = Upstream::answering([refusal, asking]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(ANNOUNCED.replace("POST", "PUT")).await;
    assert_eq!(client.head().await.status(), 100);
    client.send("body").await;
    assert_eq!(client.reply().await.text(), "second");
    let received = &writer.requests()[1];
    assert_eq!(received.header("expect").as_deref(), Some("100-continue"));
    assert_eq!(received.body, b"body");
}

#[tokio::test]
async fn the_next_attempt_does_not_ask_a_client_that_was_asked() {
    let gate = Gate::new();
    let dying = Answer::close().before_body().asking_for_the_body().behind(&gate);
    let writer = Upstream::answering([dying, Answer::ok("second")]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(ANNOUNCED.replace("POST", "PUT")).await;
    assert_eq!(client.head().await.status(), 100);
    gate.open();
    writer.received(|received| !received.head.has("expect")).await;
    client.send("body").await;
    assert_eq!(client.reply().await.text(), "second");
    assert_eq!(writer.requests()[1].body, b"body");
}

#[tokio::test]
async fn a_new_connection_in_place_of_one_that_had_died_asks_too() {
    let asking = Answer::ok("second").asking_for_the_body();
    let writer = Upstream::answering([Answer::ok("first").then_close(), asking]).await;
    let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
    assert_eq!(gateway.get("/x").await.text(), "first");
    let mut client = gateway.connect().await;
    client.send(ANNOUNCED.replace("POST", "PUT")).await;
    assert_eq!(client.head().await.status(), 100);
    client.send("body").await;
    assert_eq!(client.reply().await.text(), "second");
}

#[tokio::test]
async fn the_gateways_own_answers_need_no_body() {
    let writer = Upstream::down();
    let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
    let unrouted = "POST /health/status/nobody HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                    Content-Length: 4\r\n\r\n";
    for (request, status) in [(ANNOUNCED, 503), (unrouted, 405)] {
        let mut client = gateway.connect().await;
        client.send(request).await;
        let reply = client.reply().await;
        reply.problem(status);
        assert_eq!(reply.header("connection").as_deref(), Some("close"));
        client.ended().await;
    }
}

#[tokio::test]
async fn a_request_without_a_body_expects_nothing() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    let reply = gateway.call(Request::get("/x").header("Expect", "100-continue")).await;
    assert_eq!(reply.status(), 200);
    assert!(!writer.request().head.has("expect"));
}
