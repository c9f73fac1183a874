//! The ways in which a service can be down: halted, reset, silent, broken off, babbling. Each fails
//! like the others: the request is answered in time, another endpoint is tried, the circuit opens.

use std::time::{Duration, Instant};

use orchestrator_tests::{Answer, Gateway, Upstream, eventually};

const LINES: &str = "proxy.attempt_timeout = \"300ms\"\nbreaker.timeout_floor = \"100ms\"\n\
                     policy.retry.config.delay = \"0s\"";

/// What each kind of outage looks like to a client, with nothing else to go to and with another
/// endpoint.
async fn an_outage(down: impl Fn() -> Answer, status: u16, detail: &str) {
    let writer = Upstream::answering([down()]).await;
    let gateway = Gateway::before([&writer], LINES).await;
    let begun = Instant::now();
    let reply = gateway.get("/x").await;
    assert_eq!(reply.problem(status), detail);
    assert_eq!(gateway.access_of(&reply).await["attempts"], 3);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Three faults: the circuit is open, and says so at once.
    let reply = gateway.get("/x").await;
    assert_eq!(reply.problem(503), "writer service unavailable: circuit open");
    assert_eq!(reply.header("retry-after").as_deref(), Some("60"));
    assert_eq!(writer.count(), 3);

    let (down, fine) = (Upstream::answering([down()]).await, Upstream::start().await);
    let gateway = Gateway::before([&down, &fine], LINES).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/x").await.text(), "hello");
    }
}

#[tokio::test]
async fn silence() {
    an_outage(Answer::hang, 504, "writer service timeout").await;
}

#[tokio::test]
async fn a_reset() {
    an_outage(Answer::reset, 503, "writer service unavailable: connection lost").await;
}

#[tokio::test]
async fn half_a_head() {
    let half = || Answer::bytes("HTTP/1.1 200 OK\r\nContent-Le").then_close();
    an_outage(half, 503, "writer service unavailable: connection lost").await;
}

#[tokio::test]
async fn half_a_head_and_then_silence() {
    let half = || Answer::bytes("HTTP/1.1 200 OK\r\nContent-Le").then_hang();
    an_outage(half, 504, "writer service timeout").await;
}

#[tokio::test]
async fn garbage() {
    for garbage in [
        "\x16\x03\x01\x02\x00\r\n\r\n",
        "220 mail.test ESMTP\r\n\r\n",
        "HTTP/1.1 99999 What\r\n\r\n",
    ] {
        let babble = || Answer::bytes(garbage).then_close();
        an_outage(babble, 503, "writer service unavailable: connection lost").await;
    }
}

/// A process that the kernel still speaks for: it takes connections and requests, and answers none.
#[tokio::test]
async fn a_halted_process_until_it_goes_on() {
    let fine = Upstream::start().await;
    let service = Gateway::before([&fine], "").await;
    let endpoints = format!("services.writer.endpoints = [\"http://{}\"]", service.listen);
    let routes = orchestrator_tests::EVERYTHING_TO_WRITER;
    let lines = format!("{endpoints}\n{routes}\n{LINES}\nbreaker.open_for = \"200ms\"");
    let gateway = Gateway::start(lines).await;
    assert_eq!(gateway.get("/x").await.text(), "hello");
    service.halt();
    assert_eq!(gateway.get("/x").await.problem(504), "writer service timeout");
    assert_eq!(gateway.get("/x").await.problem(503), "writer service unavailable: circuit open");
    service.go_on();
    eventually("the circuit to close again", async || {
        (gateway.get("/x").await.status() == 200).then_some(())
    })
    .await;
}
