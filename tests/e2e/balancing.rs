//! Which endpoint of a service gets the next request: of two at random, the one with less in flight.

use orchestrator_tests::{Answer, Gate, Gateway, Request, Upstream};
use std::net::Ipv6Addr;

#[tokio::test]
async fn every_endpoint_gets_its_share() {
    let all = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let gateway = Gateway::before(&all, "").await;
    let mut client = gateway.connect().await;
    for _ in 0..300 {
        assert_eq!(client.call(Request::get("/x")).await.status(), 200);
    }
    for upstream in &all {
        // Of 300, a third each; fewer than 50 come about once in 10^13 runs.
        assert!(upstream.count() > 50, "{:?}", all.each_ref().map(Upstream::count));
    }
}

#[tokio::test]
async fn a_busy_endpoint_is_passed_over() {
    let gate = Gate::new();
    let all = [Upstream::start().await, Upstream::start().await];
    for upstream in &all {
        upstream.answer([Answer::ok("busy").behind(&gate)]);
    }
    let gateway = Gateway::before(&all, "").await;
    let mut busy = gateway.connect().await;
    busy.begin(&Request::get("/busy")).await;
    let taken = orchestrator_tests::eventually("one of them to be busy", async || {
        all.iter().position(|upstream| upstream.count() == 1)
    })
    .await;
    let (taken, free) = (&all[taken], &all[1 - taken]);
    free.answer([Answer::ok("free")]);
    for _ in 0..20 {
        assert_eq!(gateway.get("/x").await.text(), "free");
    }
    assert_eq!((taken.count(), free.count()), (1, 20));
    gate.open();
    assert_eq!(busy.reply().await.text(), "busy");
}

#[tokio::test]
async fn an_endpoint_is_busy_until_the_body_has_ended() {
    let gate = Gate::new();
    let all = [Upstream::start().await, Upstream::start().await];
    let begun = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
    for upstream in &all {
        upstream.answer([begun.clone().then_wait(&gate).then_send("more")]);
    }
    let gateway = Gateway::before(&all, "").await;
    let mut busy = gateway.connect().await;
    busy.begin(&Request::get("/busy")).await;
    busy.head().await;
    let taken = all.iter().position(|upstream| upstream.count() == 1).unwrap();
    let free = &all[1 - taken];
    free.answer([Answer::ok("free")]);
    for _ in 0..20 {
        assert_eq!(gateway.get("/x").await.text(), "free");
    }
    gate.open();
    assert_eq!(busy.wire.exactly(8).await.unwrap(), b"halfmore");
}

#[tokio::test]
async fn an_endpoint_that_is_down_costs_no_request() {
    let (up, down) = (Upstream::start().await, Upstream::down());
    let gateway = Gateway::before([&down, &up], "policy.retry.config.delay = \"0ms\"").await;
    for _ in 0..50 {
        assert_eq!(gateway.get("/x").await.text(), "hello");
    }
}

#[tokio::test]
async fn a_failing_endpoint_is_not_preferred_for_failing_fast() {
    let failing = Upstream::answering([Answer::status(503)]).await;
    let fine = Upstream::start().await;
    let gateway = Gateway::before([&failing, &fine], "policy.retry.config.attempts = 1").await;
    for _ in 0..50 {
        gateway.get("/x").await;
    }
    // Until its circuit opens, what it did at once counts as if it had taken a second.
    assert!((1..=3).contains(&failing.count()), "{} failed", failing.count());
    assert_eq!(fine.count(), 50 - failing.count());
}

#[tokio::test]
async fn a_name_with_several_addresses_is_one_endpoint_and_finds_the_one_that_listens() {
    // `localhost` is 127.0.0.1 and, where there is IPv6, ::1: the upstream is on one of them.
    let writer = Upstream::start().await;
    let lines = format!(
        "services.writer.endpoints = [\"http://localhost:{}\"]\n\
         policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\" }}]\n\
         policy.retry.config.attempts = 1",
        writer.port()
    );
    let gateway = Gateway::start(lines).await;
    assert_eq!(gateway.get("/x").await.text(), "hello");
    assert_eq!(writer.request().header("host").unwrap(), format!("localhost:{}", writer.port()));
    let status = gateway.status_of("writer", |it| it["status"] == "healthy").await;
    assert!(status.get("endpoints").is_none(), "{status}");
}

#[tokio::test]
async fn an_ipv6_address_stands_in_brackets() {
    let Ok(listener) = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
        return; // A machine without IPv6.
    };
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut wire = orchestrator_tests::wire::Wire::new(stream);
            while let Ok(Some(head)) = wire.head().await {
                let host = head.get("host").unwrap();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}", host.len());
                wire.send(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let lines = format!(
        "services.writer.endpoints = [\"http://[::1]:{port}\"]\n\
         policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\" }}]"
    );
    let gateway = Gateway::start(lines).await;
    assert_eq!(gateway.get("/x").await.text(), format!("[::1]:{port}"));
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_an_endpoint_that_is_down() {
    let lines = "services.writer.endpoints = [\"http://nowhere.invalid:80\"]\n\
                 policy.routing.config.routes = [{ path_prefix = \"/\", service = \"writer\" }]";
    let gateway = Gateway::start(lines).await;
    gateway.get("/x").await.problem(503);
    let status = gateway.status_of("writer", |it| it["status"] == "unhealthy").await;
    assert!(status["error"].as_str().unwrap().contains("name"), "{status}");
}
