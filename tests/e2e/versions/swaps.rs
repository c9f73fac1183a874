//! What a swap does, and what it leaves alone.

use super::*;

#[tokio::test]
async fn a_version_that_is_pushed_decides_from_then_on() {
    let (_writer, gateway) = start("").await;
    assert_eq!(mark_of(&gateway.get("/x").await), None);
    let a = gateway.pushed("routing", marked("a")).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["active"], a.as_str());
    let version = gateway.version("routing", &a).await;
    assert_eq!(version["origin"], "pushed");
    assert_eq!(version["by"], "tester");
    assert_eq!(version["decisions"], 1);
    assert!(version["decision_us"]["p50"].as_f64().unwrap() > 0.0);
    assert_eq!(version["size"], routing().len());
    let labels = [("policy", "routing"), ("cause", "push")];
    assert_eq!(gateway.metrics().await.sum("orchestrator_policy_swaps_total", &labels), 1.0);
    gateway.log.line_with(&["activated", &a, "by=\"tester\""]).await;
}

#[tokio::test]
async fn a_connection_that_is_kept_goes_on() {
    let (_writer, gateway) = start("").await;
    let mut client = gateway.connect().await;
    for mark in ["a", "b", "a"] {
        gateway.pushed("routing", marked(mark)).await;
        assert_eq!(mark_of(&client.call(Request::get("/x")).await).as_deref(), Some(mark));
    }
}

#[tokio::test]
async fn a_request_under_way_keeps_the_versions_that_it_began_with() {
    let gate = Gate::new();
    let writer =
        Upstream::answering([Answer::status(503).behind(&gate), Answer::ok("hello")]).await;
    let gateway = Gateway::before([&writer], "").await;
    let a = gateway.pushed("routing", marked("a")).await;
    let two = gateway.pushed("retry", attempts(2)).await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/slow")).await;
    writer.received(|it| it.line().contains("/slow")).await;
    gateway.pushed("routing", marked("b")).await;
    gateway.pushed("retry", attempts(1)).await;
    gateway.pushed("routing", marked("c")).await;
    gate.open();
    let reply = client.reply().await;
    assert_eq!(mark_of(&reply).as_deref(), Some("a"));
    let marks: Vec<_> = writer.requests().iter().map(|it| it.header("x-mark").unwrap()).collect();
    assert_eq!(marks, ["a", "a"], "both attempts, of which the second was the first judge's");
    let line = gateway.access_of(&reply).await;
    assert_eq!(line["routing_version"], a.as_str());
    assert_eq!(line["retry_version"], two.as_str());
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("c"));
}

#[tokio::test]
async fn a_stream_that_has_begun_is_not_cut() {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
    let writer =
        Upstream::answering([Answer::bytes(head).then_wait(&gate).then_send(" half")]).await;
    let gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    writer.received(|_| true).await;
    for mark in ["a", "b", "c"] {
        gateway.pushed("routing", marked(mark)).await;
    }
    gate.open();
    assert_eq!(client.reply().await.text(), "first half");
}

#[tokio::test]
async fn each_is_one_step_of_the_generation() {
    let (_writer, gateway) = start("").await;
    let generation = async || gateway.policy("routing").await["generation"].as_u64().unwrap();
    let before = generation().await;
    gateway.pushed("routing", marked("a")).await;
    assert_eq!(generation().await, before + 1);
    gateway.pushed("routing", marked("b")).await;
    assert_eq!(generation().await, before + 2);
    assert_eq!(gateway.roll_back("routing").await.status(), 200);
    assert_eq!(generation().await, before + 3);
    // The same again is no swap.
    assert_eq!(gateway.push("routing", marked("a")).await.status(), 200);
    assert_eq!(generation().await, before + 3);
}

#[tokio::test]
async fn a_rollback_brings_back_component_and_configuration() {
    let (_writer, gateway) = start("").await;
    let a = gateway.pushed("routing", marked("a")).await;
    let echo = gateway.pushed("routing", Push::of(guest("echo")).config(json!({}))).await;
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["previous"], a.as_str());
    assert_eq!(policy["last_good"], a.as_str());
    assert_eq!(state_of(&policy, &a), "previous");
    let reply = gateway.roll_back("routing").await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.json()["version"], a.as_str());
    assert!(reply.json()["switch_ms"].as_f64().unwrap() < 1000.0);
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["previous"], echo.as_str());
    assert_eq!(state_of(&policy, &echo), "previous");
}

#[tokio::test]
async fn there_is_nothing_to_roll_back_to_at_first() {
    let (_writer, gateway) = start("").await;
    let detail = gateway.roll_back("routing").await.problem(409);
    assert!(detail.contains("no routing version before"), "{detail}");
}

#[tokio::test]
async fn a_staged_version_decides_when_it_is_told_to() {
    let (_writer, gateway) = start("").await;
    let reply = gateway.push("routing", marked("a").staged()).await;
    assert_eq!(reply.status(), 201, "{}", reply.text());
    let a = reply.json()["version"].as_str().unwrap().to_owned();
    assert_eq!(reply.json()["state"], "verified");
    assert_eq!(mark_of(&gateway.get("/x").await), None);
    assert_eq!(gateway.activate("routing", &a).await.status(), 200);
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_let_go_of() {
    let (_writer, gateway) = start("").await;
    let first = gateway.policy("routing").await["active"].as_str().unwrap().to_owned();
    for mark in ["a", "b", "c", "d"] {
        gateway.pushed("routing", marked(mark)).await;
    }
    let policy = gateway.policy("routing").await;
    let resident = policy["versions"].as_array().unwrap();
    let resident = resident.iter().filter(|it| it["resident"] == true).count();
    assert_eq!(resident, 2, "the active one, and the one before, which is the last good: {policy}");
    assert_eq!(state_of(&policy, &first), "retired");
    let detail = gateway.activate("routing", &first).await.problem(404);
    assert!(detail.contains("server.state_dir"), "{detail}");
}

#[tokio::test]
async fn all_workers_turn_at_once() {
    let (_writer, gateway) = start("server.workers = 4").await;
    for mark in ["a", "b", "c"] {
        gateway.pushed("routing", marked(mark)).await;
        for _ in 0..40 {
            assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some(mark));
        }
    }
}
