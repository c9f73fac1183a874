//! What the admin API tells, to whom, and what it wants to be asked.

use orchestrator_tests::operator::{activation, rollback};
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
    gateway.log.line_with(&["none of [admin.tokens]"]).await;
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
    let rollback = || Request::post("/policies/routing/rollback", "");
    gateway.operate(rollback().header("if-match", "abc")).await.problem(400);
    let two = rollback().header("if-match", "*").header("if-match", "\"0123456789ab\"");
    gateway.operate(two).await.problem(400);
    // In quotes it is a name like any other, and nobody has it.
    gateway.operate(rollback().header("if-match", "\"*\"")).await.problem(412);
}

#[tokio::test]
async fn a_name_is_told_by_its_beginning() {
    let (_writer, gateway) = start("").await;
    let version = gateway.pushed("routing", marked("a")).await;
    gateway.pushed("routing", marked("b")).await;
    let detail = gateway.activate("routing", &version[..3]).await.problem(404);
    assert!(detail.contains("at least four digits"), "{detail}");
    let detail = gateway.activate("routing", "ffffffffffff").await.problem(404);
    assert!(detail.contains("there is no routing version"), "{detail}");
    assert_eq!(gateway.activate("routing", &version[..8].to_uppercase()).await.status(), 200);
    let refused = gateway.push("routing", Push::of("no")).await.json()["version"].clone();
    let detail = gateway.activate("routing", refused.as_str().unwrap()).await.problem(404);
    assert!(detail.contains("was not kept"), "{detail}");
}

#[tokio::test]
async fn the_same_change_twice_at_once_is_one() {
    let (_writer, gateway) = start("").await;
    let first = gateway.pushed("routing", marked("a")).await;
    let second = gateway.pushed("routing", marked("b")).await;
    for changes in [
        [activation("routing", &first), activation("routing", &first)],
        [rollback("routing"), activation("routing", &second)],
    ] {
        let [one, other] = changes.map(|change| gateway.call_admin(change));
        let (one, other) = tokio::join!(one, other);
        assert_eq!((one.status(), other.status()), (200, 200), "{} {}", one.text(), other.text());
        let policy = gateway.policy("routing").await;
        assert!(policy["previous"].is_string(), "there is a way back: {policy}");
        assert_ne!(policy["previous"], policy["active"]);
    }
}

#[tokio::test]
async fn followers_of_the_events_keep_nobody_out() {
    let (_writer, gateway) = start("").await;
    let mut following = Vec::new();
    let refused = loop {
        let mut client = Client::connect(gateway.admin).await;
        client.begin(&Request::get("/events")).await;
        match client.head().await.status() {
            200 => following.push(client),
            status => break status,
        }
    };
    assert_eq!((refused, following.len()), (503, 32));
    assert_eq!(gateway.admin_get("/livez").await.status(), 200);
    // Who only asks what there would be takes no place.
    for _ in 0..3 {
        let head = Request::new("HEAD", "/events");
        assert_eq!(gateway.call_admin(head).await.status(), 200);
    }
    drop(following);
    eventually("a place to be free", async || {
        let mut client = Client::connect(gateway.admin).await;
        client.begin(&Request::get("/events")).await;
        (client.head().await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_has_missed_events_is_told() {
    let (_writer, gateway) = start("").await;
    gateway.pushed("routing", marked("a")).await;
    // That of another process, before.
    let mut client = Client::connect(gateway.admin).await;
    client.begin(&Request::get("/events").header("last-event-id", "17")).await;
    client.head().await;
    let mut text = String::new();
    eventually("the events", async || {
        text.push_str(&String::from_utf8_lossy(&client.wire.some(4096).await.unwrap()));
        text.contains("activated").then_some(())
    })
    .await;
    let first = text.lines().find_map(|line| line.strip_prefix("event: "));
    assert_eq!(first, Some("lost"), "{text}");
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
