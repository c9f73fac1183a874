//! Which endpoint of a service gets the next request: of two at random, the one with less in flight,
//! or as `balance` says; and which are left out of that.

use std::net::{IpAddr, Ipv6Addr};

use orchestrator_tests::{
    Answer, Client, EVERYTHING_TO_WRITER, Gate, Gateway, Request, Upstream, component, eventually,
    service, toml_path,
};

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
    let taken = eventually("one of them to be busy", async || {
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

mod ways {
    use super::*;

    /// So many requests, one after the other; who answered each, by its place in the list.
    async fn answered_by(gateway: &Gateway, all: &[Upstream], requests: usize) -> Vec<usize> {
        let mut client = gateway.connect().await;
        let mut by = Vec::new();
        for _ in 0..requests {
            let before: Vec<_> = all.iter().map(Upstream::count).collect();
            assert_eq!(client.call(Request::get("/x")).await.status(), 200);
            by.push((0..all.len()).find(|at| all[*at].count() > before[*at]).unwrap());
        }
        by
    }

    fn times(by: &[usize], of: usize) -> usize {
        by.iter().filter(|at| **at == of).count()
    }

    /// Endpoints with these weights.
    fn weighted(all: &[Upstream], weights: &[u32]) -> String {
        let endpoint = |(upstream, weight): (&Upstream, &u32)| {
            format!("{{ url = {:?}, weight = {weight} }}", upstream.url())
        };
        let endpoints: Vec<_> = all.iter().zip(weights).map(endpoint).collect();
        format!("services.writer.endpoints = [{}]\n{EVERYTHING_TO_WRITER}", endpoints.join(", "))
    }

    #[tokio::test]
    async fn round_robin_takes_one_after_the_other() {
        let all = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
        let gateway = Gateway::before(&all, "services.writer.balance = \"round_robin\"").await;
        let by = answered_by(&gateway, &all, 12).await;
        assert!(by.chunks(3).all(|turn| turn == &by[..3]), "{by:?}");
        assert!((0..3).all(|at| times(&by, at) == 4), "{by:?}");
    }

    #[tokio::test]
    async fn round_robin_keeps_to_weights_and_spreads_them() {
        let all = [Upstream::start().await, Upstream::start().await];
        let lines = weighted(&all, &[3, 1]);
        let lines = format!("{lines}\nservices.writer.balance = \"round_robin\"");
        let gateway = Gateway::start(lines).await;
        let by = answered_by(&gateway, &all, 12).await;
        assert!(by.chunks(4).all(|turn| times(turn, 1) == 1), "{by:?}");
    }

    /// Of 400 requests 300 are due to the one with three parts of four, give or take nine: 60 more or
    /// less do not come about in a thousand million runs.
    #[tokio::test]
    async fn by_lot_and_of_two_the_weights_are_kept_as_well() {
        for balance in ["random", "p2c"] {
            let all = [Upstream::start().await, Upstream::start().await];
            let lines = weighted(&all, &[3, 1]);
            let lines = format!("{lines}\nservices.writer.balance = {balance:?}");
            let gateway = Gateway::start(lines).await;
            let by = answered_by(&gateway, &all, 400).await;
            assert!((240..=360).contains(&times(&by, 0)), "{balance}: {}", times(&by, 0));
        }
    }

    const BY_KEY: &str = "services.writer.balance = \"consistent_hash\"";

    /// Who answers each of these clients, which have addresses of their own.
    async fn homes(gateway: &Gateway, all: &[Upstream]) -> Vec<usize> {
        let mut homes = Vec::new();
        for client in 1..=12 {
            let own = IpAddr::from([127, 0, 7, client]);
            let before: Vec<_> = all.iter().map(Upstream::count).collect();
            let reply =
                Client::connect_from(own, gateway.listen).await.call(Request::get("/x")).await;
            assert_eq!(reply.status(), 200);
            homes.push((0..all.len()).find(|at| all[*at].count() > before[*at]).unwrap());
        }
        homes
    }

    #[tokio::test]
    async fn by_key_each_client_has_its_endpoint_and_those_of_another_do_not_move() {
        let mut all = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
        let lines = format!(
            "{BY_KEY}\nbreaker.failure_threshold = 1\nbreaker.open_for = \"100ms\"\n\
             policy.retry.config.delay = \"0ms\""
        );
        let gateway = Gateway::before(&all, lines).await;
        let at_first = homes(&gateway, &all).await;
        assert_eq!(homes(&gateway, &all).await, at_first);
        assert!(at_first.iter().any(|at| *at != at_first[0]), "all on one: {at_first:?}");
        // One goes: its clients alone find another, and return with it.
        let gone = at_first[0];
        all[gone].go_down().await;
        let meanwhile = homes(&gateway, &all).await;
        for (before, now) in at_first.iter().zip(&meanwhile) {
            assert!(if *before == gone { *now != gone } else { now == before }, "{meanwhile:?}");
        }
        all[gone].up();
        eventually("its clients to return", async || {
            (homes(&gateway, &all).await == at_first).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn by_key_what_the_policy_says_counts_before_the_clients_address() {
        let all = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
        let gateway = Gateway::start(format!(
            "{}\n{BY_KEY}\npolicy.routing.component = {}",
            service("writer", &all),
            toml_path(&component("everything"))
        ))
        .await;
        let homes = homes(&gateway, &all).await;
        assert!(homes.iter().all(|at| *at == homes[0]), "one key, several endpoints: {homes:?}");
    }

    #[tokio::test]
    async fn by_key_an_endpoint_that_has_too_much_passes_the_rest_on() {
        let gate = Gate::new();
        let all = [Upstream::start().await, Upstream::start().await];
        for upstream in &all {
            upstream.answer([Answer::ok("").behind(&gate)]);
        }
        let gateway = Gateway::before(&all, BY_KEY).await;
        let mut waiting = Vec::new();
        for count in 1..=9 {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            waiting.push(client);
            eventually("the request to arrive", async || {
                (all.iter().map(Upstream::count).sum::<usize>() == count).then_some(())
            })
            .await;
        }
        let mut counts = all.each_ref().map(Upstream::count);
        counts.sort_unstable();
        assert_eq!(counts, [1, 8], "eight are never too many");
        gate.open();
    }
}

mod left_out {
    use super::*;

    const TRYING: &str = "policy.retry.config.attempts = 1\nbreaker.failure_threshold = 1";

    #[tokio::test]
    async fn none_where_too_few_would_be_left() {
        let failing = || Upstream::answering([Answer::status(503)]);
        for (threshold, passes) in [("0.25", true), ("0.0", false)] {
            let all = [failing().await, failing().await];
            let lines = format!("{TRYING}\nservices.writer.panic_threshold = {threshold}");
            let gateway = Gateway::before(&all, lines).await;
            let count = || all.iter().map(Upstream::count).sum::<usize>();
            gateway.status_of("writer", |_| true).await;
            for _ in 0..2 {
                gateway.get("/x").await;
            }
            // Both circuits are open: the next request is tried all the same, or refused.
            assert_eq!(count(), 2);
            let reply = gateway.get("/x").await;
            assert_eq!(reply.status(), 503);
            assert_eq!(reply.head.has("retry-after"), !passes, "{threshold}");
            assert_eq!(count(), if passes { 3 } else { 2 }, "{threshold}");
        }
    }

    #[tokio::test]
    async fn a_service_of_one_endpoint_even_so() {
        let writer = Upstream::answering([Answer::status(503)]).await;
        let lines = format!("{TRYING}\nservices.writer.panic_threshold = 1.0");
        let gateway = Gateway::before([&writer], lines).await;
        gateway.get("/x").await;
        assert_eq!(
            gateway.get("/x").await.problem(503),
            "writer service unavailable: circuit open"
        );
        assert_eq!(writer.count(), 1);
    }

    /// With an hour to come to its share, an endpoint that has just come back gets one request in
    /// eleven: of 200 about 18, and half of them where there is no such time.
    #[tokio::test]
    async fn not_wholly_who_has_just_come_back() {
        for (slow_start, expected) in [("1h", 1..=50), ("off", 65..=135)] {
            let all = [Upstream::answering([Answer::status(503)]).await, Upstream::start().await];
            let lines = format!(
                "{TRYING}\nbreaker.open_for = \"100ms\"\nbreaker.success_threshold = 1\n\
                 services.writer.balance = \"random\"\nservices.writer.slow_start = {slow_start:?}"
            );
            let gateway = Gateway::before(&all, lines).await;
            eventually("the circuit of the first to open", async || {
                gateway.get("/x").await;
                (all[0].count() > 0).then_some(())
            })
            .await;
            all[0].answer([Answer::ok("well again")]);
            eventually("it to close again", async || {
                (gateway.get("/x").await.text() == "well again").then_some(())
            })
            .await;
            let before = all[0].count();
            let mut client = gateway.connect().await;
            for _ in 0..200 {
                assert_eq!(client.call(Request::get("/x")).await.status(), 200);
            }
            let got = all[0].count() - before;
            assert!(expected.contains(&got), "slow_start {slow_start}: {got} of 200");
        }
    }
}

#[tokio::test]
async fn each_address_of_a_name_is_an_endpoint_where_that_is_asked_for() {
    let writer = Upstream::start().await;
    let lines = format!(
        "services.writer.endpoints = [\"http://localhost:{}\"]\nservices.writer.resolve = \"all\"\n\
         {EVERYTHING_TO_WRITER}",
        writer.port()
    );
    let gateway = Gateway::start(lines).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/x").await.text(), "hello");
    }
    // What the service gets is the name.
    let received = writer.requests();
    let name = format!("localhost:{}", writer.port());
    assert!(received.iter().all(|it| it.header("host").as_deref() == Some(&*name)));
    // What the log tells apart is the address.
    let line = gateway.access_line(|line| line["status"] == 200).await;
    assert_eq!(line["endpoint"], writer.url(), "{line}");
    let labels = [("service", "writer"), ("endpoint", &*writer.url())];
    gateway.metric_reaches("orchestrator_health_up", &labels, 1.0).await;
}
