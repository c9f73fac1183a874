//! What becomes of a version that fails, and of the requests that it fails on.

use orchestrator_tests::eventually;

use super::*;

/// A gateway on whose good version this guest was put.
async fn after_good(guest_name: &str, lines: &str) -> (Upstream, Gateway, String, String) {
    let (writer, gateway) = start(lines).await;
    let good = gateway.pushed("routing", marked("good")).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("good"));
    let bad = gateway.pushed("routing", Push::of(guest(guest_name)).config(json!({}))).await;
    (writer, gateway, good, bad)
}

#[tokio::test]
async fn the_last_good_one_decides_in_its_place() {
    let lines = "policy_limits.fault_threshold = \"off\"";
    let (writer, gateway, good, bad) = after_good("trap", lines).await;
    for _ in 0..10 {
        let reply = gateway.get("/evil").await;
        assert_eq!(mark_of(&reply).as_deref(), Some("good"));
        let line = gateway.access_of(&reply).await;
        assert_eq!(line["routing_version"], good.as_str());
        assert_eq!(line["why"], "done");
    }
    assert_eq!(mark_of(&gateway.get("/fine").await), None, "where it decides, it does");
    assert_eq!(gateway.policy("routing").await["active"], bad.as_str());
    assert_eq!(gateway.version("routing", &bad).await["faults"]["trap"], 10);
    assert_eq!(gateway.version("routing", &bad).await["decisions"], 11);
    let metrics = gateway.metrics().await;
    let labels = [("policy", "routing")];
    assert_eq!(metrics.sum("orchestrator_policy_fallback_decisions_total", &labels), 10.0);
    assert_eq!(writer.count(), 12);
}

#[tokio::test]
async fn every_kind_of_fault_is_made_good() {
    let lines = "policy_limits.fault_threshold = \"off\"";
    for (name, path) in [
        ("trap", "/evil"),
        ("spin", "/evil"),
        ("hoard", "/evil"),
        ("cannot-decide", "/evil"),
        ("unknown-service", "/evil"),
        ("reserved-header", "/evil/connection"),
        ("big-string", "/evil/body"),
        ("out-of-phase", "/evil"),
    ] {
        let (_writer, gateway, ..) = after_good(name, lines).await;
        assert_eq!(mark_of(&gateway.get(path).await).as_deref(), Some("good"), "{name}");
    }
}

#[tokio::test]
async fn one_that_fails_too_often_is_put_out_of_service() {
    let (_writer, gateway, good, bad) =
        after_good("trap", "policy_limits.fault_threshold = 3").await;
    for _ in 0..3 {
        assert_eq!(mark_of(&gateway.get("/evil").await).as_deref(), Some("good"));
    }
    let policy = gateway.policy_when("routing", |it| it["active"] == good.as_str()).await;
    assert_eq!(state_of(&policy, &bad), "quarantined");
    // An instance that was being made for it when it was put out of service is let go of when it is done.
    let record = eventually("its instances to be gone", async || {
        let record = gateway.version("routing", &bad).await;
        (record["resident"] == false).then_some(record)
    });
    let record = record.await;
    assert_eq!(record["step"], "decisions");
    let reason = record["reason"].as_str().unwrap();
    assert!(reason.contains("3 faults within") && reason.contains("trap"), "{reason}");
    assert_eq!(mark_of(&gateway.get("/fine").await).as_deref(), Some("good"));
    gateway.log.line_with(&["quarantined", &bad]).await;
    let metrics = gateway.metrics().await;
    let of = [("policy", "routing")];
    assert_eq!(metrics.sum("orchestrator_policy_quarantined_total", &of), 1.0);
    let labels = [("policy", "routing"), ("cause", "quarantine")];
    assert_eq!(metrics.sum("orchestrator_policy_swaps_total", &labels), 1.0);

    // It comes back only when somebody asks for it.
    gateway.hang_up();
    assert_ne!(policy["previous"], bad.as_str());
    assert_eq!(
        gateway.push("routing", Push::of(guest("trap")).config(json!({}))).await.status(),
        200
    );
    assert_eq!(gateway.policy("routing").await["active"], bad.as_str());
}

#[tokio::test]
async fn one_whose_instances_cannot_be_made_again_in_time_is_put_out_of_service() {
    let lines = "policy_limits.fault_threshold = 4\npolicy_limits.wall_timeout = \"10ms\"";
    let (_writer, gateway, good, bad) = after_good("configure-slow", lines).await;
    // Two cost it the instances that were ready, and two more find none.
    for path in ["/evil", "/evil", "/fine", "/fine"] {
        assert_eq!(mark_of(&gateway.get(path).await).as_deref(), Some("good"), "{path}");
    }
    let policy = gateway.policy_when("routing", |it| it["active"] == good.as_str()).await;
    assert_eq!(state_of(&policy, &bad), "quarantined");
    let record = gateway.version("routing", &bad).await;
    assert!(record["reason"].as_str().unwrap().contains("`configure` takes too long"), "{record}");
    assert_eq!(record["faults"]["no_instance"], 2);
}

#[tokio::test]
async fn a_judge_too() {
    let writer = Upstream::with(|_| Answer::status(503)).await;
    let lines = "policy_limits.fault_threshold = \"off\"\nbreaker.failure_threshold = 1000";
    let gateway = Gateway::before([&writer], lines).await;
    let good = gateway.pushed("retry", attempts(3)).await;
    gateway.pushed("retry", Push::of(guest("retry-trap")).config(json!({}))).await;
    let reply = gateway.get("/evil").await;
    assert_eq!(reply.status(), 503);
    assert_eq!(writer.count(), 3, "as the last good one has it");
    let line = gateway.access_of(&reply).await;
    assert_eq!(line["retry_version"], good.as_str());
    let metrics = gateway.metrics().await;
    let faults = [("policy", "retry"), ("reason", "trap")];
    assert_eq!(metrics.sum("orchestrator_policy_faults_total", &faults), 1.0, "it was asked once");
    let fallbacks = [("policy", "retry")];
    assert_eq!(metrics.sum("orchestrator_policy_fallback_decisions_total", &fallbacks), 1.0);
}

#[tokio::test]
async fn a_judge_that_fails_too_often_is_put_out_of_service() {
    let writer = Upstream::with(|_| Answer::status(503)).await;
    let lines = "policy_limits.fault_threshold = 3\nbreaker.failure_threshold = 1000";
    let gateway = Gateway::before([&writer], lines).await;
    let good = gateway.pushed("retry", attempts(2)).await;
    let bad = gateway.pushed("retry", Push::of(guest("retry-trap")).config(json!({}))).await;
    for _ in 0..3 {
        gateway.get("/evil").await;
    }
    let policy = gateway.policy_when("retry", |it| it["active"] == good.as_str()).await;
    assert_eq!(state_of(&policy, &bad), "quarantined");
}

#[tokio::test]
async fn the_only_one_there_is_stays() {
    let writer = Upstream::start().await;
    let component = toml_path(&component("trap"));
    let lines = format!(
        "{}\npolicy.routing.component = {component}\npolicy.routing.fault_threshold = 2",
        service("writer", [&writer])
    );
    let gateway = Gateway::start(lines).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/evil").await.status(), 503);
    }
    gateway.log.line_with(&["no last good version"]).await;
    assert_eq!(gateway.get("/fine").await.status(), 200);
    let policy = gateway.policy("routing").await;
    assert_eq!(names(&policy)[0].1, "active");
}

#[tokio::test]
async fn one_that_was_put_out_of_service_stands_in_for_nobody() {
    let (_writer, gateway, good, bad) =
        after_good("trap", "policy_limits.fault_threshold = 2").await;
    for _ in 0..2 {
        gateway.get("/evil").await;
    }
    gateway.policy_when("routing", |it| it["active"] == good.as_str()).await;
    let next = gateway.pushed("routing", marked("next")).await;
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["active"], next.as_str());
    assert_eq!(policy["last_good"], good.as_str());
    assert_eq!(policy["previous"], good.as_str());
    assert_eq!(state_of(&policy, &bad), "quarantined");
}

/// What stands in for the active one fails on the same requests: it must not take its place.
#[tokio::test]
async fn the_last_good_one_that_fails_as_well_is_put_out_of_service_with_it() {
    let folder = TempDir::new().unwrap();
    let lines = format!(
        "policy_limits.fault_threshold = 3\nserver.state_dir = {}",
        toml_path(&folder.path().join("state"))
    );
    let (_writer, gateway, good, first) = after_good("trap", &lines).await;
    let other = Push::of(guest("trap")).config(json!({ "another": true }));
    let second = gateway.pushed("routing", other).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/evil").await.status(), 503);
    }
    // It has to be loaded again: there is room for two beside the active one.
    let policy = gateway.policy_when("routing", |it| it["active"] == good.as_str()).await;
    assert_eq!(state_of(&policy, &first), "quarantined");
    assert_eq!(state_of(&policy, &second), "quarantined");
    assert_eq!(policy["previous"], Value::Null);
    assert_eq!(mark_of(&gateway.get("/evil").await).as_deref(), Some("good"));
}

/// An operator's remedy is under way when the last fault that there may be happens.
#[tokio::test]
async fn what_has_just_been_activated_is_not_thrown_out_for_the_one_before() {
    let lines = "policy_limits.fault_threshold = 3\nlog.level = \"debug\"";
    let (_writer, gateway, _good, bad) = after_good("trap", lines).await;
    let remedy = Push::of(guest("configure-slow")).config(json!({}));
    let verified = || gateway.log.lines().iter().filter(|line| line.contains("verified")).count();
    let before = verified();
    let faults = async {
        let is_next = async || (verified() > before).then_some(());
        eventually("it to wait for the workers alone", is_next).await;
        for _ in 0..3 {
            gateway.get("/evil").await;
        }
    };
    let (remedy, ()) = tokio::join!(gateway.pushed("routing", remedy), faults);
    gateway.log.line_with(&["quarantined", &bad]).await;
    // Whatever was to follow has its time.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(gateway.policy("routing").await["active"], remedy.as_str());
}
