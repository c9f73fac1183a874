//! The gateway's own pages, to the letter.

use std::time::Duration;

use orchestrator_tests::{
    Answer, Client, EVERYTHING_TO_WRITER, Gate, Gateway, Request, Upstream, eventually, service,
    within,
};
use serde_json::{Value, json};

/// The three services of the built-in configuration, on ports of their own.
struct Three {
    writer: Upstream,
    research: Upstream,
    backend: Upstream,
}

impl Three {
    async fn start() -> Self {
        Self {
            writer: Upstream::start().await,
            research: Upstream::start().await,
            backend: Upstream::start().await,
        }
    }

    fn lines(&self) -> String {
        [
            service("writer", [&self.writer]),
            service("research", [&self.research]),
            service("backend", [&self.backend]),
            EVERYTHING_TO_WRITER.into(),
        ]
        .join("\n")
    }

    async fn gateway(&self, lines: &str) -> Gateway {
        Gateway::start(format!("{}\n{lines}", self.lines())).await
    }
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// RFC 3339 in UTC: `2026-01-31T12:00:00Z`, with or without a fraction.
fn is_utc(time: &Value) -> bool {
    let Some(time) = time.as_str() else { return false };
    let shape: String =
        time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).take(19).collect();
    shape == "0000-00-00T00:00:00" && (time.ends_with('Z') || time.ends_with("+00:00"))
}

mod home {
    use super::*;

    #[tokio::test]
    async fn names_the_gateway_its_version_its_services_and_its_docs() {
        let gateway = Three::start().await.gateway("").await;
        let reply = gateway.get("/").await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(
            reply.json(),
            json!({
                "message": "Extrophi Orchestrator API Gateway",
                "version": env!("CARGO_PKG_VERSION"),
                "services": ["writer", "research", "backend"],
                "docs": "/docs"
            })
        );
    }

    #[tokio::test]
    async fn comes_before_any_route_and_whatever_the_query() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        for target in ["/", "/?x=1"] {
            assert_eq!(gateway.get(target).await.json()["docs"], "/docs");
        }
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn answers_head_with_the_same_head_and_no_body() {
        let gateway = Three::start().await.gateway("").await;
        let mut client = gateway.connect().await;
        let get = client.call(Request::get("/")).await;
        let head = client.call(Request::new("HEAD", "/")).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string()));
        // Had a body come behind the head, the next response would begin with it.
        assert_eq!(client.call(Request::get("/")).await.body, get.body);
    }

    #[tokio::test]
    async fn answers_another_method_with_405_and_what_is_allowed() {
        let gateway = Three::start().await.gateway("").await;
        for path in ["/", "/health", "/health/status", "/health/status/writer", "/docs"] {
            let reply = gateway.call(Request::post(path, "x")).await;
            assert!(!reply.problem(405).is_empty());
            let allow = reply.header("allow").unwrap();
            assert_eq!(allow, "GET, HEAD", "{path}");
        }
    }
}

mod health {
    use super::*;

    #[tokio::test]
    async fn asks_every_service_now_and_repeats_what_each_says_of_itself() {
        let three = Three::start().await;
        let said = json!({"status": "ok", "version": "1.2.3", "nested": {"queue": [1, 2.5, null]}});
        three.writer.answer_checks([Answer::json(&said)]);
        let gateway = three.gateway("").await;
        let reply = gateway.get("/health").await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
        let healthy = |details, upstream: &Upstream| json!({"status": "healthy", "details": details, "url": upstream.url()});
        assert_eq!(
            reply.json(),
            json!({
                "orchestrator": "healthy",
                "services": {
                    "writer": healthy(said, &three.writer),
                    "research": healthy(json!({"status": "ok"}), &three.research),
                    "backend": healthy(json!({"status": "ok"}), &three.backend),
                },
                "overall": "healthy"
            })
        );
        assert_eq!(keys(&reply.json()["services"]), ["writer", "research", "backend"]);
    }

    #[tokio::test]
    async fn is_degraded_and_still_200_when_one_fails() {
        let three = Three::start().await;
        let gateway = three.gateway("").await;
        three.research.checked(1).await;
        for (answer, why) in [(Answer::status(503), "a bad status"), (Answer::close(), "no answer")]
        {
            three.research.answer_checks([answer]);
            let reply = gateway.get("/health").await;
            assert_eq!(reply.status(), 200, "{why}");
            let page = reply.json();
            assert_eq!(page["overall"], "degraded", "{why}");
            assert_eq!(page["orchestrator"], "healthy", "{why}");
            assert_eq!(page["services"]["writer"]["status"], "healthy", "{why}");
            let failing = &page["services"]["research"];
            assert_eq!(keys(failing), ["status", "error", "url"], "{why}");
            assert_eq!(failing["status"], "unhealthy", "{why}");
            assert_eq!(failing["url"], three.research.url(), "{why}");
            assert!(!failing["error"].as_str().unwrap().is_empty(), "{why}");
        }
    }

    #[tokio::test]
    async fn is_degraded_when_all_fail() {
        let (one, two) = (Upstream::down(), Upstream::down());
        let lines =
            [service("writer", [&one]), service("research", [&two]), EVERYTHING_TO_WRITER.into()]
                .join("\n");
        let reply = Gateway::start(lines).await.get("/health").await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.json()["overall"], "degraded");
        assert_eq!(reply.json()["services"]["research"]["status"], "unhealthy");
    }

    #[tokio::test]
    async fn waits_for_a_slow_service_no_longer_than_the_checks_timeout() {
        let three = Three::start().await;
        three.backend.answer_checks([Answer::hang()]);
        let gateway = three.gateway(r#"health.timeout = "200ms""#).await;
        let page = gateway.get("/health").await.json();
        assert_eq!(page["overall"], "degraded");
        assert_eq!(page["services"]["backend"]["status"], "unhealthy");
        assert_eq!(page["services"]["writer"]["status"], "healthy");
    }

    #[tokio::test]
    async fn asks_once_for_all_who_ask_at_the_same_time() {
        let three = Three::start().await;
        let gateway = three.gateway("server.workers = 2").await;
        three.writer.checked(1).await;
        let gate = Gate::new();
        three.writer.answer_checks([Answer::json(&json!({})).behind(&gate)]);
        let mut askers: Vec<Client> = Vec::new();
        for _ in 0..5 {
            let mut asker = gateway.connect().await;
            asker.begin(&Request::get("/health")).await;
            askers.push(asker);
        }
        three.writer.checked(2).await;
        // Each worker answers in the order of arrival: when these have their answers, the workers
        // have passed the questions above on.
        for _ in 0..8 {
            gateway.get("/").await;
        }
        gate.open();
        for asker in &mut askers {
            assert_eq!(asker.reply().await.json()["overall"], "healthy");
        }
        assert_eq!(three.writer.checks().len(), 2);
    }

    #[tokio::test]
    async fn details_are_the_services_json_object_and_nothing_else() {
        let three = Three::start().await;
        let gateway = three.gateway("").await;
        let large = json!({"filler": "x".repeat(64 * 1024)});
        let small = json!({"filler": "x".repeat(60 * 1024)});
        for (answer, details, what) in [
            (Answer::ok("all is well"), json!({}), "not JSON"),
            (Answer::ok(""), json!({}), "no body"),
            (Answer::ok("[1, 2]"), json!({}), "not an object"),
            (Answer::ok(b"{\"a\": \"\xff\"}"), json!({}), "not UTF-8"),
            (Answer::json(&large), json!({}), "more than 64 KiB"),
            (Answer::json(&small), small.clone(), "just below 64 KiB"),
            (Answer::bytes("HTTP/1.1 204 No Content\r\n\r\n"), json!({}), "204"),
        ] {
            three.writer.answer_checks([answer]);
            let page = gateway.get("/health").await.json();
            assert_eq!(page["services"]["writer"]["status"], "healthy", "{what}");
            assert_eq!(page["services"]["writer"]["details"], details, "{what}");
        }
    }

    #[tokio::test]
    async fn a_check_is_healthy_on_2xx_only() {
        let three = Three::start().await;
        let gateway = three.gateway("breaker.failure_threshold = 100").await;
        for (status, health) in [
            (200, "healthy"),
            (299, "healthy"),
            (301, "unhealthy"),
            (404, "unhealthy"),
            (500, "unhealthy"),
        ] {
            three.writer.answer_checks([Answer::status(status)]);
            let page = gateway.get("/health").await.json();
            assert_eq!(page["services"]["writer"]["status"], health, "{status}");
        }
    }
}

mod status {
    use super::*;

    const SERVICE_KEYS: [&str; 12] = [
        "name",
        "url",
        "status",
        "last_check",
        "response_time_ms",
        "error",
        "circuit_state",
        "consecutive_failures",
        "uptime_percentage",
        "details",
        "decided_by",
        "reason",
    ];

    #[tokio::test]
    async fn shows_what_the_monitor_last_saw() {
        let three = Three::start().await;
        three.writer.answer_checks([Answer::json(&json!({"build": 7}))]);
        let gateway = three.gateway("").await;
        let page = eventually("all services to be checked", async || {
            Some(gateway.get("/health/status").await.json())
                .filter(|page| page["overall"] == "healthy")
        })
        .await;
        assert_eq!(keys(&page), ["overall", "timestamp", "services", "monitoring"]);
        assert!(is_utc(&page["timestamp"]), "{}", page["timestamp"]);
        assert_eq!(page["monitoring"], json!({"check_interval": 30, "running": true}));
        assert_eq!(keys(&page["services"]), ["writer", "research", "backend"]);

        let writer = &page["services"]["writer"];
        assert_eq!(keys(writer), SERVICE_KEYS);
        assert!(is_utc(&writer["last_check"]), "{writer}");
        assert!(writer["response_time_ms"].as_f64().unwrap() >= 0.0, "{writer}");
        for (key, value) in [
            ("name", json!("writer")),
            ("url", json!(three.writer.url())),
            ("status", json!("healthy")),
            ("error", Value::Null),
            ("circuit_state", json!("closed")),
            ("consecutive_failures", json!(0)),
            ("decided_by", json!("checks")),
            ("reason", json!("the last check passed")),
            ("details", json!({"build": 7})),
        ] {
            assert_eq!(writer[key], value, "{key}");
        }
        assert_eq!(writer["uptime_percentage"].as_f64(), Some(100.0));
    }

    #[tokio::test]
    async fn says_unknown_and_null_before_the_first_check() {
        let three = Three::start().await;
        for upstream in [&three.writer, &three.research, &three.backend] {
            upstream.answer_checks([Answer::hang()]);
        }
        let gateway = three.gateway("").await;
        let page = gateway.get("/health/status").await.json();
        assert_eq!(page["overall"], "unknown");
        let writer = &page["services"]["writer"];
        assert_eq!(keys(writer), SERVICE_KEYS);
        assert_eq!(writer["status"], "unknown");
        assert_eq!(writer["circuit_state"], "closed");
        assert_eq!(writer["consecutive_failures"], 0);
        assert_eq!(writer["details"], json!({}));
        assert_eq!(writer["reason"], "not checked yet");
        for key in ["last_check", "response_time_ms", "error", "decided_by"] {
            assert_eq!(writer[key], Value::Null, "{key}");
        }
    }

    #[tokio::test]
    async fn is_degraded_while_some_are_healthy_and_some_unknown() {
        let three = Three::start().await;
        three.backend.answer_checks([Answer::hang()]);
        let gateway = three.gateway("").await;
        gateway.status_of("writer", |writer| writer["status"] == "healthy").await;
        gateway.status_of("research", |research| research["status"] == "healthy").await;
        let page = gateway.get("/health/status").await.json();
        assert_eq!(page["services"]["backend"]["status"], "unknown");
        assert_eq!(page["overall"], "degraded");
    }

    #[tokio::test]
    async fn tells_why_a_service_is_unhealthy() {
        let three = Three::start().await;
        three.research.answer_checks([Answer::status(500)]);
        let gateway = three.gateway("").await;
        let research = gateway.status_of("research", |it| it["status"] == "unhealthy").await;
        assert_eq!(research["consecutive_failures"], 1);
        assert_eq!(research["circuit_state"], "closed");
        assert!(research["error"].as_str().unwrap().contains("500"), "{research}");
        assert!(is_utc(&research["last_check"]), "{research}");
        assert_eq!(research["uptime_percentage"].as_f64(), Some(0.0));
        assert_eq!(gateway.get("/health/status").await.json()["overall"], "degraded");
    }

    /// Checks and traffic agree in one state, and it is said which of them made it so.
    #[tokio::test]
    async fn tells_who_decided_and_why() {
        let three = Three::start().await;
        let lines = "breaker.failure_threshold = 1\npolicy.retry.config.attempts = 1\n\
                     services.writer.breaker = { open_for = \"300ms\", success_threshold = 2 }";
        three.research.answer_checks([Answer::status(500)]);
        let gateway = three.gateway(lines).await;
        let told = |status: &Value| {
            let of = |key: &str| status[key].as_str().unwrap().to_owned();
            (of("status"), of("decided_by"), of("reason"))
        };
        let by = |status: &str, by: &str, why: &str| (status.into(), by.into(), why.into());
        let research = gateway.status_of("research", |it| it["status"] == "unhealthy").await;
        let error = "circuit open: GET /health answered 500 Internal Server Error";
        assert_eq!(told(&research), by("unhealthy", "checks", error));
        assert_eq!(research["error"], error);

        gateway.status_of("writer", |it| it["status"] == "healthy").await;
        three.writer.answer([Answer::status(503), Answer::ok("")]);
        gateway.get("/x").await;
        let writer = gateway.get("/health/status/writer").await.json();
        let error = "circuit open: answered 503 Service Unavailable";
        assert_eq!(told(&writer), by("unhealthy", "traffic", error));
        // Its last check passed, and is not what counts.
        assert_eq!((&writer["consecutive_failures"], &writer["error"]), (&json!(0), &json!(error)));

        let writer = gateway.status_of("writer", |it| it["circuit_state"] == "half_open").await;
        let trial = "circuit half-open, on trial after: answered 503 Service Unavailable";
        assert_eq!(told(&writer), by("degraded", "traffic", trial));
        for _ in 0..2 {
            assert_eq!(gateway.get("/x").await.status(), 200);
        }
        let writer = gateway.get("/health/status/writer").await.json();
        assert_eq!(told(&writer), by("healthy", "checks", "the last check passed"));
    }

    #[tokio::test]
    async fn is_healthy_where_traffic_closed_the_circuit_that_checks_had_opened() {
        let writer = Upstream::start().await;
        writer.answer_checks([Answer::status(500)]);
        let lines =
            "breaker = { failure_threshold = 1, open_for = \"300ms\", success_threshold = 1 }";
        let gateway = Gateway::before([&writer], lines).await;
        gateway.status_of("writer", |it| it["decided_by"] == "checks").await;
        eventually("traffic to be let through", async || {
            (gateway.get("/x").await.status() == 200).then_some(())
        })
        .await;
        let status = gateway.get("/health/status/writer").await.json();
        assert_eq!(
            (&status["status"], &status["decided_by"]),
            (&json!("healthy"), &json!("traffic"))
        );
        assert_eq!(status["reason"], "the circuit closed after a check had failed");
        assert_eq!(status["error"], Value::Null);
    }

    #[tokio::test]
    async fn consecutive_failures_count_failed_checks_and_one_success_ends_the_count() {
        let three = Three::start().await;
        let (failed, passed) = (Answer::status(503), Answer::ok("{}"));
        three.writer.answer_checks([failed.clone(), failed.clone(), Answer::hang()]);
        three.research.answer_checks([failed.clone(), failed, passed, Answer::hang()]);
        let gateway = three.gateway("health.interval = \"50ms\"\nhealth.timeout = \"60s\"").await;
        three.writer.checked(3).await;
        three.research.checked(4).await;
        let page = gateway.get("/health/status").await.json();
        assert_eq!(page["services"]["writer"]["consecutive_failures"], 2);
        assert_eq!(page["services"]["research"]["consecutive_failures"], 0);
    }

    #[tokio::test]
    async fn uptime_is_the_share_of_the_last_checks_with_two_decimals() {
        let three = Three::start().await;
        let (failed, passed) = (Answer::status(503), Answer::ok("{}"));
        let (f, p) = (&failed, &passed);
        // One in three; and the same with an older failure that the history has forgotten.
        three.writer.answer_checks([p, f, p, &Answer::hang()].map(Answer::clone));
        three.research.answer_checks([f, f, p, p, &Answer::hang()].map(Answer::clone));
        let gateway = three
            .gateway("health.history = 3\nhealth.interval = \"50ms\"\nhealth.timeout = \"60s\"")
            .await;
        three.writer.checked(4).await;
        three.research.checked(5).await;
        let page = gateway.get("/health/status").await.json();
        assert_eq!(page["services"]["writer"]["uptime_percentage"].as_f64(), Some(66.67));
        assert_eq!(page["services"]["research"]["uptime_percentage"].as_f64(), Some(66.67));
        assert_eq!(page["monitoring"]["check_interval"].as_f64(), Some(0.05));
    }

    #[tokio::test]
    async fn of_one_service_is_the_same_object() {
        let three = Three::start().await;
        let gateway = three.gateway("").await;
        let writer = gateway.status_of("writer", |writer| writer["status"] == "healthy").await;
        assert_eq!(writer, gateway.get("/health/status").await.json()["services"]["writer"]);
    }

    #[tokio::test]
    async fn of_a_service_that_does_not_exist_is_404_and_names_those_that_do() {
        let gateway = Three::start().await.gateway("").await;
        let detail = gateway.get("/health/status/x").await.problem(404);
        let start = "Service 'x' not found. Available services: [";
        let names = detail.strip_prefix(start).and_then(|rest| rest.strip_suffix(']'));
        let names = names.unwrap_or_else(|| panic!("{detail}")).replace(['\'', '"'], "");
        assert_eq!(names, "writer, research, backend");
    }

    #[tokio::test]
    async fn lists_the_endpoints_where_there_are_several() {
        let (up, down) = (Upstream::start().await, Upstream::down());
        let gateway = Gateway::before([&down, &up], "").await;
        let writer = gateway.status_of("writer", |writer| writer["status"] == "degraded").await;
        assert_eq!(writer["url"], down.url(), "the first endpoint's");
        assert_eq!(writer["circuit_state"], "closed");
        assert_eq!(writer["consecutive_failures"], 1, "the worst of them");
        assert_eq!(writer["uptime_percentage"].as_f64(), Some(50.0), "the mean");
        let endpoints = writer["endpoints"].as_array().unwrap();
        let seen: Vec<_> =
            endpoints.iter().map(|endpoint| (&endpoint["url"], &endpoint["status"])).collect();
        assert_eq!(
            seen,
            [(&json!(down.url()), &json!("unhealthy")), (&json!(up.url()), &json!("healthy"))]
        );
        for endpoint in endpoints {
            for key in SERVICE_KEYS.iter().filter(|key| **key != "name") {
                assert!(endpoint.get(key).is_some(), "{key} is missing in {endpoint}");
            }
        }
    }

    /// Too few circuits are closed: open ones are passed over, and the page says so.
    #[tokio::test]
    async fn of_several_endpoints_says_when_open_circuits_do_not_count() {
        let (one, two) = (Upstream::start().await, Upstream::start().await);
        for upstream in [&one, &two] {
            upstream.answer_checks([Answer::status(500)]);
        }
        let lines = "breaker.failure_threshold = 1";
        let gateway = Gateway::before([&one, &two], lines).await;
        let writer = gateway.status_of("writer", |writer| writer["panic"] == true).await;
        assert_eq!(
            (&writer["status"], &writer["circuit_state"]),
            (&json!("unhealthy"), &json!("open"))
        );
        assert_eq!(gateway.get("/x").await.text(), "hello", "and it is tried all the same");
        let fine = Gateway::before([&one, &two], "").await;
        assert_eq!(fine.get("/health/status/writer").await.json()["panic"], false);
    }

    #[tokio::test]
    async fn of_several_endpoints_is_unhealthy_when_none_passes() {
        let (one, two) = (Upstream::down(), Upstream::down());
        let gateway = Gateway::before([&one, &two], "").await;
        let writer = gateway.status_of("writer", |writer| writer["status"] == "unhealthy").await;
        assert_eq!(writer["uptime_percentage"].as_f64(), Some(0.0));
    }
}

mod docs {
    use super::*;

    #[tokio::test]
    async fn is_a_page_for_people() {
        let reply = Three::start().await.gateway("").await.get("/docs").await;
        assert_eq!(reply.status(), 200);
        assert!(reply.header("content-type").unwrap().starts_with("text/html"));
        for page in ["/health", "/health/status", "/health/status/{service}", "/openapi.json"] {
            assert!(reply.text().contains(page), "{page} is not described");
        }
        // A gateway may stand where no other host can be reached.
        assert!(!reply.text().contains("https://"), "loads from elsewhere");
    }

    #[tokio::test]
    async fn has_an_openapi_description_beside_it() {
        let reply = Three::start().await.gateway("").await.get("/openapi.json").await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
        let api = reply.json();
        assert!(api["openapi"].as_str().unwrap().starts_with("3."));
        assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
        for path in ["/", "/health", "/health/status", "/health/status/{service}"] {
            assert!(api["paths"][path]["get"]["responses"]["200"].is_object(), "{path}");
        }
        assert!(api["paths"]["/health/status/{service}"]["get"]["responses"]["404"].is_object());
    }
}

mod placement {
    use super::*;

    #[tokio::test]
    async fn a_path_below_a_page_is_not_a_page() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        for path in ["/healthy", "/health/other", "/docs/x", "/openapi.json.gz"] {
            assert_eq!(gateway.get(path).await.text(), "hello", "{path}");
        }
        assert_eq!(writer.count(), 4);
    }

    #[tokio::test]
    async fn without_pages_every_path_is_the_policys() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "server.pages = false").await;
        for path in ["/", "/health", "/health/status", "/docs", "/openapi.json"] {
            assert_eq!(gateway.get(path).await.text(), "hello", "{path}");
        }
        assert_eq!(gateway.admin_get("/livez").await.status(), 200);
    }

    #[tokio::test]
    async fn a_prefix_moves_the_pages_out_of_the_services_way() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], r#"server.pages_prefix = "/_gateway""#).await;
        for path in ["/", "/health", "/docs", "/_gatewayhealth"] {
            assert_eq!(gateway.get(path).await.text(), "hello", "{path}");
        }
        let home = gateway.get("/_gateway/").await.json();
        assert_eq!(home["docs"], "/_gateway/docs");
        assert_eq!(gateway.get("/_gateway/health").await.json()["overall"], "healthy");
        let writer = gateway.get("/_gateway/health/status/writer").await.json();
        assert_eq!(writer["name"], "writer");
        let api = gateway.get("/_gateway/openapi.json").await.json();
        assert_eq!(api["servers"][0]["url"], "/_gateway");
    }

    #[tokio::test]
    async fn a_page_is_served_while_a_service_hangs() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut stuck = gateway.connect().await;
        stuck.begin(&Request::get("/x")).await;
        writer.received(|_| true).await;
        let begun = std::time::Instant::now();
        within("the home page", gateway.get("/")).await;
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
