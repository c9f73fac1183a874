//! When a failed attempt is made again: what the policy may ask for, and what the host never does.

use std::time::{Duration, Instant};

use orchestrator_tests::{Answer, Gate, Gateway, Request, Upstream, eventually};

/// What a test of several attempts says about the breaker: that it is not meant.
const NO_BREAKER: &str = "breaker.failure_threshold = 1000";

/// And about the budget too, where there are many requests.
const FREELY: &str = "breaker.failure_threshold = 1000\nproxy.retry_budget_min_per_s = 1000";

mod again {
    use super::*;

    #[tokio::test]
    async fn after_a_refused_connection() {
        let mut writer = Upstream::down();
        let gateway = Gateway::before(
            [&writer],
            format!("policy.retry.config.attempts = 100\nproxy.retry_attempts_max = 100\n{FREELY}"),
        )
        .await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        gateway.metric_reaches("orchestrator_retries_total", &[("service", "writer")], 2.0).await;
        writer.up();
        let reply = client.reply().await;
        assert_eq!(reply.text(), "hello");
        assert!(gateway.access_of(&reply).await["attempts"].as_u64().unwrap() >= 3);
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn after_a_connection_that_breaks_before_the_response_head_is_complete() {
        for (broken, how) in [
            (Answer::close(), "closed"),
            (Answer::reset(), "reset"),
            (Answer::bytes("HTTP/1.1 200 OK\r\nContent-").then_close(), "amid the head"),
        ] {
            let writer = Upstream::answering([broken, Answer::ok("second")]).await;
            let gateway = Gateway::before([&writer], "").await;
            let reply = gateway.get("/x").await;
            assert_eq!(reply.text(), "second", "{how}");
            assert_eq!(gateway.access_of(&reply).await["attempts"], 2, "{how}");
            let metrics = gateway.metrics().await;
            let labels = [("service", "writer"), ("outcome", "connection_lost")];
            assert_eq!(metrics.sum("orchestrator_attempts_total", &labels), 1.0, "{how}");
        }
    }

    #[tokio::test]
    async fn after_an_attempts_timeout() {
        let writer = Upstream::answering([Answer::hang(), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], r#"proxy.attempt_timeout = "200ms""#).await;
        let reply = gateway.get("/x").await;
        assert_eq!(reply.text(), "second");
        assert_eq!(gateway.access_of(&reply).await["attempts"], 2);
    }

    #[tokio::test]
    async fn after_502_503_and_504() {
        for status in [502, 503, 504] {
            let writer = Upstream::answering([Answer::status(status), Answer::ok("second")]).await;
            let gateway = Gateway::before([&writer], "").await;
            assert_eq!(gateway.get("/x").await.text(), "second", "{status}");
        }
    }

    #[tokio::test]
    async fn never_after_other_statuses() {
        let writer =
            Upstream::with(|head| Answer::status(head.target()[1..].parse().unwrap())).await;
        let gateway = Gateway::before([&writer], "").await;
        for (count, status) in [200, 301, 400, 404, 429, 500, 501, 505, 599].iter().enumerate() {
            let reply = gateway.get(&format!("/{status}")).await;
            assert_eq!(reply.status(), *status);
            assert_eq!(writer.count(), count + 1, "{status}");
        }
    }

    #[tokio::test]
    async fn after_the_statuses_of_the_list_and_no_others() {
        let writer = Upstream::answering([
            Answer::status(429),
            Answer::ok("second"),
            Answer::status(503),
            Answer::ok("not asked for"),
        ])
        .await;
        let gateway = Gateway::before([&writer], "policy.retry.config.statuses = [429]").await;
        assert_eq!(gateway.get("/x").await.text(), "second");
        assert_eq!(gateway.get("/x").await.status(), 503);
        assert_eq!(writer.count(), 3);
    }

    #[tokio::test]
    async fn only_for_the_outcomes_that_count() {
        let writer = Upstream::answering([Answer::close(), Answer::ok("not asked for")]).await;
        let gateway = Gateway::before([&writer], r#"policy.retry.config.on = ["status"]"#).await;
        gateway.get("/x").await.problem(503);
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn as_often_as_attempts_says_the_first_included() {
        for attempts in [1, 2, 4] {
            let writer = Upstream::answering([Answer::status(503)]).await;
            let lines = format!("policy.retry.config.attempts = {attempts}\n{NO_BREAKER}");
            let gateway = Gateway::before([&writer], lines).await;
            let reply = gateway.get("/x").await;
            assert_eq!(writer.count(), attempts);
            assert_eq!(gateway.access_of(&reply).await["attempts"], attempts);
        }
    }

    #[tokio::test]
    async fn after_the_delay() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], r#"policy.retry.config.delay = "300ms""#).await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/x").await.text(), "second");
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn at_another_endpoint_first() {
        let failing = Upstream::answering([Answer::status(503)]).await;
        let (refusing, fine) = (Upstream::down(), Upstream::start().await);
        let gateway = Gateway::before([&failing, &refusing, &fine], FREELY).await;
        // Whichever comes first: three attempts reach all three.
        for _ in 0..20 {
            let reply = gateway.get("/x").await;
            assert_eq!(reply.text(), "hello");
            let attempts = gateway.access_of(&reply).await["attempts"].as_u64().unwrap();
            assert!(attempts <= 3, "{attempts}");
        }
    }

    #[tokio::test]
    async fn at_the_same_endpoint_where_there_is_no_other() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], "").await;
        assert_eq!(gateway.get("/x").await.text(), "second");
    }

    #[tokio::test]
    async fn reads_a_short_failed_response_to_its_end_and_keeps_its_connection() {
        let long = Answer::new(503, &[], "x".repeat(64 * 1024));
        for (failed, kept) in [(Answer::status(503), 2), (long, 1)] {
            let writer = Upstream::answering([failed, Answer::ok("second")]).await;
            let gateway = Gateway::before([&writer], "").await;
            writer.checked(1).await;
            assert_eq!(gateway.get("/x").await.text(), "second");
            eventually(format!("{kept} connections to be kept"), async || {
                (writer.connections().1 == kept).then_some(())
            })
            .await;
        }
    }

    #[tokio::test]
    async fn is_counted_with_its_reason() {
        let writer =
            Upstream::answering([Answer::status(503), Answer::close(), Answer::ok("third")]).await;
        let gateway = Gateway::before([&writer], "").await;
        assert_eq!(gateway.get("/x").await.text(), "third");
        let metrics = gateway.metrics().await;
        for reason in ["status", "connection_lost"] {
            let labels = [("service", "writer"), ("reason", reason)];
            assert_eq!(metrics.sum("orchestrator_retries_total", &labels), 1.0, "{reason}");
        }
        let attempts = [("service", "writer")];
        assert_eq!(metrics.sum("orchestrator_attempts_total", &attempts), 3.0);
    }
}

mod never {
    use super::*;

    #[tokio::test]
    async fn a_request_that_may_have_taken_effect() {
        for (broken, how) in
            [(Answer::close(), "closed"), (Answer::reset(), "reset"), (Answer::hang(), "timeout")]
        {
            for method in ["POST", "PATCH", "PURGE"] {
                let writer = Upstream::answering([broken.clone(), Answer::ok("again")]).await;
                let gateway =
                    Gateway::before([&writer], r#"proxy.attempt_timeout = "200ms""#).await;
                let reply = gateway.call(Request::new(method, "/x").body("once")).await;
                reply.problem(if how == "timeout" { 504 } else { 503 });
                assert_eq!(writer.count(), 1, "{method}, {how}");
            }
        }
    }

    #[tokio::test]
    async fn a_post_whose_answer_was_an_error() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("again")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let reply = gateway.call(Request::post("/x", "once")).await;
        assert_eq!((reply.status(), reply.text().as_str()), (503, "503 by the upstream"));
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn but_a_post_that_was_not_sent_goes_to_the_next_endpoint() {
        let (refusing, fine) = (Upstream::down(), Upstream::start().await);
        let gateway = Gateway::before([&refusing, &fine], FREELY).await;
        for count in 1..=20 {
            let reply = gateway.call(Request::post("/x", "once")).await;
            assert_eq!(reply.text(), "hello");
            assert_eq!(fine.count(), count);
            assert_eq!(fine.requests()[count - 1].body, b"once");
        }
        let metrics = gateway.metrics().await;
        let labels = [("service", "writer"), ("reason", "connect_failed")];
        assert!(
            metrics.sum("orchestrator_retries_total", &labels) > 0.0,
            "never began at the first"
        );
    }

    #[tokio::test]
    async fn but_idempotent_methods_are() {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let writer = Upstream::answering([Answer::close(), Answer::ok("")]).await;
            let gateway = Gateway::before([&writer], "").await;
            let reply = gateway.call(Request::new(method, "/x")).await;
            assert_eq!((reply.status(), writer.count()), (200, 2), "{method}");
        }
    }

    #[tokio::test]
    async fn with_a_body_that_was_passed_on_and_not_kept() {
        let writer = Upstream::answering([Answer::close(), Answer::ok("half a body")]).await;
        let gateway = Gateway::before([&writer], r#"proxy.replay_body_max = "3B""#).await;
        let reply = gateway.call(Request::new("PUT", "/x").body("gone")).await;
        reply.problem(503);
        assert_eq!(writer.count(), 1);
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn the_last_response_of_the_service_passes_unchanged() {
        let own = Answer::new(
            503,
            &[("Content-Type", "application/json"), ("Retry-After", "7"), ("X-Own", "1")],
            r#"{"error": "the service's own words"}"#,
        );
        let writer = Upstream::answering([Answer::status(502), Answer::status(504), own]).await;
        let gateway = Gateway::before([&writer], "").await;
        let reply = gateway.get("/x").await;
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.header("content-type").unwrap(), "application/json");
        assert_eq!(reply.header("retry-after").unwrap(), "7");
        assert_eq!(reply.header("x-own").unwrap(), "1");
        assert_eq!(reply.text(), r#"{"error": "the service's own words"}"#);
        assert_eq!(writer.count(), 3);
    }

    #[tokio::test]
    async fn without_a_response_a_broken_connection_is_503() {
        let writer = Upstream::answering([Answer::close()]).await;
        let gateway = Gateway::before([&writer], NO_BREAKER).await;
        let detail = gateway.get("/x").await.problem(503);
        assert!(detail.starts_with("writer service unavailable: "), "{detail}");
        assert_eq!(writer.count(), 3);
    }

    #[tokio::test]
    async fn without_a_connection_it_is_503_and_no_address_leaks() {
        let writer = Upstream::down();
        let gateway = Gateway::before([&writer], NO_BREAKER).await;
        let reply = gateway.get("/x").await;
        let detail = reply.problem(503);
        assert!(detail.starts_with("writer service unavailable: "), "{detail}");
        assert!(!detail.contains(&writer.port().to_string()), "{detail}");
        let line = gateway.access_of(&reply).await;
        assert_eq!((&line["attempts"], &line["endpoint"]), (&3.into(), &writer.url().into()));
    }

    #[tokio::test]
    async fn without_an_answer_in_time_it_is_504() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let lines = format!("proxy.attempt_timeout = \"100ms\"\n{NO_BREAKER}");
        let gateway = Gateway::before([&writer], lines).await;
        let detail = gateway.get("/x").await.problem(504);
        assert_eq!(detail, "writer service timeout");
        assert_eq!(writer.count(), 3);
    }

    #[tokio::test]
    async fn the_last_failure_decides_between_503_and_504() {
        let writer = Upstream::answering([Answer::hang(), Answer::hang(), Answer::close()]).await;
        let lines = format!("proxy.attempt_timeout = \"100ms\"\n{NO_BREAKER}");
        let gateway = Gateway::before([&writer], &lines).await;
        gateway.get("/x").await.problem(503);
        let writer =
            Upstream::answering([Answer::status(503), Answer::close(), Answer::hang()]).await;
        let gateway = Gateway::before([&writer], lines).await;
        gateway.get("/x").await.problem(504);
    }

    #[tokio::test]
    async fn a_connection_that_never_comes_about_fails_after_the_connect_timeout() {
        let nowhere = Upstream::unreachable();
        let lines = format!(
            "services.writer.endpoints = [{:?}]\nproxy.connect_timeout = \"100ms\"\n\
             policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\" }}]",
            nowhere.url()
        );
        let gateway = Gateway::start(lines).await;
        gateway.get("/x").await.problem(503);
    }
}

mod time {
    use super::*;

    #[tokio::test]
    async fn of_a_request_covers_all_its_attempts_and_delays() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let lines = format!(
            "proxy.request_timeout = \"700ms\"\nproxy.attempt_timeout = \"200ms\"\n\
             proxy.retry_attempts_max = 100\npolicy.retry.config.attempts = 100\n{NO_BREAKER}"
        );
        let gateway = Gateway::before([&writer], lines).await;
        let begun = Instant::now();
        let detail = gateway.get("/x").await.problem(504);
        assert_eq!(detail, "writer service timeout");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(600), "{took:?}");
        assert!(took < Duration::from_millis(1500), "{took:?}");
        assert!((2..=4).contains(&writer.count()), "{} attempts", writer.count());
    }

    #[tokio::test]
    async fn of_a_request_bounds_a_single_attempt() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], r#"proxy.request_timeout = "300ms""#).await;
        let detail = gateway.get("/x").await.problem(504);
        assert_eq!(detail, "writer service timeout");
        assert_eq!(writer.count(), 1);
    }

    /// Also of a request whose body nobody has asked for yet, whole or not.
    #[tokio::test]
    async fn of_a_request_bounds_the_wait_for_a_connection() {
        let nowhere = Upstream::unreachable();
        let lines = format!(
            "services.writer.endpoints = [{:?}]\nproxy.request_timeout = \"300ms\"\n\
             proxy.connect_timeout = \"1m\"\nproxy.idle_timeout = \"1m\"\n\
             policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\" }}]",
            nowhere.url()
        );
        let gateway = Gateway::start(lines).await;
        for body in [
            "Content-Length: 0\r\n\r\n",
            "Content-Length: 4\r\n\r\nbody",
            "Content-Length: 4\r\n\r\nbo",
        ] {
            let begun = Instant::now();
            let mut client = gateway.connect().await;
            client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{body}")).await;
            assert_eq!(client.reply().await.problem(504), "writer service timeout", "{body}");
            let took = begun.elapsed();
            assert!(
                took >= Duration::from_millis(300) && took < Duration::from_secs(5),
                "{took:?}"
            );
        }
    }

    #[tokio::test]
    async fn that_is_too_short_for_the_delay_ends_at_once_with_what_there_is() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let lines = "proxy.request_timeout = \"2s\"\npolicy.retry.config.delay = \"5s\"";
        let gateway = Gateway::before([&writer], lines).await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/x").await.text(), "503 by the upstream");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn ends_with_the_response_head() {
        let gate = Gate::new();
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
            .then_wait(&gate)
            .then_send("lf");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], r#"proxy.request_timeout = "200ms""#).await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        gate.open();
        assert_eq!(client.wire.exactly(4).await.unwrap(), b"half");
    }
}

mod limits {
    use super::*;

    #[tokio::test]
    async fn a_policy_gets_no_more_attempts_than_the_host_allows() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let lines = format!(
            "policy.retry.config.attempts = 50\nproxy.retry_attempts_max = 2\n{NO_BREAKER}"
        );
        let gateway = Gateway::before([&writer], lines).await;
        assert_eq!(gateway.get("/x").await.status(), 503);
        assert_eq!(writer.count(), 2);
        let labels = [("limit", "proxy.retry_attempts_max"), ("effect", "retry_refused")];
        assert_eq!(gateway.metrics().await.sum("orchestrator_limit_hits_total", &labels), 1.0);
    }

    #[tokio::test]
    async fn a_policy_cannot_wait_longer_than_the_host_allows() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let lines = "policy.retry.config.delay = \"20s\"\nproxy.retry_delay_max = \"50ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/x").await.text(), "second");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let labels = [("service", "writer"), ("limit", "proxy.retry_delay_max")];
        assert_eq!(gateway.metrics().await.sum("orchestrator_limit_hits_total", &labels), 1.0);
    }

    #[tokio::test]
    async fn retries_of_a_service_stay_within_its_budget() {
        let failing = Upstream::answering([Answer::status(503)]).await;
        let fine = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let lines = [
            orchestrator_tests::service("writer", [&failing]),
            orchestrator_tests::service("research", [&fine]),
            r#"policy.routing.config.routes = [{ path_prefix = "/w", service = "writer" }, { path_prefix = "/r", service = "research" }]"#.into(),
            "proxy.retry_budget_ratio = 0.2\nproxy.retry_budget_min_per_s = 1".into(),
            "policy.retry.config.attempts = 2\npolicy.retry.config.delay = \"0ms\"".into(),
            NO_BREAKER.into(),
        ];
        let gateway = Gateway::start(lines.join("\n")).await;
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(gateway.get("/w").await.text(), "503 by the upstream");
        }
        let retries = failing.count() - 100;
        // A fifth of the requests, and one for each second: with room for what is saved at first.
        let most = 20 + 12 + begun.elapsed().as_secs() as usize;
        assert!((1..=most).contains(&retries), "{retries} retries, at most {most}");
        let labels = [("service", "writer"), ("limit", "proxy.retry_budget_ratio")];
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("orchestrator_limit_hits_total", &labels), (100 - retries) as f64);
        // One bad service eats nobody else's budget.
        assert_eq!(gateway.get("/r").await.text(), "second");
    }

    #[tokio::test]
    async fn without_a_budget_there_is_no_retry() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let lines = "proxy.retry_budget_ratio = 0.0\nproxy.retry_budget_min_per_s = 0";
        let gateway = Gateway::before([&writer], lines).await;
        assert_eq!(gateway.get("/x").await.status(), 503);
        assert_eq!(writer.count(), 1);
    }
}
