//! The circuit of an endpoint: what opens it, what an open one means, how it closes again.

use std::time::{Duration, Instant};

use orchestrator_tests::{
    Answer, Client, EVERYTHING_TO_WRITER, Gate, Gateway, Request, Upstream, eventually, service,
};

/// One attempt a request, so that each request is one fault.
const ONE_ATTEMPT: &str = "policy.retry.config.attempts = 1";

/// And a circuit that half-opens soon.
const SOON: &str = "policy.retry.config.attempts = 1\nbreaker.open_for = \"300ms\"";

async fn fail(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        gateway.get("/x").await;
    }
}

async fn circuit(gateway: &Gateway) -> String {
    let status = gateway.get("/health/status/writer").await.json();
    status["circuit_state"].as_str().unwrap().to_owned()
}

/// Asks until the service is asked again.
async fn until_admitted(gateway: &Gateway, upstream: &Upstream) {
    let before = upstream.count();
    eventually("the circuit to let an attempt through", async || {
        gateway.get("/x").await;
        (upstream.count() > before).then_some(())
    })
    .await;
}

mod opens {
    use super::*;

    #[tokio::test]
    async fn at_the_third_failure_in_a_row() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        fail(&gateway, 2).await;
        assert_eq!(circuit(&gateway).await, "closed");
        fail(&gateway, 1).await;
        assert_eq!(circuit(&gateway).await, "open");
        assert_eq!(writer.count(), 3);
    }

    #[tokio::test]
    async fn but_a_success_in_between_begins_the_count_again() {
        let (bad, good) = (Answer::status(503), Answer::ok(""));
        let answers = [&bad, &bad, &good, &bad, &bad, &good].map(Clone::clone);
        let writer = Upstream::answering(answers).await;
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        fail(&gateway, 6).await;
        assert_eq!(circuit(&gateway).await, "closed");
        assert_eq!(writer.count(), 6);
    }

    #[tokio::test]
    async fn for_lost_connections_and_502_503_504_and_nothing_less() {
        for (answer, opens) in [
            (Answer::close(), true),
            (Answer::reset(), true),
            (Answer::status(502), true),
            (Answer::status(504), true),
            (Answer::status(500), false),
            (Answer::status(404), false),
            (Answer::status(429), false),
        ] {
            let writer = Upstream::answering([answer.clone()]).await;
            let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
            fail(&gateway, 4).await;
            assert_eq!(circuit(&gateway).await == "open", opens, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn for_refused_connections() {
        let writer = Upstream::down();
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        fail(&gateway, 3).await;
        assert_eq!(circuit(&gateway).await, "open");
    }

    #[tokio::test]
    async fn for_timeouts_but_not_for_those_below_the_floor() {
        for (floor, opens) in [("50ms", true), ("1s", false)] {
            let writer = Upstream::answering([Answer::hang()]).await;
            let lines = format!(
                "{ONE_ATTEMPT}\nproxy.attempt_timeout = \"100ms\"\nbreaker.timeout_floor = {floor:?}"
            );
            let gateway = Gateway::before([&writer], lines).await;
            fail(&gateway, 3).await;
            assert_eq!(circuit(&gateway).await == "open", opens, "floor {floor}");
        }
    }

    /// What is left of the request's time for a last attempt says nothing about the endpoint.
    #[tokio::test]
    async fn not_for_a_late_attempt_that_had_less_time_than_the_floor() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let lines = "proxy.request_timeout = \"900ms\"\nproxy.attempt_timeout = \"600ms\"\n\
                     breaker.timeout_floor = \"500ms\"\nbreaker.failure_threshold = 2\n\
                     policy.retry.config.attempts = 2";
        let gateway = Gateway::before([&writer], lines).await;
        let reply = gateway.get("/x").await;
        reply.problem(504);
        let line = gateway.access_of(&reply).await;
        let outcomes = [&line["tried"][0]["outcome"], &line["tried"][1]["outcome"]];
        assert_eq!(outcomes, ["attempt_timeout", "request_timeout"], "{line}");
        assert_eq!(circuit(&gateway).await, "closed", "one fault, not two");
        gateway.get("/x").await;
        assert_eq!(circuit(&gateway).await, "open", "and then the second");
    }

    #[tokio::test]
    async fn not_for_what_the_client_did() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        for count in 1..=4 {
            let mut client: Client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            eventually("the request to arrive", async || (writer.count() == count).then_some(()))
                .await;
            drop(client);
        }
        let labels = [("service", "writer")];
        gateway.metric_reaches("orchestrator_requests_total", &labels, 4.0).await;
        assert_eq!(circuit(&gateway).await, "closed");
    }

    /// It stalls, is framed badly, or is larger than allowed.
    #[tokio::test]
    async fn not_for_what_is_wrong_with_a_clients_body() {
        let writer = Upstream::start().await;
        let lines = "breaker.failure_threshold = 1\nbreaker.timeout_floor = \"0s\"\n\
                     proxy.idle_timeout = \"200ms\"\nlimits.body_bytes = \"1KiB\"";
        let gateway = Gateway::before([&writer], lines).await;
        let large = format!("500\r\n{}\r\n", "x".repeat(0x500));
        for (chunks, status) in [("4\r\nhalf", 408), ("4\r\nhalf\r\nx\r\n", 400), (&large, 413)] {
            let mut client = gateway.connect().await;
            client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            client.send(chunks).await;
            client.reply().await.problem(status);
            assert_eq!(circuit(&gateway).await, "closed", "after {status}");
        }
    }

    /// As long as it is not shorter than the floor.
    #[tokio::test]
    async fn for_a_service_that_takes_nothing_of_a_body() {
        for (floor, opens) in [("100ms", true), ("1m", false)] {
            let writer = Upstream::answering([Answer::hang().before_body()]).await;
            let lines = format!(
                "breaker.failure_threshold = 1\nproxy.idle_timeout = \"300ms\"\n\
                 breaker.timeout_floor = {floor:?}"
            );
            let gateway = Gateway::before([&writer], lines).await;
            let mut client = gateway.connect().await;
            client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").await;
            let sending = tokio::spawn(async move {
                let piece = [b'x'; 1 << 16];
                while client.wire.send(&piece).await.is_ok() {}
            });
            let line = gateway.access_line(|line| line["path"] == "/x").await;
            assert_eq!((&line["status"], &line["why"]), (&504.into(), &"body_stalled".into()));
            assert_eq!(circuit(&gateway).await == "open", opens, "floor {floor}");
            sending.abort();
        }
    }

    /// The head is what counts: the service has answered.
    #[tokio::test]
    async fn not_for_a_response_that_breaks_off_behind_its_head() {
        let broken = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").then_close();
        let writer = Upstream::answering([broken]).await;
        let gateway = Gateway::before([&writer], "breaker.failure_threshold = 1").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        let head = client.head().await;
        assert!(client.rest(head.response_framing("GET")).await.1.is_err());
        gateway.access_line(|line| line["why"] == "upstream_lost").await;
        assert_eq!(circuit(&gateway).await, "closed");
    }

    #[tokio::test]
    async fn for_failed_checks_as_well() {
        let writer = Upstream::start().await;
        writer.answer_checks([Answer::status(503)]);
        let gateway = Gateway::before([&writer], "health.interval = \"50ms\"").await;
        let status = gateway.status_of("writer", |it| it["circuit_state"] == "open").await;
        assert_eq!(status["consecutive_failures"], 3);
        gateway.get("/x").await.problem(503);
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn counting_checks_and_traffic_apart() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        writer.answer_checks([Answer::status(503), Answer::status(503), Answer::hang()]);
        let lines = "health.interval = \"50ms\"\nhealth.timeout = \"60s\"";
        let gateway = Gateway::before([&writer], format!("{ONE_ATTEMPT}\n{lines}")).await;
        writer.checked(3).await;
        // Two failed checks and two failed requests are four failures, and no third of either.
        fail(&gateway, 2).await;
        assert_eq!(circuit(&gateway).await, "closed");
    }

    #[tokio::test]
    async fn for_all_workers_at_once() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway =
            Gateway::before([&writer], format!("{ONE_ATTEMPT}\nserver.workers = 4")).await;
        // Twenty connections are not all one worker's.
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(gateway.connect().await);
        }
        for client in &mut clients {
            assert_eq!(client.call(Request::get("/x")).await.status(), 503);
        }
        assert_eq!(writer.count(), 3);
    }

    #[tokio::test]
    async fn for_one_endpoint_only() {
        let failing = Upstream::answering([Answer::status(503)]).await;
        let fine = Upstream::start().await;
        let lines = format!("{ONE_ATTEMPT}\nproxy.retry_budget_ratio = 0.0");
        let gateway = Gateway::before([&failing, &fine], lines).await;
        eventually("the circuit of the failing one to open", async || {
            gateway.get("/x").await;
            (failing.count() == 3).then_some(())
        })
        .await;
        for _ in 0..20 {
            assert_eq!(gateway.get("/x").await.text(), "hello");
        }
        assert_eq!(failing.count(), 3);
        let status = gateway.get("/health/status/writer").await.json();
        assert_eq!(status["circuit_state"], "closed", "closed if any is");
        assert_eq!(status["status"], "degraded");
        let states: Vec<_> = status["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint["circuit_state"].as_str().unwrap())
            .collect();
        assert_eq!(states, ["open", "closed"]);
    }
}

mod open {
    use super::*;

    #[tokio::test]
    async fn means_503_at_once_and_says_when_to_come_back() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway = Gateway::before([&writer], "policy.retry.config.delay = \"2s\"").await;
        gateway.call(Request::post("/x", "1")).await;
        gateway.call(Request::post("/x", "2")).await;
        gateway.call(Request::post("/x", "3")).await;
        let begun = Instant::now();
        let reply = gateway.get("/x").await;
        assert!(begun.elapsed() < Duration::from_secs(1), "an open circuit is nothing to wait for");
        let detail = reply.problem(503);
        assert_eq!(detail, "writer service unavailable: circuit open");
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(writer.count(), 3);
        let line = gateway.access_of(&reply).await;
        assert_eq!((&line["attempts"], &line["status"]), (&0.into(), &503.into()));
    }

    #[tokio::test]
    async fn is_seen_in_the_status_and_in_the_metrics() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        gateway.status_of("writer", |it| it["status"] == "healthy").await;
        fail(&gateway, 3).await;
        let status = gateway.get("/health/status/writer").await.json();
        assert_eq!(status["status"], "unhealthy");
        assert_eq!(status["circuit_state"], "open");
        let error = status["error"].as_str().unwrap();
        assert!(error.starts_with("circuit open: ") && error.contains("503"), "{error}");
        assert_eq!(gateway.get("/health/status").await.json()["overall"], "degraded");

        let metrics = gateway.metrics().await;
        let endpoint = writer.url();
        let of_endpoint = [("service", "writer"), ("endpoint", endpoint.as_str())];
        let opened = [of_endpoint[0], of_endpoint[1], ("to", "open")];
        assert_eq!(metrics.sum("orchestrator_circuit_transitions_total", &opened), 1.0);
        assert!(metrics.sum("orchestrator_circuit_state", &of_endpoint) > 0.0);
    }

    #[tokio::test]
    async fn is_logged_with_its_cause() {
        let writer = Upstream::down();
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        fail(&gateway, 3).await;
        gateway.log.line_with(&["writer", "open"]).await;
    }

    #[tokio::test]
    async fn stops_the_checks_and_is_not_moved_by_asking_for_health() {
        let (failing, fine) = (Upstream::start().await, Upstream::start().await);
        failing.answer_checks([Answer::status(503)]);
        let lines = [service("writer", [&failing]), service("research", [&fine])].join("\n");
        let gateway =
            Gateway::start(format!("{lines}\n{EVERYTHING_TO_WRITER}\nhealth.interval = \"50ms\""))
                .await;
        gateway.status_of("writer", |it| it["circuit_state"] == "open").await;
        let (checked, others) = (failing.checks().len(), fine.checks().len());
        // The other service's checks are the clock.
        fine.checked(others + 10).await;
        assert_eq!(failing.checks().len(), checked, "checked while open");
        failing.answer_checks([Answer::ok("{}")]);
        for _ in 0..3 {
            let page = gateway.get("/health").await.json();
            assert_eq!(page["services"]["writer"]["status"], "healthy", "it was asked now");
        }
        assert_eq!(circuit(&gateway).await, "open");
    }

    #[tokio::test]
    async fn between_attempts_does_not_replace_the_answer_of_the_last_one() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let lines = "breaker.failure_threshold = 2\npolicy.retry.config.attempts = 5";
        let gateway = Gateway::before([&writer], lines).await;
        let reply = gateway.get("/x").await;
        assert_eq!(reply.text(), "503 by the upstream");
        assert!(!reply.head.has("retry-after"));
        assert_eq!(writer.count(), 2);
    }

    #[tokio::test]
    async fn lets_requests_that_were_under_way_finish() {
        let gate = Gate::new();
        let slow = Answer::ok("slow").behind(&gate);
        let writer = Upstream::answering([slow, Answer::status(503)]).await;
        let gateway = Gateway::before([&writer], ONE_ATTEMPT).await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        writer.received(|_| true).await;
        fail(&gateway, 3).await;
        assert_eq!(circuit(&gateway).await, "open");
        gate.open();
        assert_eq!(client.reply().await.text(), "slow");
        assert_eq!(circuit(&gateway).await, "open", "a result from before it opened says nothing");
    }
}

mod half_open {
    use super::*;

    #[tokio::test]
    async fn comes_after_a_time_and_two_successes_close() {
        let (bad, good) = (Answer::status(503), Answer::ok("well again"));
        let writer = Upstream::answering([bad.clone(), bad.clone(), bad, good]).await;
        let gateway = Gateway::before([&writer], SOON).await;
        fail(&gateway, 3).await;
        gateway.get("/x").await.problem(503);
        until_admitted(&gateway, &writer).await;
        assert_eq!(circuit(&gateway).await, "half_open");
        let status = gateway.get("/health/status/writer").await.json();
        assert_eq!(status["status"], "degraded");
        assert_eq!(gateway.get("/x").await.text(), "well again");
        assert_eq!(circuit(&gateway).await, "closed");
        let metrics = gateway.metrics().await;
        for to in ["open", "half_open", "closed"] {
            let labels = [("service", "writer"), ("to", to)];
            assert_eq!(metrics.sum("orchestrator_circuit_transitions_total", &labels), 1.0, "{to}");
        }
        assert_eq!(metrics.sum("orchestrator_circuit_state", &[("service", "writer")]), 0.0);
    }

    #[tokio::test]
    async fn opens_again_at_the_first_failure() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway = Gateway::before([&writer], SOON).await;
        fail(&gateway, 3).await;
        until_admitted(&gateway, &writer).await;
        assert_eq!(circuit(&gateway).await, "open");
        assert_eq!(writer.count(), 4);
    }

    #[tokio::test]
    async fn does_not_let_a_crowd_through() {
        let gate = Gate::new();
        let bad = Answer::status(503);
        let slow = Answer::ok("slow").behind(&gate);
        let writer = Upstream::answering([bad.clone(), bad.clone(), bad, slow]).await;
        let gateway = Gateway::before([&writer], SOON).await;
        fail(&gateway, 3).await;
        let mut crowd = Vec::new();
        eventually("the probe to reach the service", async || {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            crowd.push(client);
            (writer.count() > 3).then_some(())
        })
        .await;
        for _ in 0..10 {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            crowd.push(client);
        }
        gateway.get("/").await;
        assert_eq!(writer.count(), 4, "one at a time");
        gate.open();
    }

    #[tokio::test]
    async fn is_found_by_checks_alone() {
        let writer = Upstream::start().await;
        let bad = Answer::status(503);
        writer.answer_checks([bad.clone(), bad.clone(), bad, Answer::ok("{}")]);
        let lines = "health.interval = \"50ms\"\nbreaker.open_for = \"200ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        gateway.status_of("writer", |it| it["circuit_state"] == "open").await;
        let status = gateway.status_of("writer", |it| it["circuit_state"] == "closed").await;
        assert_eq!(status["status"], "healthy");
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn counts_checks_and_traffic_together_towards_closing() {
        let (bad, good) = (Answer::status(503), Answer::ok("{}"));
        let writer =
            Upstream::answering([bad.clone(), bad.clone(), bad.clone(), good.clone()]).await;
        writer.answer_checks([good.clone(), good, Answer::hang()]);
        let lines = format!("{SOON}\nhealth.interval = \"700ms\"\nhealth.timeout = \"60s\"");
        let gateway = Gateway::before([&writer], lines).await;
        writer.checked(1).await;
        fail(&gateway, 3).await;
        // The second check is the first success, one request the second.
        writer.checked(2).await;
        gateway.status_of("writer", |it| it["circuit_state"] == "half_open").await;
        assert_eq!(gateway.get("/x").await.status(), 200);
        assert_eq!(circuit(&gateway).await, "closed");
    }

    /// An attempt that began before the circuit opened and fails after it has closed again.
    #[tokio::test]
    async fn and_after_it_results_of_an_earlier_term_count_no_more() {
        let gate = Gate::new();
        let late = Answer::close().behind(&gate);
        let writer = Upstream::answering([late, Answer::status(503), Answer::ok("well")]).await;
        let lines = format!("{SOON}\nbreaker.failure_threshold = 1\nbreaker.success_threshold = 1");
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/late")).await;
        writer.received(|_| true).await;
        gateway.get("/x").await;
        assert_eq!(circuit(&gateway).await, "open");
        until_admitted(&gateway, &writer).await;
        assert_eq!(circuit(&gateway).await, "closed");
        gate.open();
        client.reply().await.problem(503);
        assert_eq!(circuit(&gateway).await, "closed", "one failure would open it");
        assert_eq!(gateway.get("/x").await.text(), "well");
    }

    /// What closes it is no failure, even where it is no success to the client.
    #[tokio::test]
    async fn that_closes_is_logged_without_the_cause_of_an_opening() {
        let bad = Answer::status(503);
        let writer =
            Upstream::answering([bad.clone(), bad.clone(), bad, Answer::status(500)]).await;
        let lines = format!("{SOON}\nbreaker.success_threshold = 1");
        let gateway = Gateway::before([&writer], lines).await;
        fail(&gateway, 3).await;
        until_admitted(&gateway, &writer).await;
        let line = gateway.log.line_with(&["circuit changed", "to=\"closed\""]).await;
        assert!(line.contains("INFO") && !line.contains("cause"), "{line}");
    }

    #[tokio::test]
    async fn gives_its_place_back_when_the_client_takes_its_time() {
        let bad = Answer::status(503);
        let well = Answer::ok("well again");
        let writer = Upstream::answering([bad.clone(), bad.clone(), bad, well]).await;
        let lines = "breaker.success_threshold = 1\nlimits.body_rate_min = \"off\"";
        let gateway = Gateway::before([&writer], format!("{SOON}\n{lines}")).await;
        fail(&gateway, 3).await;
        let mut uploads = Vec::new();
        eventually("an upload to be the probe", async || {
            let mut client = gateway.connect().await;
            client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
            uploads.push(client);
            (writer.count() > 3).then_some(())
        })
        .await;
        eventually("the place to be free", async || {
            (gateway.get("/x").await.text() == "well again").then_some(())
        })
        .await;
        assert_eq!(circuit(&gateway).await, "closed");
    }

    #[tokio::test]
    async fn gives_its_place_back_when_the_client_leaves() {
        let bad = Answer::status(503);
        let writer = Upstream::answering([bad.clone(), bad.clone(), bad, Answer::hang()]).await;
        let lines = format!("{SOON}\nbreaker.success_threshold = 1");
        let gateway = Gateway::before([&writer], lines).await;
        fail(&gateway, 3).await;
        eventually("the probe to reach the service", async || {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            (writer.count() > 3).then_some(())
        })
        .await;
        // That client is gone, and with it the only permit, neither good nor bad.
        writer.answer([Answer::ok("well again")]);
        eventually("the place to be free", async || {
            (gateway.get("/x").await.text() == "well again").then_some(())
        })
        .await;
        assert_eq!(circuit(&gateway).await, "closed");
    }
}
