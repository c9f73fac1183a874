//! Services, and clients, whose messages do not end where, when or how they seem to: nobody gets half an
//! answer as a whole one, somebody else's answer, or the blame for another's delay.

use std::time::Duration;

use orchestrator_tests::wire::Framing;
use orchestrator_tests::{Answer, Gate, Gateway, Request, Upstream};
use serde_json::json;

/// What makes the gateway look at a client's pace: `io/pace.rs`.
const PACE_WINDOW: Duration = Duration::from_secs(10);

const CHUNKED_POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                            5\r\nhello\r\n0\r\n\r\n";

/// The end of a body in chunks comes behind the last of its bytes, and was waited for.
#[tokio::test]
async fn a_client_that_has_sent_all_its_chunks_is_not_too_slow() {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let writer =
        Upstream::answering([Answer::bytes(head).then_wait(&gate).then_send("world")]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(CHUNKED_POST).await;
    let head = client.head().await;
    // The window itself is what passes here.
    tokio::time::sleep(PACE_WINDOW + Duration::from_millis(300)).await;
    gate.open();
    let (bytes, ended) = client.rest(head.response_framing("POST")).await;
    assert_eq!((bytes, ended.is_ok()), (10, true));
}

#[tokio::test]
async fn a_service_that_takes_its_time_to_ask_for_the_body_times_out_and_not_the_client() {
    let gate = Gate::new();
    let writer = Upstream::answering([Answer::ok("late").asking_behind(&gate)]).await;
    let config = "[proxy]\nrequest_timeout = \"400ms\"\nidle_timeout = \"200ms\"";
    let gateway = Gateway::before([&writer], config).await;
    let mut client = gateway.connect().await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 504, "{}", reply.text());
}

#[tokio::test]
async fn a_client_that_was_asked_for_its_body_and_sends_none_is_what_times_out() {
    let writer = Upstream::answering([Answer::ok("late").asking_for_the_body()]).await;
    let config = "[proxy]\nidle_timeout = \"200ms\"";
    let gateway = Gateway::before([&writer], config).await;
    let mut client = gateway.connect().await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 100);
    assert_eq!(client.reply().await.status(), 408);
}

/// Of a reset the system tells once: here it tells the upload, whose bytes are of no more use.
#[tokio::test]
async fn a_reset_that_an_upload_met_is_no_end_of_the_response() {
    const MUCH: usize = 3 << 20;
    let gate = Gate::new();
    let answer = Answer::bytes("HTTP/1.1 200 OK\r\n\r\n").before_body();
    let answer = answer.then_send(vec![b'x'; MUCH]).then_wait(&gate).then_reset();
    let writer = Upstream::answering([answer]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello").await;
    let head = client.head().await;
    gate.open();
    // The client does not read: the gateway does not either, and has bytes of the upload to write.
    for _ in 0..5 {
        client.send("more").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, ended) = client.rest(head.response_framing("POST")).await;
    assert!(ended.is_err(), "what came is not all of it");
}

#[tokio::test]
async fn interim_responses_without_end_are_cut_off_and_hold_up_nobody() {
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(4000);
    let flood = Answer::bytes(&endless).before_body().then_send(endless.repeat(40)).then_hang();
    let writer = Upstream::answering([flood, Answer::ok("fine")]).await;
    let gateway = Gateway::before([&writer], "").await;
    let reply = gateway.call(Request::post("/x", "once")).await;
    assert!(reply.problem(503).contains("unavailable"), "{}", reply.text());
    assert_eq!(gateway.get("/x").await.text(), "fine");
}

/// A 204 has no body: what some services send all the same is nobody's response.
#[tokio::test]
async fn a_body_where_none_may_be_is_not_the_next_response() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
    let head = format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n", evil.len());
    let gate = Gate::new();
    let strays = Answer::bytes(head).then_wait(&gate).then_send(evil);
    let writer = Upstream::answering([strays, Answer::ok("good")]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    assert_eq!(client.call(Request::get("/x")).await.status(), 204);
    // Whether it comes before the next request or with it.
    client.begin(&Request::get("/y")).await;
    gate.open();
    assert_eq!(client.reply().await.text(), "good");
}

/// To an HTTP/1.0 client the end of the connection is that of the response.
#[tokio::test]
async fn a_response_that_breaks_off_ends_by_a_reset_for_an_http_1_0_client() {
    let gate = Gate::new();
    let half = Answer::bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let writer = Upstream::answering([half.then_wait(&gate).then_close()]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send("GET /x HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let head = client.head().await;
    assert!(matches!(head.response_framing("GET"), Framing::UntilClose), "{head:?}");
    gate.open();
    let (_, ended) = client.rest(Framing::UntilClose).await;
    assert!(ended.is_err(), "a plain end would mean that this was all");
    let line = gateway.access_line(|line| line["why"] == "upstream_lost").await;
    assert_eq!(line["status"], json!(200));
}

#[tokio::test]
async fn protocols_are_not_switched_in_http_1_0() {
    let switch = "HTTP/1.0 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let writer = Upstream::answering([Answer::bytes(switch).then_echo()]).await;
    let gateway = Gateway::before([&writer], "").await;
    let request = Request::get("/x").header("Connection", "upgrade").header("Upgrade", "x");
    gateway.call(request).await.problem(503);
}

/// In an answer to HEAD, and in a 304, `Transfer-Encoding` tells about a body that is not there.
#[tokio::test]
async fn a_coding_that_frames_nothing_is_no_fault() {
    let head = "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    let writer = Upstream::answering([Answer::bytes(head)]).await;
    let gateway = Gateway::before([&writer], "").await;
    assert_eq!(gateway.get("/x").await.status(), 304);
}

#[tokio::test]
async fn a_head_that_begins_behind_a_request_has_no_more_time_than_any() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "limits.header_timeout = \"300ms\"").await;
    let mut client = gateway.connect().await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HT").await;
    assert_eq!(client.reply().await.status(), 200);
    client.ended().await;
}
