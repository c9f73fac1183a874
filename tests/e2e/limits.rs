//! Every limit that bites is counted under the name of its key in the configuration.
//!
//! What a limit does to requests is tested in the chapters about those; here is that an operator
//! can see it. `server.drain_timeout` is missing: when it bites, nobody can ask any more, and the
//! access log alone tells (`lifecycle`).

use std::time::Duration;

use orchestrator_tests::{
    Answer, Client, EVERYTHING_TO_WRITER, Gateway, Request, Upstream, component, toml_path,
};

/// Waits until the limit has bitten so often. No other limit of this key did anything else.
async fn bites(gateway: &Gateway, limit: &str, effect: &str, count: f64) {
    let labels = [("limit", limit), ("effect", effect)];
    gateway.metric_reaches("orchestrator_limit_hits_total", &labels, count).await;
    let metrics = gateway.metrics().await;
    let of_key = metrics.sum("orchestrator_limit_hits_total", &[("limit", limit)]);
    assert_eq!(of_key, count, "{limit}:\n{}", metrics.0);
}

mod of_clients {
    use super::*;

    #[tokio::test]
    async fn connections() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "limits.connections = 1").await;
        let mut first = gateway.connect().await;
        assert_eq!(first.call(Request::get("/x")).await.status(), 200);
        for count in 1..=2 {
            assert_eq!(gateway.connect().await.reply().await.status(), 503);
            bites(&gateway, "limits.connections", "connection_refused", count.into()).await;
        }
    }

    #[tokio::test]
    async fn heads() {
        let writer = Upstream::start().await;
        let lines = "limits.header_bytes = \"8KiB\"\nlimits.header_count = 10";
        let gateway = Gateway::before([&writer], lines).await;
        let send = async |client: &mut Client, fields: String| {
            client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
            client.reply().await.status()
        };
        let large = |bytes| format!("X-Large: {}\r\n", "x".repeat(bytes));
        // More than the parser's buffer holds, and less.
        for (index, bytes) in [40_000, 8192].into_iter().enumerate() {
            assert_eq!(send(&mut gateway.connect().await, large(bytes)).await, 431);
            bites(&gateway, "limits.header_bytes", "request_refused", index as f64 + 1.0).await;
        }
        // Behind others on its connection, which together have more bytes than a head may.
        let mut client = gateway.connect().await;
        for _ in 0..3 {
            assert_eq!(send(&mut client, large(4000)).await, 200);
        }
        let many = (0..20).map(|index| format!("X-{index}: x\r\n")).collect();
        assert_eq!(send(&mut client, many).await, 431);
        bites(&gateway, "limits.header_count", "request_refused", 1.0).await;
        bites(&gateway, "limits.header_bytes", "request_refused", 2.0).await;
    }

    #[tokio::test]
    async fn time_for_a_head_and_between_requests() {
        let writer = Upstream::start().await;
        let lines = "limits.header_timeout = \"100ms\"\nlimits.keep_alive_timeout = \"200ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let mut dawdling = gateway.connect().await;
        dawdling.send("GET /x HTTP/1.1\r\nHost:").await;
        dawdling.ended().await;
        bites(&gateway, "limits.header_timeout", "connection_closed", 1.0).await;
        let mut idle = gateway.connect().await;
        assert_eq!(idle.call(Request::get("/x")).await.status(), 200);
        idle.ended().await;
        bites(&gateway, "limits.keep_alive_timeout", "connection_closed", 1.0).await;
    }

    #[tokio::test]
    async fn a_request_that_stands_still() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "proxy.idle_timeout = \"150ms\"").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
        assert_eq!(client.head().await.status(), 408);
        bites(&gateway, "proxy.idle_timeout", "client_sent_nothing", 1.0).await;
    }

    #[tokio::test]
    async fn a_response_that_is_not_taken() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n";
        let writer = Upstream::answering([Answer::bytes(head).then_flood()]).await;
        let gateway = Gateway::before([&writer], "proxy.idle_timeout = \"150ms\"").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        bites(&gateway, "proxy.idle_timeout", "client_took_nothing", 1.0).await;
    }

    #[tokio::test]
    async fn those_who_wait_for_the_health_of_services() {
        let writer = Upstream::start().await;
        // Longer than it can take until all of them wait.
        let lines = "health.timeout = \"60s\"\nlimits.connections = 2000";
        let gateway = Gateway::before([&writer], lines).await;
        writer.checked(1).await;
        writer.answer_checks([Answer::hang()]);
        let mut askers = Vec::new();
        for number in 0..1100 {
            let mut asker = gateway.connect().await;
            asker.begin(&Request::get("/health")).await;
            askers.push(asker);
            if number == 0 {
                // Those who ask before a round begins all belong to it, and do not wait for the next.
                writer.checked(2).await;
            }
        }
        let labels = [("limit", "(health askers)"), ("effect", "request_refused")];
        gateway.metric_reaches("orchestrator_limit_hits_total", &labels, 1.0).await;
    }
}

mod of_services {
    use super::*;

    const ONCE: &str = "policy.retry.config.attempts = 1";

    #[tokio::test]
    async fn time_for_an_attempt() {
        let writer = Upstream::answering([Answer::hang(), Answer::ok("second")]).await;
        let lines = "proxy.attempt_timeout = \"100ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        assert_eq!(gateway.get("/x").await.text(), "second");
        bites(&gateway, "proxy.attempt_timeout", "attempt_ended", 1.0).await;
    }

    #[tokio::test]
    async fn time_for_a_request() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], "proxy.request_timeout = \"100ms\"").await;
        assert_eq!(gateway.get("/x").await.status(), 504);
        bites(&gateway, "proxy.request_timeout", "attempt_ended", 1.0).await;
    }

    #[tokio::test]
    async fn time_that_is_left_for_a_retry() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let lines = "proxy.request_timeout = \"1s\"\npolicy.retry.config.delay = \"2s\"";
        let gateway = Gateway::before([&writer], lines).await;
        assert_eq!(gateway.get("/x").await.status(), 503);
        bites(&gateway, "proxy.request_timeout", "retry_refused", 1.0).await;
    }

    #[tokio::test]
    async fn time_to_connect() {
        let nowhere = Upstream::unreachable();
        let lines = format!(
            "services.writer.endpoints = [{:?}]\n{}\n{ONCE}\nproxy.connect_timeout = \"100ms\"",
            nowhere.url(),
            EVERYTHING_TO_WRITER
        );
        let gateway = Gateway::start(lines).await;
        assert_eq!(gateway.get("/x").await.status(), 503);
        bites(&gateway, "proxy.connect_timeout", "attempt_ended", 1.0).await;
    }

    #[tokio::test]
    async fn a_service_that_does_not_read() {
        let writer = Upstream::answering([Answer::hang().before_body()]).await;
        let gateway = Gateway::before([&writer], "proxy.idle_timeout = \"200ms\"").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1099511627776\r\n\r\n").await;
        let mut upload = tokio::spawn(async move {
            let piece = [b'x'; 1 << 16];
            while client.wire.send(&piece).await.is_ok() {}
        });
        bites(&gateway, "proxy.idle_timeout", "service_took_nothing", 1.0).await;
        // The upload is stuck, or was refused.
        let _ = tokio::time::timeout(Duration::from_millis(1), &mut upload).await;
        upload.abort();
    }

    #[tokio::test]
    async fn a_service_that_stops_sending() {
        let half = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_hang();
        let writer = Upstream::answering([half]).await;
        let gateway = Gateway::before([&writer], "proxy.idle_timeout = \"150ms\"").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.wire.exactly(4).await.unwrap(), b"half");
        client.ended().await;
        bites(&gateway, "proxy.idle_timeout", "service_sent_nothing", 1.0).await;
        let labels = [("error_type", "upstream_idle"), ("service", "writer")];
        let ended = gateway.metrics().await;
        assert_eq!(ended.sum("http_server_request_duration_seconds_count", &labels), 1.0);
    }

    #[tokio::test]
    async fn the_head_of_a_response() {
        let many: String = (0..200).map(|index| format!("X-{index}: x\r\n")).collect();
        let large = format!("X-Large: {}\r\n", "x".repeat(200_000));
        for (fields, more) in
            [(many, "limits.header_count = 300"), (large, "limits.header_bytes = \"256KiB\"")]
        {
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
            let writer = Upstream::answering([Answer::bytes(answer)]).await;
            let gateway = Gateway::before([&writer], ONCE).await;
            assert_eq!(gateway.get("/x").await.status(), 503, "{more}");
            bites(&gateway, "limits.header_bytes", "response_refused", 1.0).await;
            let gateway = Gateway::before([&writer], format!("{ONCE}\n{more}")).await;
            assert_eq!(gateway.get("/x").await.status(), 200, "{more}");
        }
    }

    #[tokio::test]
    async fn circuits_that_are_open() {
        let writer = Upstream::answering([Answer::close()]).await;
        let lines = format!("{ONCE}\nbreaker.failure_threshold = 1");
        let gateway = Gateway::before([&writer], lines).await;
        assert_eq!(gateway.get("/x").await.status(), 503);
        for count in 1..=2 {
            assert_eq!(gateway.get("/x").await.status(), 503);
            bites(&gateway, "breaker.open_for", "request_refused", count.into()).await;
        }
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn checks() {
        let writer = Upstream::start().await;
        writer.answer_checks([Answer::hang()]);
        let lines = "health.timeout = \"100ms\"\nhealth.interval = \"1h\"";
        let gateway = Gateway::before([&writer], lines).await;
        bites(&gateway, "health.timeout", "check_failed", 1.0).await;
    }

    #[tokio::test]
    async fn the_size_of_a_body() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "limits.body_bytes = \"1KiB\"").await;
        gateway.call(Request::post("/x", vec![b'x'; 1025])).await.problem(413);
        bites(&gateway, "limits.body_bytes", "request_refused", 1.0).await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.send(format!("500\r\n{}\r\n", "x".repeat(0x500))).await;
        client.reply().await.problem(413);
        bites(&gateway, "limits.body_bytes", "request_refused", 2.0).await;
    }

    #[tokio::test]
    async fn what_is_kept_of_a_body() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway = Gateway::before([&writer], "proxy.replay_body_max = \"3B\"").await;
        assert_eq!(gateway.call(Request::new("PUT", "/x").body("four")).await.status(), 503);
        bites(&gateway, "proxy.replay_body_max", "retry_refused", 1.0).await;
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn a_tunnel_on_which_nothing_moves() {
        let writer = Upstream::answering([Answer::switch_to("chat/1")]).await;
        let lines = "proxy.tunnel_idle_timeout = \"100ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = gateway.connect().await;
        let upgrade = Request::get("/x").header("Connection", "upgrade");
        client.begin(&upgrade.header("Upgrade", "chat/1")).await;
        assert_eq!(client.head().await.status(), 101);
        client.ended().await;
        bites(&gateway, "proxy.tunnel_idle_timeout", "tunnel_closed", 1.0).await;
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("orchestrator_tunnels_total", &[]), 1.0);
        assert_eq!(metrics.sum("orchestrator_tunnels_open", &[]), 0.0);
    }
}

mod of_policies {
    use super::*;

    #[tokio::test]
    async fn time_memory_and_what_is_handed_over() {
        let writer = Upstream::start().await;
        for (guest, path, lines, limit) in [
            ("spin", "/evil", "", "decision_timeout"),
            ("hoard", "/evil", "policy_limits.decision_timeout = \"1s\"", "memory_max"),
            ("big-string", "/evil/drip", "policy_limits.decision_timeout = \"1s\"", "result_max"),
        ] {
            let lines = format!(
                "{}\npolicy.routing.component = {}\n{lines}",
                orchestrator_tests::service("writer", [&writer]),
                toml_path(&component(guest))
            );
            let gateway = Gateway::start(lines).await;
            assert_eq!(gateway.get(path).await.status(), 503, "{guest}");
            bites(&gateway, &format!("policy_limits.{limit}"), "decision_failed", 1.0).await;
        }
    }
}
