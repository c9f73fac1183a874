//! The default retry policy beyond its defaults: delays that grow, `Retry-After`, and what is different
//! for some methods, outcomes and services.

use std::time::{Duration, Instant};

use orchestrator_tests::{Answer, Gateway, Request, Upstream, service};

/// That the breaker and the budget are not meant.
const FREELY: &str = "breaker.failure_threshold = 1000\nproxy.retry_budget_min_per_s = 1000";

/// A service that is busy for so many seconds, and then is not.
async fn busy(seconds: u32) -> Upstream {
    let busy = Answer::new(503, &[("Retry-After", &seconds.to_string())], "busy");
    Upstream::answering([busy, Answer::ok("second")]).await
}

mod backoff {
    use super::*;

    #[tokio::test]
    async fn grows_from_attempt_to_attempt() {
        let writer =
            Upstream::answering([Answer::status(503), Answer::status(503), Answer::ok("third")])
                .await;
        let lines = r#"policy.retry.config = { backoff = { initial = "100ms", factor = 4, jitter = "none" } }"#;
        let gateway = Gateway::before([&writer], lines).await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/x").await.text(), "third");
        assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn is_a_matter_of_chance_with_full_jitter() {
        let writer = Upstream::with(|head| match head.target() {
            "/warm" => Answer::ok("warm"),
            _ => Answer::status(503),
        })
        .await;
        let lines = r#"policy.retry.config = { attempts = 2, backoff = { initial = "200ms" } }"#;
        let gateway = Gateway::before([&writer], format!("{lines}\n{FREELY}")).await;
        gateway.get("/warm").await;
        let mut took = Vec::new();
        for _ in 0..12 {
            let begun = Instant::now();
            assert_eq!(gateway.get("/x").await.status(), 503);
            took.push(begun.elapsed());
        }
        // Each is in a certain quarter with one chance in four: twelve are not in 16 million.
        assert!(took.iter().any(|took| *took < Duration::from_millis(150)), "{took:?}");
        assert!(took.iter().any(|took| *took > Duration::from_millis(50)), "{took:?}");
    }
}

mod retry_after {
    use super::*;

    #[tokio::test]
    async fn is_waited_for() {
        let writer = busy(1).await;
        let gateway = Gateway::before([&writer], "").await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/x").await.text(), "second");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn beyond_its_ceiling_ends_the_attempts_and_reaches_the_client() {
        let writer = busy(120).await;
        let gateway = Gateway::before([&writer], "proxy.request_timeout = \"10m\"").await;
        let reply = gateway.get("/x").await;
        assert_eq!((reply.status(), reply.text().as_str()), (503, "busy"));
        assert_eq!(reply.header("retry-after").as_deref(), Some("120"));
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn is_not_cut_short_by_the_gateways_own_ceiling() {
        let writer = busy(2).await;
        let gateway = Gateway::before([&writer], "proxy.retry_delay_max = \"100ms\"").await;
        let reply = gateway.get("/x").await;
        assert_eq!((reply.status(), reply.text().as_str()), (503, "busy"));
        assert_eq!(writer.count(), 1);
        let refused = [
            ("service", "writer"),
            ("limit", "proxy.retry_delay_max"),
            ("effect", "retry_refused"),
        ];
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("orchestrator_limit_hits_total", &refused), 1.0);
    }

    #[tokio::test]
    async fn can_be_ignored() {
        let writer = busy(120).await;
        let lines = "policy.retry.config.retry_after = \"ignore\"";
        let gateway = Gateway::before([&writer], lines).await;
        assert_eq!(gateway.get("/x").await.text(), "second");
    }
}

mod exceptions {
    use super::*;

    #[tokio::test]
    async fn are_made_by_method_and_status() {
        let writer = Upstream::with(|head| match head.target() {
            "/404" => Answer::status(404),
            _ => Answer::status(503),
        })
        .await;
        let rules = r#"policy.retry.config.rules = [
            { methods = ["PUT"], attempts = 1 },
            { statuses = ["4xx"], attempts = 2 },
        ]"#;
        let gateway = Gateway::before([&writer], format!("{rules}\n{FREELY}")).await;
        for (method, target, attempts) in
            [("PUT", "/x", 1), ("PUT", "/404", 1), ("GET", "/404", 2), ("DELETE", "/x", 3)]
        {
            let reply = gateway.call(Request::new(method, target)).await;
            let line = gateway.access_of(&reply).await;
            assert_eq!(line["attempts"], attempts, "{method} {target}");
        }
    }

    #[tokio::test]
    async fn are_made_for_a_service() {
        let [writer, research] = [
            Upstream::answering([Answer::status(503)]).await,
            Upstream::answering([Answer::status(503)]).await,
        ];
        let lines = [
            service("writer", [&writer]),
            service("research", [&research]),
            r#"policy.routing.config.routes = [{ path_prefix = "/w", service = "writer" }, { path_prefix = "/r", service = "research" }]"#.into(),
            "policy.retry.config.services.writer.attempts = 1".into(),
            FREELY.into(),
        ];
        let gateway = Gateway::start(lines.join("\n")).await;
        assert_eq!(gateway.get("/w").await.status(), 503);
        assert_eq!(gateway.get("/r").await.status(), 503);
        assert_eq!((writer.count(), research.count()), (1, 3));
    }
}
