//! Cross-origin resource sharing: the gateway answers for its services.

use orchestrator_tests::{Answer, Gateway, Reply, Request, Upstream};

const LISTED: &str = r#"cors.allow_origins = ["https://app.test", "https://admin.test"]"#;

fn preflight(origin: &str) -> Request {
    Request::new("OPTIONS", "/x")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "x-own, content-type")
}

fn allowed_origin(reply: &Reply) -> Option<String> {
    reply.header("access-control-allow-origin")
}

/// Whether `name` is one of the values of `Vary`.
fn varies_by(reply: &Reply, name: &str) -> bool {
    let values = reply.head.values("vary").join(b",".as_slice()).to_ascii_lowercase();
    values.split(|byte| *byte == b',').any(|value| value.trim_ascii() == name.as_bytes())
}

#[tokio::test]
async fn any_origin_may_read_by_default() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    let reply = gateway.call(Request::get("/x").header("Origin", "https://app.test")).await;
    assert_eq!(reply.text(), "hello");
    assert_eq!(allowed_origin(&reply).as_deref(), Some("*"));
    assert!(!reply.head.has("access-control-allow-credentials"));
}

#[tokio::test]
async fn a_preflight_is_answered_here_and_not_forwarded() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    let reply = gateway.call(preflight("https://app.test")).await;
    assert_eq!((reply.status(), reply.body.len()), (204, 0));
    assert_eq!(allowed_origin(&reply).as_deref(), Some("*"));
    let methods = reply.header("access-control-allow-methods").unwrap();
    assert!(methods.split(", ").any(|method| method == "PUT"), "{methods}");
    let headers = reply.header("access-control-allow-headers").unwrap();
    for name in ["x-own", "content-type"] {
        assert!(headers.contains(name) || headers == "*", "{headers}");
    }
    assert_eq!(reply.header("access-control-max-age").as_deref(), Some("600"));
    assert!(reply.head.has("x-request-id"));
    assert_eq!(writer.count(), 0);
}

#[tokio::test]
async fn an_options_that_is_no_preflight_is_forwarded() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    gateway.call(Request::new("OPTIONS", "/x").header("Origin", "https://app.test")).await;
    gateway.call(Request::new("OPTIONS", "/x")).await;
    assert_eq!(writer.count(), 2);
}

#[tokio::test]
async fn a_listed_origin_is_named_and_another_is_not() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], LISTED).await;
    for (origin, allowed) in [
        ("https://app.test", Some("https://app.test")),
        ("https://admin.test", Some("https://admin.test")),
        ("http://app.test", None),
        ("https://app.test.evil", None),
        ("null", None),
    ] {
        let reply = gateway.call(Request::get("/x").header("Origin", origin)).await;
        assert_eq!(reply.text(), "hello", "CORS is the browser's to enforce");
        assert_eq!(allowed_origin(&reply).as_deref(), allowed, "{origin}");
        assert!(varies_by(&reply, "origin"), "{origin}");
        let reply = gateway.call(preflight(origin)).await;
        assert_eq!(allowed_origin(&reply).as_deref(), allowed, "{origin}, preflight");
    }
    let reply = gateway.get("/x").await;
    assert_eq!(allowed_origin(&reply), None);
    assert!(varies_by(&reply, "origin"), "a cache may keep what had no origin");
}

#[tokio::test]
async fn credentials_are_allowed_to_listed_origins_only() {
    let writer = Upstream::start().await;
    let lines = "cors.allow_credentials = true\ncors.allow_headers = [\"content-type\"]";
    let gateway = Gateway::before([&writer], format!("{LISTED}\n{lines}")).await;
    let reply = gateway.call(Request::get("/x").header("Origin", "https://app.test")).await;
    assert_eq!(reply.header("access-control-allow-credentials").as_deref(), Some("true"));
    let reply = gateway.call(Request::get("/x").header("Origin", "https://evil.test")).await;
    assert!(!reply.head.has("access-control-allow-credentials"));
}

#[tokio::test]
async fn a_services_own_headers_are_replaced() {
    let answer = Answer::new(
        200,
        &[
            ("Access-Control-Allow-Origin", "https://service.test"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Vary", "accept"),
        ],
        "",
    );
    let writer = Upstream::answering([answer]).await;
    let gateway = Gateway::before([&writer], LISTED).await;
    let reply = gateway.call(Request::get("/x").header("Origin", "https://app.test")).await;
    assert_eq!(allowed_origin(&reply).as_deref(), Some("https://app.test"));
    assert!(!reply.head.has("access-control-allow-credentials"));
    assert!(varies_by(&reply, "accept") && varies_by(&reply, "origin"));
}

#[tokio::test]
async fn errors_and_pages_can_be_read_too() {
    let gateway = Gateway::before([&Upstream::down()], "").await;
    for path in ["/x", "/", "/health/status/nobody"] {
        let reply = gateway.call(Request::get(path).header("Origin", "https://app.test")).await;
        assert_eq!(allowed_origin(&reply).as_deref(), Some("*"), "{path}");
    }
}

#[tokio::test]
async fn without_origins_it_is_the_services_own_business() {
    let answer = Answer::new(200, &[("Access-Control-Allow-Origin", "https://own.test")], "mine");
    let writer = Upstream::answering([answer]).await;
    let gateway = Gateway::before([&writer], "cors.allow_origins = []").await;
    let reply = gateway.call(preflight("https://app.test")).await;
    assert_eq!(reply.text(), "mine");
    assert_eq!(allowed_origin(&reply).as_deref(), Some("https://own.test"));
    assert_eq!(writer.count(), 1);
}

#[tokio::test]
async fn exposed_headers_are_named() {
    let writer = Upstream::start().await;
    let lines = r#"cors.expose_headers = ["x-request-id", "x-total"]"#;
    let gateway = Gateway::before([&writer], lines).await;
    let reply = gateway.call(Request::get("/x").header("Origin", "https://app.test")).await;
    let exposed = reply.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-request-id") && exposed.contains("x-total"), "{exposed}");
}
