//! Upgrades: the gateway becomes a tunnel when both sides have agreed on another protocol.

use std::time::Duration;

use orchestrator_tests::{Answer, Client, Gate, Gateway, Request, Upstream};
use tokio::io::AsyncWriteExt;

fn upgrade_to(protocol: &str) -> Request {
    Request::get("/chat").header("Connection", "keep-alive, Upgrade").header("Upgrade", protocol)
}

/// A tunnel that has been agreed on.
async fn tunnel(gateway: &Gateway) -> Client {
    let mut client = gateway.connect().await;
    client.begin(&upgrade_to("chat/1")).await;
    assert_eq!(client.head().await.status(), 101);
    client
}

async fn echoes(client: &mut Client, text: &str) {
    client.send(text).await;
    let back = orchestrator_tests::within("the echo", client.wire.exactly(text.len())).await;
    assert_eq!(back.unwrap(), text.as_bytes());
}

mod agreed {
    use super::*;

    #[tokio::test]
    async fn by_both_sides_pass_bytes_in_both_directions() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&upgrade_to("chat/1").header("Sec-WebSocket-Key", "abc")).await;
        let head = client.head().await;
        assert_eq!(head.status(), 101);
        assert_eq!(head.get("upgrade").as_deref(), Some("chat/1"));
        assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
        assert!(head.has("x-request-id"));
        let received = writer.request();
        assert_eq!(received.header("upgrade").as_deref(), Some("chat/1"));
        assert_eq!(received.header("connection").as_deref(), Some("upgrade"));
        assert_eq!(received.header("sec-websocket-key").as_deref(), Some("abc"));
        for text in ["one", "two", &"x".repeat(100_000)] {
            echoes(&mut client, text).await;
        }
    }

    #[tokio::test]
    async fn end_when_either_side_ends_and_are_logged_with_their_bytes() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&upgrade_to("chat/1")).await;
        let id = client.head().await.get("x-request-id").unwrap();
        echoes(&mut client, "hello").await;
        drop(client);
        let line = gateway.access_line(|line| line["request_id"] == id.as_str()).await;
        assert_eq!((&line["status"], &line["why"]), (&101.into(), &"done".into()), "{line}");
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&5.into(), &5.into()), "{line}");
        orchestrator_tests::eventually("the service's side to be closed", async || {
            (writer.connections().1 == 0).then_some(())
        })
        .await;

        let leaving = Answer::bytes(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\nbye",
        )
        .then_close();
        writer.answer([leaving]);
        let mut client = gateway.connect().await;
        client.begin(&upgrade_to("chat/1")).await;
        client.head().await;
        assert_eq!(client.wire.exactly(3).await.unwrap(), b"bye");
        client.ended().await;
    }

    #[tokio::test]
    async fn end_in_each_direction_for_itself() {
        let gate = Gate::new();
        let late = Answer::bytes(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n",
        )
        .then_wait(&gate)
        .then_echo();
        let writer = Upstream::answering([late]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = tunnel(&gateway).await;
        client.send("the last word").await;
        client.wire.stream.shutdown().await.unwrap();
        // A client of HTTP that ends its half has left, and would be gone by now.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        gate.open();
        assert_eq!(client.wire.exactly(13).await.unwrap(), b"the last word");
        client.ended().await;
        gateway.access_line(|line| line["why"] == "done" && line["bytes_out"] == 13).await;
    }

    #[tokio::test]
    async fn end_when_the_service_is_gone_though_the_client_goes_on_sending() {
        let leaving =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n";
        let writer = Upstream::answering([Answer::bytes(leaving).then_close()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = tunnel(&gateway).await;
        let sending = async { while client.wire.send(b"anybody?").await.is_ok() {} };
        orchestrator_tests::within("the tunnel to end", sending).await;
        gateway.access_line(|line| line["why"] == "tunnel_broken").await;
    }

    #[tokio::test]
    async fn do_not_count_as_idle_connections_nor_as_requests_that_take_too_long() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let lines = "proxy.request_timeout = \"200ms\"\nproxy.idle_timeout = \"200ms\"\n\
                     limits.keep_alive_timeout = \"200ms\"\nlimits.header_timeout = \"200ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = tunnel(&gateway).await;
        // The clock of this test is another connection, which is closed for being idle.
        for _ in 0..3 {
            let mut idle = gateway.connect().await;
            assert_eq!(idle.call(Request::get("/health/status")).await.status(), 200);
            idle.ended().await;
        }
        echoes(&mut client, "still here").await;
    }

    #[tokio::test]
    async fn wait_for_a_client_that_does_not_read_for_a_while() {
        let flood =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n";
        let writer = Upstream::answering([Answer::bytes(flood).then_flood()]).await;
        let lines = "proxy.idle_timeout = \"100ms\"\nproxy.tunnel_idle_timeout = \"3s\"";
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = tunnel(&gateway).await;
        // Beyond `idle_timeout` many times, and beyond the second after which readers are looked at.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (mut read, wanted) = (0, writer.flooded() + 1024 * 1024);
        while read < wanted {
            read += client.wire.some(64 * 1024).await.unwrap().len() as u64;
        }
        gateway.access_line(|line| line["why"] == "tunnel_idle").await;
    }

    #[tokio::test]
    async fn are_closed_when_nothing_moves_for_their_idle_timeout() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let gateway = Gateway::before([&writer], r#"proxy.tunnel_idle_timeout = "300ms""#).await;
        let mut client = tunnel(&gateway).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            echoes(&mut client, "ping").await;
        }
        client.ended().await;
        gateway.access_line(|line| line["why"] == "tunnel_idle").await;
    }

    #[tokio::test]
    async fn are_given_their_time_by_a_drain_and_then_cut() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let mut gateway = Gateway::before([&writer], r#"server.drain_timeout = "500ms""#).await;
        let mut client = tunnel(&gateway).await;
        gateway.terminate();
        gateway.log.line_with(&["draining"]).await;
        echoes(&mut client, "not yet").await;
        client.ended().await;
        assert_eq!(gateway.exit().await.code(), Some(0));
        let line = gateway.access_line(|line| line["why"] == "drain_timeout").await;
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&7.into(), &7.into()), "{line}");
    }

    #[tokio::test]
    async fn count_as_requests_in_flight() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let client = tunnel(&gateway).await;
        let in_flight = [("service", "writer")];
        gateway.metric_reaches("orchestrator_in_flight_requests", &in_flight, 1.0).await;
        drop(client);
        orchestrator_tests::eventually("none in flight", async || {
            let metrics = gateway.metrics().await;
            (metrics.sum("orchestrator_in_flight_requests", &in_flight) == 0.0).then_some(())
        })
        .await;
    }
}

mod not_agreed {
    use super::*;

    #[tokio::test]
    async fn no_byte_behind_the_request_reaches_the_service_before_its_101() {
        let gate = Gate::new();
        let writer = Upstream::answering([Answer::switch_to("chat/1").behind(&gate)]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        let eager = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n\
                     GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(eager).await;
        writer.received(|_| true).await;
        gate.open();
        assert_eq!(client.head().await.status(), 101);
        // What was sent too early is the tunnel's: it comes back as an echo, not as an answer.
        let echoed = client.wire.exactly(18).await.unwrap();
        assert_eq!(echoed, b"GET /smuggled HTTP");
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn a_service_that_declines_answers_and_the_connection_serves_on() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            assert_eq!(client.call(upgrade_to("chat/1")).await.text(), "hello");
        }
        assert_eq!(client.call(Request::get("/x")).await.text(), "hello");
    }

    #[tokio::test]
    async fn an_upgrade_that_the_connection_header_does_not_name_is_none() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        gateway.call(Request::get("/x").header("Upgrade", "chat/1")).await;
        assert!(!writer.request().head.has("upgrade"));
    }

    #[tokio::test]
    async fn a_service_that_does_not_say_to_what_it_switches_has_failed() {
        let vague =
            Answer::bytes("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n");
        let writer = Upstream::answering([vague, Answer::switch_to("chat/1")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = tunnel(&gateway).await;
        echoes(&mut client, "after a retry").await;
    }

    /// Requests over such a connection would pass by the policies.
    #[tokio::test]
    async fn http_2_without_tls_is_not_offered_to_the_service() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let request = Request::get("/x")
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("Upgrade", "h2c")
            .header("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA");
        assert_eq!(gateway.call(request).await.status(), 200);
        let received = writer.request();
        assert!(!received.head.has("upgrade"), "{:?}", received.head);
        assert!(!received.head.has("http2-settings"), "{:?}", received.head);
    }

    #[tokio::test]
    async fn a_service_that_dies_instead_is_a_failed_attempt_like_any_other() {
        let writer = Upstream::answering([Answer::close(), Answer::switch_to("chat/1")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = tunnel(&gateway).await;
        echoes(&mut client, "after a retry").await;
        assert_eq!(writer.count(), 2);
    }
}
