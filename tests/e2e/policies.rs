//! Policies as components: what they are told, what they may say, and what a bad one costs.
//!
//! The guests stand in `tests/guests`. A hostile one misbehaves below `/evil` only, so that a test
//! sees whether the other requests of the same worker go on.

use std::path::Path;
use std::time::{Duration, Instant};

use orchestrator_tests::{
    Answer, Client, EVERYTHING_TO_WRITER, Gateway, Reply, Request, Upstream, by_hand, component,
    eventually, service, toml_path, within,
};
use tempfile::TempDir;

/// The lines of a gateway whose routing is this guest.
fn routed_by(guest: &str, writer: &Upstream) -> String {
    routing(&component(guest), writer)
}

fn routing(component: &Path, writer: &Upstream) -> String {
    let component = toml_path(component);
    format!("{}\npolicy.routing.component = {component}", service("writer", [writer]))
}

/// A gateway whose routing is hostile, and the one service behind it.
struct Hostile {
    writer: Upstream,
    gateway: Gateway,
    faults: f64,
}

impl Hostile {
    async fn start(guest: &str, lines: &str) -> Self {
        Self::start_with(&component(guest), lines).await
    }

    /// One that is put together by hand.
    async fn by_hand(guest: &str, lines: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join(guest).with_extension("wasm");
        std::fs::write(&file, by_hand(guest, "routing")).unwrap();
        Self::start_with(&file, lines).await
    }

    async fn start_with(component: &Path, lines: &str) -> Self {
        let writer = Upstream::start().await;
        let gateway = Gateway::start(format!("{}\n{lines}", routing(component, &writer))).await;
        Self { writer, gateway, faults: 0.0 }
    }

    async fn faults(&self, reason: &str) -> f64 {
        let labels = [("policy", "routing"), ("reason", reason)];
        self.gateway.metrics().await.sum("orchestrator_policy_faults_total", &labels)
    }

    /// One request on which the policy misbehaves: what it costs, what is told, and that the
    /// service sees nothing of it while the worker goes on.
    async fn misbehaves(&mut self, path: &str, reason: &str) {
        let before = self.writer.count();
        let reply = self.gateway.get(path).await;
        assert_eq!(reply.status(), 503, "{path}: {}", reply.text());
        no_leak(&reply);
        assert_eq!(self.writer.count(), before, "{path} reached the service");
        self.faults += 1.0;
        assert_eq!(self.faults(reason).await, self.faults, "{path} counts as {reason}");
        let line = self.gateway.access_of(&reply).await;
        assert_eq!(line["why"], "policy_fault", "{path}");
        assert_eq!(self.gateway.get("/good").await.text(), "hello", "after {path}");
    }

    /// That a fault was logged with policy, version and a reason that says so.
    async fn logs(&self, reason: &str) {
        let line = self.gateway.log.line_with(&["policy=\"routing\"", reason]).await;
        let version = line.split_once("version=\"").unwrap_or_else(|| panic!("no version: {line}"));
        let version = version.1.split('"').next().unwrap();
        assert!(version.len() >= 12, "{line}");
        assert!(version.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    }
}

/// The client learns that it is not its fault, and nothing of what happened inside.
fn no_leak(reply: &Reply) {
    let detail = reply.problem(503).to_lowercase();
    for word in
        ["panic", "guest", "wasm", "trap", "memory", "nowhere", "epoch", "timeout", "component"]
    {
        assert!(!detail.contains(word), "the detail speaks of {word}: {detail}");
    }
    assert!(!detail.is_empty());
}

mod hostile {
    use super::*;

    #[tokio::test]
    async fn one_that_traps() {
        let mut hostile = Hostile::start("trap", "").await;
        hostile.misbehaves("/evil", "trap").await;
        hostile.misbehaves("/evil/again", "trap").await;
        hostile.logs("reason=").await;
    }

    #[tokio::test]
    async fn one_that_loops_past_its_limit() {
        let mut hostile = Hostile::start("spin", "").await;
        let begun = Instant::now();
        hostile.misbehaves("/evil", "timeout").await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        hostile.logs("timeout: ").await;
    }

    #[tokio::test]
    async fn one_that_gets_too_little_of_the_time_to_use_up_its_own() {
        let lines = "policy_limits.decision_timeout = \"1s\"\n\
                     policy_limits.wall_timeout = \"150ms\"";
        let mut hostile = Hostile::start("spin", lines).await;
        let begun = Instant::now();
        hostile.misbehaves("/evil", "wall_clock").await;
        let took = begun.elapsed();
        assert!((Duration::from_millis(150)..Duration::from_secs(1)).contains(&took), "{took:?}");
        hostile.logs("(its limit is `wall_timeout`)").await;
    }

    #[tokio::test]
    async fn one_whose_instructions_take_many_ticks() {
        let lines = "policy_limits.decision_timeout = \"300ms\"\n\
                     policy_limits.wall_timeout = \"10s\"\npolicy_limits.memory_max = \"256MiB\"";
        let mut hostile = Hostile::by_hand("large-memory-fill", lines).await;
        let begun = Instant::now();
        hostile.misbehaves("/evil", "timeout").await;
        // Each of them is charged as what it took: one tick for each would come to ten seconds.
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        hostile.logs("timeout: ").await;
    }

    #[tokio::test]
    async fn one_that_hoards_memory() {
        for memory_max in ["2MiB", "8MiB"] {
            let lines = format!(
                "policy_limits.memory_max = {memory_max:?}\npolicy_limits.decision_timeout = \"1s\""
            );
            let mut hostile = Hostile::start("hoard", &lines).await;
            hostile.misbehaves("/evil", "memory").await;
            let before = hostile.gateway.resident();
            for _ in 0..10 {
                hostile.misbehaves("/evil", "memory").await;
            }
            let grown = hostile.gateway.resident().saturating_sub(before);
            assert!(grown < 64 << 20, "the gateway grew by {grown} bytes");
        }
    }

    #[tokio::test]
    async fn one_that_names_a_service_that_is_not_there() {
        let mut hostile = Hostile::start("unknown-service", "").await;
        for name in ["", "/Writer", "/writer%2F", "/127.0.0.1:80", "/writer%20"] {
            hostile.misbehaves(&format!("/evil{name}"), "invalid").await;
        }
        hostile.logs("nowhere").await;
    }

    #[tokio::test]
    async fn one_that_smuggles_headers() {
        let mut hostile = Hostile::start("crlf-header", "").await;
        for trick in
            ["request-value", "request-name", "response-value", "response-name", "lf", "cr", "nul"]
        {
            hostile.misbehaves(&format!("/evil/{trick}"), "invalid").await;
        }
        hostile.logs("header").await;
    }

    #[tokio::test]
    async fn one_that_hands_over_ten_megabytes() {
        let lines = "policy_limits.memory_max = \"64MiB\"\npolicy_limits.decision_timeout = \"1s\"";
        let hostile = Hostile::start("big-string", lines).await;
        let before = hostile.gateway.resident();
        for trick in ["body", "path", "service", "header", "name", "affinity", "reason", "drip"] {
            let reply = hostile.gateway.get(&format!("/evil/{trick}")).await;
            no_leak(&reply);
            assert_eq!(hostile.gateway.get("/good").await.text(), "hello", "after {trick}");
        }
        assert_eq!(hostile.faults("result").await, 8.0);
        let grown = hostile.gateway.resident().saturating_sub(before);
        assert!(grown < 128 << 20, "the gateway grew by {grown} bytes");
        assert_eq!(hostile.writer.count(), 8);
        hostile.logs("reason=").await;
    }

    #[tokio::test]
    async fn one_that_edits_headers_without_end() {
        let lines = "policy_limits.result_max = \"16MiB\"\npolicy_limits.memory_max = \"64MiB\"\n\
                     policy_limits.decision_timeout = \"1s\"";
        let mut hostile = Hostile::start("big-string", lines).await;
        hostile.misbehaves("/evil/drip", "result").await;
        hostile.logs("more than 256 headers").await;
    }

    #[tokio::test]
    async fn one_that_forwards_under_a_path_that_is_none() {
        let mut hostile = Hostile::start("bad-path", "").await;
        for name in [
            "empty",
            "relative",
            "absolute",
            "asterisk",
            "space",
            "crlf",
            "nul",
            "fragment",
            "not-ascii",
            "dots",
            "encoded-dots",
            "backslash",
            "encoded-nul",
        ] {
            hostile.misbehaves(&format!("/evil/{name}"), "invalid").await;
        }
    }

    #[tokio::test]
    async fn what_one_answers_does_not_fill_the_log() {
        let mut hostile = Hostile::start("bad-path", "").await;
        hostile.misbehaves("/evil/long", "invalid").await;
        let line = hostile.gateway.log.line_with(&["policy fault", "0x7f"]).await;
        assert!(line.len() < 1000, "{} bytes", line.len());
    }

    #[tokio::test]
    async fn one_that_responds_with_a_status_that_is_none() {
        let mut hostile = Hostile::start("bad-status", "").await;
        for status in ["0", "1", "100", "101", "199", "600", "999", "65535"] {
            hostile.misbehaves(&format!("/evil/{status}"), "invalid").await;
        }
    }

    #[tokio::test]
    async fn one_that_sets_what_belongs_to_the_host() {
        let mut hostile = Hostile::start("reserved-header", "").await;
        hostile.misbehaves("/evil", "invalid").await;
        for name in [
            "transfer-encoding",
            "content-length",
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "upgrade",
            "host",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-request-id",
            "X-Request-ID",
        ] {
            for side in ["request", "response", "remove"] {
                hostile.misbehaves(&format!("/evil/{side}/{name}"), "invalid").await;
            }
        }
    }

    #[tokio::test]
    async fn one_that_calls_what_may_not_be_called_now() {
        let mut hostile = Hostile::start("out-of-phase", "").await;
        hostile.misbehaves("/evil", "trap").await;
    }

    #[tokio::test]
    async fn one_that_says_that_it_cannot_decide() {
        let mut hostile = Hostile::start("cannot-decide", "").await;
        for path in ["/evil", "/evil/x"] {
            hostile.misbehaves(path, "cannot_decide").await;
        }
        hostile.logs("no opinion about /evil").await;
    }

    #[tokio::test]
    async fn one_that_reaches_for_the_machine_finds_nothing() {
        let hostile = Hostile::start("uses-wasi", "").await;
        assert_eq!(hostile.gateway.get("/env").await.text(), "");
        assert_eq!(hostile.gateway.get("/files").await.text(), "");
        assert_eq!(hostile.gateway.get("/clock").await.status(), 200);
        for path in ["/exit", "/sleep"] {
            let begun = Instant::now();
            no_leak(&hostile.gateway.get(path).await);
            assert!(begun.elapsed() < Duration::from_secs(2), "{path}: {:?}", begun.elapsed());
            assert_eq!(hostile.gateway.get("/good").await.text(), "hello", "after {path}");
        }
    }

    #[tokio::test]
    async fn what_one_prints_is_logged_under_its_name_and_not_without_end() {
        let hostile = Hostile::start("uses-wasi", "").await;
        for _ in 0..50 {
            hostile.gateway.get("/print").await;
        }
        let line =
            hostile.gateway.log.wait_for("a line of the policy", |line| line.contains("policy"));
        assert!(line.await.contains("routing"));
        assert!(hostile.gateway.log.lines().len() < 500);
    }

    #[tokio::test]
    async fn one_that_prints_more_at_once_than_it_is_permitted() {
        let mut hostile = Hostile::by_hand("write-beyond-permit", "").await;
        hostile.misbehaves("/evil", "trap").await;
        hostile.logs("`check-write`").await;
    }

    #[tokio::test]
    async fn nothing_of_it_is_left_after_many_faults() {
        let hostile = Hostile::start("trap", "").await;
        let mut client = hostile.gateway.connect().await;
        for _ in 0..300 {
            assert_eq!(client.call(Request::get("/evil")).await.status(), 503);
        }
        assert_eq!(client.call(Request::get("/good")).await.text(), "hello");
        assert_eq!(hostile.faults("trap").await, 300.0);
        // The log says what happens and does not drown in it.
        let logged = hostile.gateway.log.lines();
        let faults = logged.iter().filter(|line| line.contains("policy fault")).count();
        assert!((1..300).contains(&faults), "{faults} lines");
    }
}

mod neighbours {
    use super::*;

    /// Evil requests, each on a connection of its own, none of them answered yet.
    async fn evil(gateway: &Gateway, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/evil")).await;
            clients.push(client);
        }
        clients
    }

    #[tokio::test]
    async fn are_served_while_a_decision_overruns() {
        let hostile = Hostile::start("spin", "policy_limits.decision_timeout = \"1s\"").await;
        let mut neighbour = hostile.gateway.connect().await;
        assert_eq!(neighbour.call(Request::get("/good")).await.status(), 200);
        let mut evil = evil(&hostile.gateway, 1).await;
        let begun = Instant::now();
        for _ in 0..50 {
            assert_eq!(neighbour.call(Request::get("/good")).await.text(), "hello");
        }
        // Each takes a few turns of the worker, and every other millisecond is the runaway's.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let reply = evil[0].reply().await;
        no_leak(&reply);
    }

    #[tokio::test]
    async fn are_served_while_many_decisions_overrun() {
        let hostile = Hostile::start("spin", "policy_limits.decision_timeout = \"100ms\"").await;
        let mut neighbour = hostile.gateway.connect().await;
        let mut evil = evil(&hostile.gateway, 40).await;
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(neighbour.call(Request::get("/good")).await.text(), "hello");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        for client in &mut evil {
            no_leak(&client.reply().await);
        }
    }

    #[tokio::test]
    async fn keep_their_responses_that_were_under_way() {
        let hostile = Hostile::start("trap", "").await;
        let gate = orchestrator_tests::Gate::new();
        hostile.writer.answer([Answer::ok("slow").behind(&gate), Answer::ok("hello")]);
        let mut slow = hostile.gateway.connect().await;
        slow.begin(&Request::get("/good")).await;
        hostile.writer.received(|_| true).await;
        for _ in 0..10 {
            assert_eq!(hostile.gateway.get("/evil").await.status(), 503);
        }
        gate.open();
        assert_eq!(slow.reply().await.text(), "slow");
    }

    #[tokio::test]
    async fn are_served_after_a_client_that_left_amid_its_decision() {
        let hostile = Hostile::start("spin", "policy_limits.decision_timeout = \"1s\"").await;
        for _ in 0..5 {
            let evil = evil(&hostile.gateway, 1).await;
            hostile.gateway.get("/").await;
            drop(evil);
        }
        let begun = Instant::now();
        assert_eq!(hostile.gateway.get("/good").await.text(), "hello");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    /// What one decision takes too long is not the others' fault, though the worker's turns are long.
    #[tokio::test]
    async fn are_served_where_they_are_a_thousand_and_some_decisions_overrun() {
        let hostile = Hostile::start("spin", "server.workers = 1\nlimits.connections = 2000").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let mut client = hostile.gateway.connect().await;
            tasks.spawn(async move {
                let mut refused = 0;
                for _ in 0..10 {
                    refused += u32::from(client.call(Request::get("/good")).await.status() != 200);
                }
                refused
            });
        }
        for _ in 0..5 {
            no_leak(&hostile.gateway.get("/evil").await);
        }
        let mut refused = 0;
        while let Some(done) = within("all clients", tasks.join_next()).await {
            refused += done.unwrap();
        }
        assert_eq!(refused, 0);
    }

    #[tokio::test]
    async fn are_served_by_a_policy_that_is_asked_by_many_at_once() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "server.workers = 2").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let mut client = gateway.connect().await;
            tasks.spawn(async move {
                for _ in 0..20 {
                    assert_eq!(client.call(Request::get("/x")).await.status(), 200);
                }
            });
        }
        while let Some(done) = within("all clients", tasks.join_next()).await {
            done.unwrap();
        }
        assert_eq!(writer.count(), 2000);
        assert_eq!(gateway.metrics().await.sum("orchestrator_policy_faults_total", &[]), 0.0);
    }
}

/// A judge that misbehaves means stop: the client gets what the last attempt came to.
mod judges {
    use super::*;

    async fn judged_by(guest: &str, writer: &Upstream, lines: &str) -> Gateway {
        let lines = [
            service("writer", [writer]),
            EVERYTHING_TO_WRITER.into(),
            format!("policy.retry.component = {}", toml_path(&component(guest))),
            // What the harness would say for the default policy.
            "policy.retry.config = {}".into(),
            "breaker.failure_threshold = 1000".into(),
            lines.into(),
        ];
        Gateway::start(lines.join("\n")).await
    }

    async fn stops(guest: &str, path: &str, reason: Option<&str>) {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let gateway = judged_by(guest, &writer, "").await;
        let reply = gateway.get(path).await;
        assert_eq!(reply.text(), "503 by the upstream", "{guest} {path}");
        assert_eq!(writer.count(), 1, "{guest} {path}");
        let metrics = gateway.metrics().await;
        let labels = [("policy", "retry"), ("reason", reason.unwrap_or("none"))];
        let faults = metrics.sum("orchestrator_policy_faults_total", &labels);
        assert_eq!(faults, if reason.is_some() { 1.0 } else { 0.0 }, "{guest} {path}");
        if reason.is_some() {
            gateway.log.line_with(&["policy=\"retry\"", "version=\"", "reason="]).await;
        }
        // Where it behaves it is asked again: two attempts.
        gateway.get("/good").await;
        assert_eq!(writer.count(), 3, "{guest} after {path}");
    }

    #[tokio::test]
    async fn one_that_traps() {
        stops("retry-trap", "/evil", Some("trap")).await;
    }

    #[tokio::test]
    async fn one_that_loops() {
        stops("retry-spin", "/evil", Some("timeout")).await;
    }

    #[tokio::test]
    async fn one_that_answers_nonsense() {
        stops("retry-nonsense", "/evil/elsewhere-only", None).await;
        stops("retry-nonsense", "/evil/out-of-phase", Some("trap")).await;
        stops("retry-nonsense", "/evil/cannot-decide", Some("cannot_decide")).await;
    }

    #[tokio::test]
    async fn of_several_answers_the_last_one_counts() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let gateway = judged_by("retry-nonsense", &writer, "").await;
        assert_eq!(gateway.get("/evil/twice").await.text(), "second");
    }

    #[tokio::test]
    async fn one_that_wants_to_wait_for_ever_waits_as_long_as_the_host_allows() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let gateway =
            judged_by("retry-greedy-delay", &writer, "proxy.retry_delay_max = \"50ms\"").await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/evil").await.text(), "second");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn one_that_wants_everything_again_meets_the_ceilings() {
        let writer = Upstream::answering([Answer::status(500)]).await;
        let gateway = judged_by("retry-always", &writer, "proxy.retry_attempts_max = 4").await;
        gateway.get("/x").await;
        assert_eq!(writer.count(), 4);
        // And never gets a request sent again that may have taken effect.
        gateway.call(Request::post("/x", "once")).await;
        assert_eq!(writer.count(), 5);
    }

    #[tokio::test]
    async fn one_that_wants_everything_again_meets_the_deadline() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let lines = "proxy.request_timeout = \"500ms\"\nproxy.attempt_timeout = \"50ms\"\n\
                     proxy.retry_attempts_max = 100";
        let gateway = judged_by("retry-always", &writer, lines).await;
        let begun = Instant::now();
        gateway.get("/x").await.problem(504);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

/// What a policy is told is what the client sent; what it says is what happens.
mod helpful {
    use super::*;

    #[tokio::test]
    async fn one_learns_the_request_as_it_was_sent() {
        let writer = Upstream::start().await;
        let lines =
            "policy.routing.config = { greeting = \"hello\", nested = { list = [1, 2.5, true] } }";
        let gateway = Gateway::start(format!("{}\n{lines}", routed_by("echo", &writer))).await;
        gateway.status_of("writer", |it| it["status"] == "healthy").await;
        let request = Request::new("PURGE", "/%61%20b//c?x=1&y=%2f")
            .header("Host", "Shop.Test:8003")
            .header("X-Many", "one")
            .header("X-Many", b"tw\xf6")
            .header("X-Forwarded-For", "10.0.0.1");
        let told = gateway.call(request).await.text();
        for line in [
            r#"config {"greeting":"hello","nested":{"list":[1,2.5,true]}}"#,
            "method PURGE",
            "scheme http",
            "authority Shop.Test:8003",
            "path /a%20b/c",
            "query x=1&y=%2f",
            "client 127.0.0.1",
            "header x-many: one",
            r"header x-many: tw\xf6",
            r"joined one, tw\xf6",
            "values 2",
            "service writer Closed Healthy",
            "no-service nowhere",
        ] {
            assert!(told.lines().any(|told| told == line), "{line:?} is missing:\n{told}");
        }
        let now: u128 =
            told.lines().find_map(|line| line.strip_prefix("now-ms ")).unwrap().parse().unwrap();
        let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        assert!(epoch.abs_diff(now) < 10_000, "{now}");
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn one_gets_other_random_numbers_for_each_request() {
        let writer = Upstream::start().await;
        let gateway = Gateway::start(routed_by("echo", &writer)).await;
        let random = async || {
            let told = gateway.get("/x").await.text();
            told.lines().find(|line| line.starts_with("random ")).unwrap().to_owned()
        };
        let (first, second) = (random().await, random().await);
        assert_ne!(first, second);
        let numbers: Vec<_> = first.split(' ').skip(1).collect();
        assert_ne!(numbers[0], numbers[1]);
    }

    #[tokio::test]
    async fn one_learns_of_a_circuit_that_opened() {
        let writer = Upstream::start().await;
        writer.answer_checks([Answer::status(503)]);
        let lines = format!("{}\nhealth.interval = \"50ms\"", routed_by("echo", &writer));
        let gateway = Gateway::start(lines).await;
        eventually("the policy to see it", async || {
            gateway.get("/x").await.text().contains("service writer Open Unhealthy").then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn all_parts_of_an_answer_take_effect() {
        let answer =
            Answer::new(200, &[("Server", "kettle"), ("X-Policy", "the service's")], "hello");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::start(routed_by("everything", &writer)).await;
        let request = Request::get("/x?by=client").header("X-Removed", "1").header("X-Added", "2");
        let reply = gateway.call(request).await;
        assert_eq!(reply.text(), "hello");
        assert_eq!(reply.header("x-policy").as_deref(), Some("everything"));
        assert!(!reply.head.has("server"));
        let received = writer.request();
        assert_eq!(received.line(), "GET /rewritten?by=policy");
        assert_eq!(received.header("x-added").as_deref(), Some("by the policy"));
        assert!(!received.head.has("x-removed"));
        assert_eq!(gateway.access_of(&reply).await["route"], "everything");
    }

    #[tokio::test]
    async fn the_attempt_timeout_of_an_answer_bounds_an_attempt() {
        let writer = Upstream::answering([Answer::hang(), Answer::ok("second")]).await;
        let gateway = Gateway::start(routed_by("everything", &writer)).await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/x").await.text(), "second");
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test]
    async fn one_may_answer_by_itself() {
        let writer = Upstream::start().await;
        let gateway = Gateway::start(routed_by("everything", &writer)).await;
        let reply = gateway.get("/respond").await;
        assert_eq!((reply.status(), reply.text().as_str()), (418, r#"{"teapot": true}"#));
        assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(reply.header("x-policy").as_deref(), Some("everything"));
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn a_bare_status_of_400_or_more_gets_a_detail() {
        let hostile = Hostile::start("bad-status", "").await;
        for status in [400, 403, 404, 429, 503, 599] {
            let reply = hostile.gateway.get(&format!("/evil/{status}")).await;
            assert!(!reply.problem(status).is_empty());
        }
        for status in [200, 204, 304] {
            let reply = hostile.gateway.get(&format!("/evil/{status}")).await;
            assert_eq!((reply.status(), reply.body.len()), (status, 0));
        }
        assert_eq!(
            hostile.gateway.metrics().await.sum("orchestrator_policy_faults_total", &[]),
            0.0
        );
    }

    #[tokio::test]
    async fn header_values_that_are_not_utf_8_pass_in_every_direction() {
        let answer = Answer::bytes(b"HTTP/1.1 200 OK\r\nX-Own: \xfe\r\nContent-Length: 0\r\n\r\n");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::start(routed_by("not-utf8", &writer)).await;
        let request =
            Request::get("/x").header("X-Bytes", b"\xff\xfe \x80").header("X-Other", b"\xc3\x28");
        let reply = gateway.call(request).await;
        assert_eq!(reply.head.values("x-bytes"), [b"\xff\xfe \x80"]);
        assert_eq!(reply.head.values("x-latin-1"), [b"caf\xe9"]);
        assert_eq!(reply.head.values("x-own"), [b"\xfe"]);
        let received = writer.request();
        assert_eq!(received.head.values("x-latin-1"), [b"caf\xe9"]);
        assert_eq!(received.head.values("x-other"), [b"\xc3\x28"]);
        assert_eq!(gateway.metrics().await.sum("orchestrator_policy_faults_total", &[]), 0.0);
    }

    #[tokio::test]
    async fn the_default_policies_are_not_upset_by_bytes_that_are_not_utf_8() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let request = Request::get("/x").header("X-Bytes", b"\xff\xfe").header("Cookie", b"\x80");
        assert_eq!(gateway.call(request).await.text(), "second");
        let request = Request::get("/x").header("Host", b"\xff.test");
        let status = gateway.call(request).await.status();
        assert!([200, 400].contains(&status), "{status}");
        assert_eq!(gateway.metrics().await.sum("orchestrator_policy_faults_total", &[]), 0.0);
    }
}
