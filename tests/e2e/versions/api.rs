//! What the admin API tells, to whom, and what it wants to be asked.

use orchestrator_tests::{Client, eventually};

use super::*;

#[tokio::test]
async fn who_changes_something_needs_a_token() {
    let (_writer, gateway) = start("").await;
    let call = async |authorization: Option<&str>| {
        let mut request = Request::post("/policies/routing/rollback", "");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        Client::connect(gateway.admin).await.call(request).await
    };
    let none = call(None).await;
    none.problem(401);
    assert!(none.header("www-authenticate").unwrap().starts_with("Bearer"));
    for wrong in ["Bearer wrong", "Bearer ", "Basic dGVzdGVyOng="] {
        call(Some(wrong)).await.problem(401);
    }
    assert!(gateway.log.lines().iter().all(|line| !line.contains("wrong")), "it is not logged");
}

#[tokio::test]
async fn without_tokens_nobody_can_change_anything() {
    let (_writer, gateway) = start("admin.tokens = {}").await;
    let detail = gateway.roll_back("routing").await.problem(403);
    assert!(detail.contains("[admin.tokens.<name>]"), "{detail}");
    assert_eq!(gateway.policy("routing").await["kind"], "routing");
}

#[tokio::test]
async fn two_operators_do_not_cross() {
    let (_writer, gateway) = start("").await;
    let seen = gateway.admin_get("/policies/routing").await.header("etag").unwrap();
    let seen = seen.trim_matches('"').to_owned();
    gateway.pushed("routing", marked("a").if_match(&seen)).await;
    let reply = gateway.push("routing", marked("b").if_match(&seen)).await;
    let detail = reply.problem(412);
    assert!(detail.contains("the active version is"), "{detail}");
    assert_ne!(reply.header("etag").unwrap().trim_matches('"'), seen);
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
    gateway.pushed("routing", marked("b")).await;
}

#[tokio::test]
async fn what_it_does_not_understand_it_says() {
    let (_writer, gateway) = start("").await;
    let post = |path: &str, content_type: &str, body: &str| {
        gateway.operate(Request::post(path, body).header("content-type", content_type))
    };
    let wasm = "application/wasm";
    post("/policies/routing/versions", "text/plain", "x").await.problem(415);
    post("/policies/routing/versions?activate=maybe", wasm, "x").await.problem(400);
    post("/policies/routing/versions", "multipart/form-data; boundary=b", "x").await.problem(400);
    post("/policies/routing/activate", "application/json", "{").await.problem(400);
    post("/policies/routing/activate", "application/json", "{}").await.problem(400);
    post("/policies/cooking/versions", wasm, "x").await.problem(404);
    post("/policies/routing/cook", wasm, "x").await.problem(404);
    post("/policies/routing", wasm, "x").await.problem(405);
    post("/events", wasm, "x").await.problem(405);
    gateway.admin_get("/policies/routing/rollback").await.problem(405);
    let not_a_tag = Request::post("/policies/routing/rollback", "").header("if-match", "abc");
    gateway.operate(not_a_tag).await.problem(400);
}

#[tokio::test]
async fn a_component_alone_keeps_the_configuration() {
    let (_writer, gateway) = start("").await;
    gateway.pushed("routing", marked("a")).await;
    gateway.pushed("routing", Push::of(guest("echo")).config(marking("a"))).await;
    let request = Request::post("/policies/routing/versions", routing())
        .header("content-type", "application/wasm");
    let reply = gateway.operate(request).await;
    assert_eq!(reply.status(), 200, "it is known: {}", reply.text());
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
}

#[tokio::test]
async fn both_policies_are_on_one_page() {
    let (_writer, gateway) = start("").await;
    let all = gateway.admin_get("/policies").await.json();
    for kind in ["routing", "retry"] {
        let policy = &all["policies"][kind];
        assert_eq!(policy["kind"], kind);
        assert_eq!(policy["versions"][0]["state"], "active");
        assert_eq!(policy["versions"][0]["origin"], "builtin");
        assert_eq!(policy["versions"][0]["sha256"].as_str().unwrap().len(), 64);
    }
}

#[tokio::test]
async fn the_status_has_it_all_in_short() {
    let (_writer, gateway) = start("").await;
    let status = gateway.admin_get("/status").await.json();
    assert_eq!(status["ready"], true);
    assert_eq!(status["generation"], 1);
    assert_eq!(status["policies"][0]["kind"], "routing");
    assert_eq!(status["services"]["services"]["writer"]["circuit_state"], "closed");
}

#[tokio::test]
async fn every_step_is_an_event() {
    let (_writer, gateway) = start("").await;
    let mut follower = Client::connect(gateway.admin).await;
    follower.begin(&Request::get("/events")).await;
    let head = follower.head().await;
    assert_eq!(head.get("content-type").as_deref(), Some("text/event-stream"));
    gateway.pushed("routing", marked("a")).await;
    gateway.push("routing", Push::of("no")).await.problem(422);
    gateway.pushed("routing", marked("b")).await;
    gateway.roll_back("routing").await;

    // Who comes later asks for what it has missed.
    let mut late = Client::connect(gateway.admin).await;
    late.begin(&Request::get("/events").header("last-event-id", "0")).await;
    late.head().await;
    for client in [&mut follower, &mut late] {
        let mut text = String::new();
        eventually("all events", async || {
            text.push_str(&String::from_utf8_lossy(&client.wire.some(4096).await.unwrap()));
            text.contains("rolled_back").then_some(())
        })
        .await;
        let events: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(
            events,
            [
                "received",
                "compiled",
                "verified",
                "activated",
                "received",
                "refused",
                "received",
                "compiled",
                "verified",
                "retired",
                "activated",
                "rolled_back"
            ]
        );
        assert!(text.contains("\"step\":\"receive\""), "{text}");
    }
}

#[tokio::test]
async fn who_leaves_amid_a_push_does_not_leave_half_of_one() {
    let (_writer, gateway) = start("").await;
    for mark in ["a", "b", "c", "d", "e"] {
        let push = gateway.push("routing", marked(mark));
        // Whenever this ends: the push is under way, done, or not begun.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(8), push).await;
    }
    gateway.pushed("routing", marked("last")).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("last"));
}
