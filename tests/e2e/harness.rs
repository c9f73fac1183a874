//! The harness itself: an upstream that did not do as told would make every other test lie.

use orchestrator_tests::{Answer, Client, Gate, Request, Upstream, within};
use std::time::Duration;
use tokio::net::TcpStream;

async fn to(upstream: &Upstream) -> Client {
    Client::connect(upstream.authority().parse().unwrap()).await
}

#[tokio::test]
async fn an_upstream_keeps_what_it_receives_and_answers_in_turn() {
    let upstream = Upstream::answering([Answer::status(503), Answer::ok("fine")]).await;
    let mut client = to(&upstream).await;
    let failed = client.call(Request::post("/a?b", "body").header("X-A", b"\xff")).await;
    let chunked =
        "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    client.send(chunked).await;
    assert_eq!((failed.status(), client.reply().await.text()), (503, "fine".into()));

    let [first, second] = <[_; 2]>::try_from(upstream.requests()).unwrap();
    assert_eq!((first.line().as_str(), first.body.as_slice()), ("POST /a?b", b"body".as_slice()));
    assert_eq!(first.head.values("x-a"), [b"\xff"]);
    assert_eq!((second.body.as_slice(), second.whole), (b"abcd".as_slice(), true));
    assert_eq!(upstream.connections(), (1, 1));
}

#[tokio::test]
async fn an_upstream_breaks_connections_as_told() {
    let upstream = Upstream::start().await;
    for (answer, expected) in [
        (Answer::close(), "the end"),
        (Answer::reset(), "a reset"),
        (Answer::bytes("HTTP/1.1 200 OK\r\nContent-Le").then_close(), "half a head"),
    ] {
        upstream.answer([answer]);
        let mut client = to(&upstream).await;
        client.begin(&Request::get("/")).await;
        let seen = match within("an end", client.wire.head()).await {
            Ok(None) => "the end",
            Ok(Some(_)) => "an answer",
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "half a head",
            Err(_) => "a reset",
        };
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn an_answer_behind_a_gate_waits_for_it() {
    let gate = Gate::new();
    let upstream = Upstream::answering([Answer::ok("late").behind(&gate)]).await;
    let mut client = to(&upstream).await;
    client.begin(&Request::get("/")).await;
    upstream.received(|request| request.whole).await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.wire.head()).await;
    assert!(early.is_err(), "answered before the gate was open");
    gate.open();
    assert_eq!(client.reply().await.text(), "late");
}

#[tokio::test]
async fn an_upstream_that_is_down_refuses_and_keeps_its_port() {
    let mut upstream = Upstream::down();
    let address = upstream.authority();
    let refused = within("a refusal", TcpStream::connect(&address)).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    upstream.up();
    let mut client = to(&upstream).await;
    assert_eq!(client.call(Request::get("/")).await.text(), "hello");
    upstream.go_down().await;
    client.ended().await;
    assert!(within("a refusal", TcpStream::connect(&address)).await.is_err());
    upstream.up();
    assert_eq!(to(&upstream).await.call(Request::get("/")).await.text(), "hello");
}

#[tokio::test]
async fn an_unreachable_upstream_neither_accepts_nor_refuses() {
    let nowhere = Upstream::unreachable();
    let address = nowhere.url().replace("http://", "");
    let connecting = TcpStream::connect(address);
    let waited = tokio::time::timeout(Duration::from_millis(300), connecting).await;
    assert!(waited.is_err(), "{waited:?}");
}
