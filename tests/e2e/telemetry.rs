//! What the gateway tells about its work: one access-log line per request, metrics, health of itself.

use orchestrator_tests::{Answer, Client, Gateway, Request, Upstream, eventually, toml_path};
use serde_json::{Value, json};

mod access_log {
    use super::*;

    const FIELDS: [&str; 16] = [
        "time",
        "request_id",
        "client",
        "method",
        "path",
        "query",
        "status",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "service",
        "endpoint",
        "route",
        "attempts",
        "decision_us",
        "why",
    ];

    #[tokio::test]
    async fn has_all_of_a_request_in_one_line() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let reply = gateway.call(Request::post("/notes?x=1&y", "eleven byte")).await;
        let line = gateway.access_of(&reply).await;
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, FIELDS);
        for (field, value) in [
            ("client", json!("127.0.0.1")),
            ("method", json!("POST")),
            ("path", json!("/notes")),
            ("query", json!("x=1&y")),
            ("status", json!(200)),
            ("bytes_in", json!(11)),
            ("bytes_out", json!(5)),
            ("service", json!("writer")),
            ("endpoint", json!(writer.url())),
            ("attempts", json!(1)),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
        let time = line["time"].as_str().unwrap();
        assert!(time.len() >= 20 && time.ends_with('Z'), "{time}");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
        assert!(line["decision_us"].as_f64().unwrap() > 0.0);
    }

    #[tokio::test]
    async fn has_one_line_for_each_request_whatever_became_of_it() {
        let writer = Upstream::with(|head| match head.target() {
            "/hang" => Answer::hang(),
            "/close" => Answer::close(),
            "/500" => Answer::status(500),
            _ => Answer::ok("hello"),
        })
        .await;
        let lines = "proxy.request_timeout = \"200ms\"\nbreaker.failure_threshold = 1000\n\
                     policy.routing.config.routes = [{ path_prefix = \"/\", service = \"writer\", methods = [\"GET\"] }]";
        let lines = format!("{}\n{lines}", orchestrator_tests::service("writer", [&writer]));
        let gateway = Gateway::start(lines).await;
        let mut expected = Vec::new();
        for (request, path, status) in [
            (Request::get("/x"), "/x", 200),
            (Request::get("/500"), "/500", 500),
            (Request::get("/close"), "/close", 503),
            (Request::get("/hang"), "/hang", 504),
            (Request::get("/"), "/", 200),
            (Request::new("HEAD", "/"), "/", 200),
            (Request::new("HEAD", "/x"), "/x", 200),
            (Request::get("/health/status/nobody"), "/health/status/nobody", 404),
            (Request::new("DELETE", "/x"), "/x", 405),
            (
                Request::new("OPTIONS", "/pre")
                    .header("Origin", "https://a.test")
                    .header("Access-Control-Request-Method", "PUT"),
                "/pre",
                204,
            ),
        ] {
            let reply = gateway.call(request).await;
            assert_eq!(reply.status(), status, "{path}");
            let line = gateway.access_of(&reply).await;
            assert_eq!((&line["path"], &line["status"]), (&json!(path), &json!(status)));
            assert_ne!(line["why"], "client_gone", "{path}");
            expected.push(reply.header("x-request-id").unwrap());
        }
        let ids: Vec<String> = gateway
            .access
            .lines()
            .iter()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["request_id"].as_str().unwrap().into()
            })
            .collect();
        assert_eq!(ids, expected);
    }

    #[tokio::test]
    async fn has_a_line_for_a_client_that_left_before_its_response() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        let id = writer.received(|_| true).await.header("x-request-id").unwrap();
        drop(client);
        let line = gateway.access_line(|line| line["request_id"] == id.as_str()).await;
        assert_eq!(line["why"], "client_gone");
        assert_eq!((&line["status"], &line["attempts"]), (&json!(499), &json!(1)));
        assert_eq!(gateway.access.lines().len(), 1);
    }

    #[tokio::test]
    async fn has_a_line_for_a_client_that_left_amid_its_response() {
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
        let writer = Upstream::answering([answer.then_flood()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        let some = client.wire.some(1000).await.unwrap();
        client.reset();
        let line = gateway.access_line(|line| line["path"] == "/x").await;
        assert_eq!((&line["status"], &line["why"]), (&json!(200), &json!("client_gone")));
        assert!(line["bytes_out"].as_u64().unwrap() >= some.len() as u64, "{line}");
    }

    #[tokio::test]
    async fn escapes_what_a_client_sent() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let reply = gateway.get(r#"/a%22b'{}?q=%0A\"x"#).await;
        // hyper may refuse such a target: then there is no exchange to log.
        if reply.head.has("x-request-id") {
            gateway.access_of(&reply).await;
        }
        for line in gateway.access.lines() {
            serde_json::from_str::<Value>(&line).unwrap();
        }
    }

    #[tokio::test]
    async fn goes_to_a_file_where_one_is_named() {
        let writer = Upstream::start().await;
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("access.log");
        let lines = format!("log.access = {}", toml_path(&file));
        let mut gateway = Gateway::before([&writer], lines).await;
        let id = gateway.get("/x").await.header("x-request-id").unwrap();
        eventually("the line to be written", async || {
            std::fs::read_to_string(&file).unwrap().contains(&id).then_some(())
        })
        .await;
        assert!(gateway.access.lines().is_empty(), "{:?}", gateway.access);
        // Nothing that was written is lost at the end.
        let last = gateway.get("/last").await.header("x-request-id").unwrap();
        gateway.terminate();
        gateway.exit().await;
        assert!(std::fs::read_to_string(&file).unwrap().contains(&last));
    }

    #[tokio::test]
    async fn can_be_off() {
        let writer = Upstream::start().await;
        let mut gateway = Gateway::before([&writer], r#"log.access = "off""#).await;
        gateway.get("/x").await;
        gateway.terminate();
        gateway.exit().await;
        assert!(gateway.access.lines().is_empty(), "{:?}", gateway.access);
    }
}

mod metrics {
    use super::*;

    #[tokio::test]
    async fn count_requests_by_service_and_class() {
        let writer =
            Upstream::with(|head| Answer::status(head.target()[1..].parse().unwrap())).await;
        let gateway = Gateway::before([&writer], "").await;
        for status in [200, 201, 302, 404, 500] {
            gateway.get(&format!("/{status}")).await;
        }
        let metrics = gateway.metrics().await;
        for (class, count) in [("2xx", 2.0), ("3xx", 1.0), ("4xx", 1.0), ("5xx", 1.0)] {
            let labels = [("service", "writer"), ("status_class", class)];
            assert_eq!(metrics.sum("orchestrator_requests_total", &labels), count, "{class}");
        }
    }

    #[tokio::test]
    async fn add_up_what_all_workers_did() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "server.workers = 4").await;
        for _ in 0..40 {
            assert_eq!(gateway.get("/x").await.status(), 200);
        }
        let labels = [("service", "writer"), ("status_class", "2xx")];
        gateway.metric_reaches("orchestrator_requests_total", &labels, 40.0).await;
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("orchestrator_requests_total", &labels), 40.0);
        assert_eq!(metrics.sum("orchestrator_policy_calls_total", &[("policy", "routing")]), 40.0);
    }

    #[tokio::test]
    async fn count_open_connections() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..3 {
            clients.push(gateway.connect().await);
        }
        gateway.metric_reaches("orchestrator_connections_open", &[], 3.0).await;
        drop(clients);
        eventually("the connections to be gone", async || {
            (gateway.metrics().await.sum("orchestrator_connections_open", &[]) == 0.0).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn are_described_and_end_as_open_metrics_do() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        gateway.get("/x").await;
        let reply = gateway.admin_get("/metrics").await;
        let kind = reply.header("content-type").unwrap();
        assert!(kind.starts_with("application/openmetrics-text") || kind.starts_with("text/plain"));
        assert!(reply.text().ends_with("# EOF\n"));
        let metrics = gateway.metrics().await;
        for name in [
            "orchestrator_requests_total",
            "orchestrator_attempts_total",
            "orchestrator_retries_total",
            "orchestrator_retry_refused_total",
            "orchestrator_policy_calls_total",
            "orchestrator_policy_faults_total",
            "orchestrator_connections_open",
            "orchestrator_circuit_state",
            "orchestrator_circuit_transitions_total",
            "orchestrator_health_up",
        ] {
            assert!(metrics.describes(name), "{name} is not there:\n{}", metrics.0);
        }
    }

    #[tokio::test]
    async fn grow_with_what_is_configured_not_with_what_clients_send() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        gateway.get("/first").await;
        let before = gateway.metrics().await.0.lines().count();
        for index in 0..50 {
            let request = Request::new(&format!("M{index}"), &format!("/path/{index}"));
            gateway.call(request.header("Host", format!("host{index}.test"))).await;
        }
        assert_eq!(gateway.metrics().await.0.lines().count(), before);
    }
}

mod admin {
    use super::*;

    #[tokio::test]
    async fn says_that_it_lives_and_is_ready() {
        let gateway = Gateway::before([&Upstream::down()], "").await;
        assert_eq!(gateway.admin_get("/livez").await.status(), 200);
        // That a service is down is no reason to take the gateway out of its own balancer.
        assert_eq!(gateway.admin_get("/readyz").await.status(), 200);
        assert_eq!(gateway.admin_get("/x").await.status(), 404);
    }

    #[tokio::test]
    async fn is_apart_from_the_public_listener() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        for path in ["/metrics", "/livez", "/readyz"] {
            assert_eq!(gateway.get(path).await.text(), "hello", "{path} is the services'");
        }
        assert_eq!(gateway.admin_get("/health").await.status(), 404);
    }

    #[tokio::test]
    async fn answers_get_and_head_only() {
        let gateway = Gateway::before([&Upstream::down()], "").await;
        let mut client = Client::connect(gateway.admin).await;
        let reply = client.call(Request::post("/metrics", "x")).await;
        assert_eq!(reply.status(), 405);
        assert!(reply.header("allow").unwrap().contains("GET"));
    }
}
