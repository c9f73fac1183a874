//! What the gateway tells about its work: one access-log line per request, metrics, health of itself.

use orchestrator_tests::{Answer, Client, Gateway, Request, Upstream, eventually, toml_path};
use serde_json::{Value, json};

mod access_log {
    use super::*;

    const FIELDS: [&str; 22] = [
        "time",
        "request_id",
        "client",
        "method",
        "path",
        "query",
        "protocol",
        "status",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "head_ms",
        "upstream_ms",
        "service",
        "endpoint",
        "route",
        "attempts",
        "tried",
        "decision_us",
        "routing_version",
        "retry_version",
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
            ("protocol", json!("HTTP/1.1")),
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
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key}: {line}"));
        assert!(number("decision_us") > 0.0);
        assert!(number("upstream_ms") > 0.0);
        assert!(number("upstream_ms") <= number("head_ms"), "{line}");
        assert!(number("head_ms") <= number("duration_ms"), "{line}");
        let tried = &line["tried"][0];
        assert_eq!((&tried["endpoint"], &tried["outcome"]), (&line["endpoint"], &json!(200)));
        assert_eq!(tried["ms"], line["upstream_ms"]);
        // The versions are those that the metrics name.
        let metrics = gateway.metrics().await;
        for (policy, key) in [("routing", "routing_version"), ("retry", "retry_version")] {
            let labels = [("policy", policy), ("version", line[key].as_str().unwrap())];
            assert_eq!(metrics.sum("orchestrator_policy_info", &labels), 1.0, "{policy}");
        }
    }

    #[tokio::test]
    async fn has_every_attempt_with_its_endpoint_and_outcome() {
        let writer = Upstream::answering([
            Answer::status(503),
            Answer::close(),
            Answer::hang(),
            Answer::ok("at last"),
        ])
        .await;
        let lines = "breaker.failure_threshold = 1000\npolicy.retry.config.attempts = 10\n\
                     policy.retry.config.delay = \"30ms\"\nproxy.attempt_timeout = \"150ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let reply = gateway.get("/x").await;
        assert_eq!(reply.text(), "at last");
        let line = gateway.access_of(&reply).await;
        let tried = line["tried"].as_array().unwrap();
        assert_eq!(line["attempts"].as_u64().unwrap() as usize, tried.len());
        assert!(tried.iter().all(|tried| tried["endpoint"] == writer.url()), "{line}");
        let outcomes: Vec<_> = tried.iter().map(|tried| tried["outcome"].clone()).collect();
        let expected = [json!(503), json!("connection_lost"), json!("attempt_timeout"), json!(200)];
        assert_eq!(outcomes, expected);
        let ms = |of: &Value, key: &str| of[key].as_f64().unwrap();
        for (index, tried) in tried.iter().enumerate() {
            assert_eq!(ms(tried, "after_ms") >= 30.0, index > 0, "{line}");
            let timed_out = tried["outcome"] == "attempt_timeout";
            assert!(!timed_out || ms(tried, "ms") >= 150.0, "{line}");
        }
        let sum: f64 = tried.iter().map(|tried| ms(tried, "ms")).sum();
        assert!((sum - ms(&line, "upstream_ms")).abs() < 0.1, "{line}");
    }

    #[tokio::test]
    async fn tells_the_endpoints_of_a_service_apart() {
        let (first, second) = (Upstream::down(), Upstream::down());
        let lines = "policy.retry.config.attempts = 2";
        let gateway = Gateway::before([&first, &second], lines).await;
        let line = gateway.access_of(&gateway.get("/x").await).await;
        let mut endpoints: Vec<_> =
            (0..2).map(|at| line["tried"][at]["endpoint"].clone()).collect();
        assert_eq!(endpoints[1], line["endpoint"], "the last one");
        endpoints.sort_by_key(|url| *url != first.url());
        assert_eq!(endpoints, [first.url(), second.url()]);
        assert_eq!(line["tried"][1]["outcome"], "connect_failed");
    }

    #[tokio::test]
    async fn counts_the_attempts_that_it_does_not_show() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let lines = "breaker.failure_threshold = 1000\nproxy.retry_attempts_max = 13\n\
                     policy.retry.config.attempts = 13\npolicy.retry.config.delay = \"0ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let line = gateway.access_of(&gateway.get("/x").await).await;
        assert_eq!(line["attempts"], json!(writer.count()));
        assert_eq!(line["tried"].as_array().unwrap().len(), 10.min(writer.count()), "{line}");
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
        // The attempt ended with it, and is counted.
        assert_eq!(line["tried"][0]["outcome"], "client_gone");
        assert_eq!(line["head_ms"], Value::Null);
        let labels = [("service", "writer"), ("outcome", "client")];
        gateway.metric_reaches("orchestrator_attempts_total", &labels, 1.0).await;
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

    /// So many requests, whose lines are more than the log may be ahead of its reader.
    const MANY: usize = 1500;

    /// Every one of these is answered at once, whatever becomes of the log.
    async fn many_requests(gateway: &Gateway) {
        let mut client = gateway.connect().await;
        for number in 0..MANY {
            let target = format!("/{}?{number}", "long/".repeat(200));
            let begun = std::time::Instant::now();
            assert_eq!(client.call(Request::get(&target)).await.status(), 200);
            assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{number} waited");
        }
    }

    #[tokio::test]
    async fn waits_for_no_reader_and_counts_what_it_drops() {
        let writer = Upstream::start().await;
        let folder = tempfile::TempDir::new().unwrap();
        let pipe = folder.path().join("access.pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // It starts though nobody reads, and serves though the pipe is full.
        let lines = format!("log.access = {}", toml_path(&pipe));
        let mut gateway = Gateway::before([&writer], lines).await;
        many_requests(&gateway).await;
        let dropped = gateway.metrics().await.sum("orchestrator_access_log_dropped_total", &[]);
        assert!(dropped > 0.0, "the log is larger than this test knows");
        // Somebody reads: what was kept comes, whole, until the gateway has ended.
        let reader = tokio::task::spawn_blocking(move || std::fs::read_to_string(pipe).unwrap());
        gateway.terminate();
        assert!(gateway.exit().await.success());
        let kept = reader.await.unwrap();
        let queries = kept.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["path"].as_str().unwrap().starts_with("/long/"));
            line["query"].as_str().unwrap().parse::<usize>().unwrap()
        });
        let queries: Vec<_> = queries.collect();
        assert!(queries.is_sorted_by(|earlier, later| earlier < later), "{queries:?}");
        assert_eq!(queries.len() + dropped as usize, MANY, "each line, or its drop");
    }

    #[tokio::test]
    async fn on_a_full_disk_costs_lines_and_no_request() {
        let writer = Upstream::start().await;
        let mut gateway = Gateway::before([&writer], "log.access = \"/dev/full\"").await;
        many_requests(&gateway).await;
        let dropped = gateway.metrics().await.sum("orchestrator_access_log_dropped_total", &[]);
        assert!((1.0..MANY as f64).contains(&dropped), "{dropped}");
        gateway.log.line_with(&["the access log cannot be written"]).await;
        let said = gateway.log.lines();
        let said = said.iter().filter(|line| line.contains("the access log cannot be written"));
        assert_eq!(said.count(), 1, "it says so once");
        gateway.terminate();
        assert!(gateway.exit().await.success());
    }

    #[tokio::test]
    async fn shows_no_more_than_the_beginning_of_what_is_long() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let target = format!("/{}?{}", "p".repeat(20_000), "q".repeat(20_000));
        let reply = gateway.get(&target).await;
        assert_eq!(reply.status(), 200);
        let line = gateway.access_of(&reply).await;
        assert_eq!(line["path"], format!("/{}…", "p".repeat(1023)));
        assert_eq!(line["query"], format!("{}…", "q".repeat(1024)));
        assert_eq!(writer.request().head.target().len(), target.len(), "the service gets it all");
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
            "orchestrator_limit_hits_total",
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
        let ask = async |index| {
            let request = Request::new(&format!("M{index}"), &format!("/path/{index}"));
            gateway.call(request.header("Host", format!("host{index}.test"))).await;
        };
        ask(0).await;
        let labels = [("http_request_method", "_OTHER")];
        gateway.metric_reaches("http_client_request_duration_seconds_count", &labels, 1.0).await;
        gateway.metric_reaches("http_server_request_duration_seconds_count", &labels, 1.0).await;
        let before = gateway.metrics().await.0.lines().count();
        for index in 1..50 {
            ask(index).await;
        }
        gateway.metric_reaches("http_server_request_duration_seconds_count", &labels, 50.0).await;
        assert_eq!(gateway.metrics().await.0.lines().count(), before);
    }

    #[tokio::test]
    async fn have_open_telemetrys_names_for_requests_and_attempts() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("hello")]).await;
        let lines = format!(
            "{}\nserver.workers = 2\n{}",
            orchestrator_tests::service("writer", [&writer]),
            r#"policy.routing.config.routes = [{ path_prefix = "/", service = "writer", name = "all" }]"#
        );
        let gateway = Gateway::start(lines).await;
        for number in 0..11 {
            // A POST that was answered is not sent again.
            let status = if number == 0 { 503 } else { 200 };
            assert_eq!(gateway.call(Request::post("/x", "12345")).await.status(), status);
        }
        let labels = [
            ("http_request_method", "POST"),
            ("http_response_status_code", "200"),
            ("http_route", "all"),
            ("service", "writer"),
        ];
        let name = "http_server_request_duration_seconds_count";
        gateway.metric_reaches(name, &labels, 10.0).await;
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum(name, &labels), 10.0);
        assert_eq!(metrics.sum(name, &[("error_type", "503"), ("http_route", "all")]), 1.0);
        let (port, url) = (writer.port().to_string(), writer.url());
        let of = |status| {
            let labels = [
                ("http_request_method", "POST"),
                ("http_response_status_code", status),
                ("server_address", "127.0.0.1"),
                ("server_port", port.as_str()),
                ("service", "writer"),
                ("endpoint", url.as_str()),
            ];
            metrics.sum("http_client_request_duration_seconds_count", &labels)
        };
        assert_eq!((of("200"), of("503")), (10.0, 1.0));
        let service = [("service", "writer")];
        assert_eq!(metrics.sum("http_server_request_body_size_bytes_sum", &service), 55.0);
        let bytes = 10.0 * 5.0 + "503 by the upstream".len() as f64;
        assert_eq!(metrics.sum("http_server_response_body_size_bytes_sum", &service), bytes);
        assert_eq!(metrics.sum("http_server_active_requests", &[]), 0.0);
    }

    #[tokio::test]
    async fn show_what_is_under_way_and_what_is_left() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], "proxy.retry_budget_min_per_s = 0").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        writer.received(|_| true).await;
        let metrics = gateway.metrics().await;
        let get = [("http_request_method", "GET")];
        assert_eq!(metrics.sum("http_server_active_requests", &get), 1.0);
        let left = metrics.sum("orchestrator_retry_budget_left", &[("service", "writer")]);
        assert_eq!(left, 0.2, "a fifth of a request");
        drop(client);
        eventually("the request to be over", async || {
            (gateway.metrics().await.sum("http_server_active_requests", &get) == 0.0).then_some(())
        })
        .await;
        let gone = [("error_type", "client_gone"), ("http_route", "/")];
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("http_server_request_duration_seconds_count", &gone), 1.0);
        assert_eq!(metrics.sum("http_client_request_duration_seconds_count", &gone[..1]), 1.0);
    }

    #[tokio::test]
    async fn tell_of_the_process() {
        let gateway = Gateway::before([&Upstream::down()], "").await;
        let metrics = gateway.metrics().await;
        let resident = metrics.sum("process_resident_memory_bytes", &[]);
        assert!((1e6..1e9).contains(&resident), "{resident}");
        assert!(metrics.sum("process_cpu_seconds_total", &[]) > 0.0);
        assert!(metrics.sum("process_open_fds", &[]) > 5.0);
        assert!(metrics.sum("process_max_fds", &[]) >= metrics.sum("process_open_fds", &[]));
        assert!(metrics.sum("process_threads", &[]) >= 3.0);
        let started = metrics.sum("process_start_time_seconds", &[]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!((now.as_secs_f64() - started).abs() < 60.0, "{started}");
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
        let mut client = Client::connect(gateway.admin).await;
        let reply = client.call(Request::new("HEAD", "/metrics")).await;
        assert_eq!((reply.status(), reply.text()), (200, String::new()));
    }

    #[tokio::test]
    async fn writes_metrics_as_the_scraper_knows_them() {
        let gateway = Gateway::before([&Upstream::down()], "").await;
        let mut client = Client::connect(gateway.admin).await;
        for (accept, kind) in [
            ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
            ("text/plain; version=0.0.4", "text/plain; version=0.0.4"),
        ] {
            let reply = client.call(Request::get("/metrics").header("Accept", accept)).await;
            assert!(reply.header("content-type").unwrap().starts_with(kind), "{accept}");
            assert_eq!(reply.text().ends_with("# EOF\n"), kind.contains("openmetrics"));
        }
    }

    #[tokio::test]
    async fn is_not_held_up_by_those_who_do_not_take_their_page() {
        let gateway = Gateway::before([&Upstream::down()], "").await;
        // Far more pages than the socket holds: the gateway stops making them until one is taken.
        let mut greedy = Client::connect(gateway.admin).await;
        greedy.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(300)).await;
        let mut large = Client::connect(gateway.admin).await;
        large
            .send(format!("GET /x HTTP/1.1\r\nHost: a\r\nX-L: {}\r\n\r\n", "x".repeat(40_000)))
            .await;
        assert_eq!(large.reply().await.status(), 431);
        for _ in 0..20 {
            gateway.metrics().await;
            assert_eq!(gateway.admin_get("/readyz").await.status(), 200);
        }
    }
}
