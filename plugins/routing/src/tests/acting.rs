use std::time::Duration;

use super::*;

fn decide(route: &str, request: RequestBuilder) -> String {
    let policy = policy(&[&format!(r#""name": "r", {route}"#)]);
    let request = request.build();
    let decision = policy.route(&request);
    let location = decision.response_headers.iter().find(|edit| edit.name == "location");
    let location = location.and_then(|edit| edit.value.as_deref());
    match (&decision.action, &decision.path, location) {
        (Chosen::Forward(service), Some(path), None) => format!("{service} {path}"),
        (Chosen::Forward(service), None, None) => format!("{service}"),
        (Chosen::Respond(status), None, Some(to)) => {
            format!("{status} {}", std::str::from_utf8(to).expect("ASCII"))
        }
        (Chosen::Respond(status), None, None) => format!("{status}"),
        (Chosen::Decline, ..) => "-".to_owned(),
        _ => panic!("{decision:?}"),
    }
}

#[test]
fn a_rewrite_never_makes_two_slashes_or_an_empty_path() {
    for (prefix, rewrite, path, rewritten) in [
        ("/a", "/", "/a", "/"),
        ("/a", "/", "/a/", "/"),
        ("/a", "/", "/a//", "/"),
        ("/a", "/", "/a//evil.org/x", "/evil.org/x"),
        ("/a", "/", "/a///x//y", "/x//y"),
        ("/a", "/b", "/a", "/b"),
        ("/a", "/b/", "/a", "/b"),
        ("/a", "/b/", "/a/x", "/b/x"),
        ("/a", "/b", "/a//x", "/b/x"),
        ("/a/", "/b", "/a/x", "/b/x"),
        ("/", "/b", "/", "/b/"),
        ("/", "/b", "/x", "/b/x"),
        ("/", "/", "//x", "/x"),
        ("/a", "/b", "/a/%2f%C3%A9", "/b/%2f%C3%A9"),
        ("/u/{id}/o", "/{id}", "/u/7/o/x", "/7/x"),
        ("/u/{id}/o", "/x/{id}/", "/u/7/o", "/x/7"),
        ("/{a}/{b}", "/{b}/{a}", "/1/2/3/", "/2/1/3/"),
    ] {
        let route = format!(r#""path_prefix": "{prefix}", "rewrite_prefix": "{rewrite}""#);
        assert_eq!(decide(&route, get(path)), format!("writer {rewritten}"), "{route} {path}");
    }
}

#[test]
fn a_full_rewrite_takes_segments_of_the_path_and_leaves_the_rest() {
    for (pattern, rewrite, path, rewritten) in [
        (r#""path": "/old""#, "/v2/new", "/old", "/v2/new"),
        (r#""path": "/users/{id}""#, "/v2/accounts/{id}", "/users/7", "/v2/accounts/7"),
        (r#""path": "/{a}/{b}""#, "/{b}/x/{a}/{b}", "/1/2", "/2/x/1/2"),
        (r#""path": "/{a}""#, "/x.{a}.y", "/%2e%2F", "/x.%2e%2F.y"),
        (r#""path_prefix": "/a/{b}""#, "/c/{b}", "/a/1/rest/x", "/c/1"),
        (r#""path": "/{a}""#, "/s?q={a}&r=1", "/1", "/s?q=1&r=1"),
        // A segment stays one value of a query.
        (r#""path": "/{a}""#, "/s?q={a}", "/1&admin=1;x=y+z", "/s?q=1%26admin%3D1%3Bx%3Dy%2Bz"),
        (r#""path": "/{a}""#, "/s?q={a}", "/%26", "/s?q=%26"),
    ] {
        let route = format!(r#"{pattern}, "rewrite": "{rewrite}""#);
        assert_eq!(decide(&route, get(path).query("q=0")), format!("writer {rewritten}"), "{path}");
    }
}

#[test]
fn a_path_that_would_be_too_long_is_414_and_no_fault() {
    let long = format!("/a/{}", "x".repeat(40_000));
    for route in [
        r#""path_prefix": "/a", "rewrite_prefix": "/b""#,
        r#""path_prefix": "/a", "redirect": {"prefix": "/b"}"#,
    ] {
        assert_eq!(decide(route, get(&long)), "414");
    }
}

#[test]
fn weights_share_the_random_numbers_out() {
    let route = r#""path": "/", "services": [
        {"service": "writer", "weight": 90}, {"service": "research", "weight": 0},
        {"service": "backend", "weight": 10}]"#;
    let tenth = u64::MAX / 10;
    for (random, service) in [
        (0, "writer"),
        (tenth * 5, "writer"),
        (tenth * 9 - 1000, "writer"),
        (tenth * 9 + 1000, "backend"),
        (u64::MAX, "backend"),
    ] {
        assert_eq!(decide(route, get("/").random([random])), service, "{random}");
    }
    let equal = r#""path": "/", "services": [{"service": "writer"}, {"service": "research"}]"#;
    assert_eq!(decide(equal, get("/").random([u64::MAX / 2 - 1])), "writer");
    assert_eq!(decide(equal, get("/").random([u64::MAX / 2 + 2])), "research");
}

#[test]
fn the_same_key_draws_the_same_service_and_many_keys_keep_the_weights() {
    for (sticky, with_key) in [
        (
            r#"{"cookie": "user"}"#,
            (|key: &str| get("/").header("cookie", format!("a=b; user={key};c=d")))
                as fn(&str) -> RequestBuilder,
        ),
        (r#"{"header": "x-user"}"#, |key| get("/").header("X-User", key)),
        (r#"{"client_ip": true}"#, |key| get("/").client(key)),
    ] {
        let route = |weight: u32| {
            let next = format!(r#"{{"service": "backend", "weight": {weight}}}"#);
            let rest = format!(r#"{{"service": "writer", "weight": {}}}"#, 100 - weight);
            policy(&[&format!(r#""path": "/", "services": [{next}, {rest}], "sticky": {sticky}"#)])
        };
        let (tenth, fifth) = (route(10), route(20));
        let mut drawn = [0, 0];
        for n in 0..10_000 {
            let key = format!("user-{n}");
            let service = |policy: &Routing, random| {
                let request = with_key(&key).random([random]).build();
                policy.route(&request).action == Chosen::Forward("backend".into())
            };
            let now = service(&tenth, 0);
            assert_eq!(now, service(&tenth, u64::MAX), "{key}: chance has no say");
            assert!(service(&fifth, 0) || !now, "{key} left the share that grew");
            drawn[usize::from(now)] += 1;
        }
        assert!((900..1100).contains(&drawn[1]), "{drawn:?} by {sticky}");
    }
}

#[test]
fn without_a_key_chance_draws() {
    let route = r#""path": "/", "services": [{"service": "writer"}, {"service": "research"}],
        "sticky": {"cookie": "user"}"#;
    for cookie in ["", "user", "user=", "users=1", "x=user=1"] {
        let request = |random| get("/").header("cookie", cookie).random([random]);
        assert_eq!(decide(route, request(0)), "writer", "{cookie}");
        assert_eq!(decide(route, request(u64::MAX)), "research", "{cookie}");
    }
}

#[test]
fn a_fallback_gets_requests_while_the_circuit_is_open_and_its_own_is_not() {
    let route = r#""path": "/", "service": "writer", "fallback": "backend""#;
    for (writer, backend, service) in [
        (Circuit::Closed, Circuit::Closed, "writer"),
        (Circuit::HalfOpen, Circuit::Closed, "writer"),
        (Circuit::Open, Circuit::Closed, "backend"),
        (Circuit::Open, Circuit::HalfOpen, "backend"),
        (Circuit::Open, Circuit::Open, "writer"),
    ] {
        let request = get("/").service("writer", standing(writer));
        let request = request.service("backend", standing(backend));
        assert_eq!(decide(route, request), service, "{writer:?} {backend:?}");
    }
}

#[test]
fn what_is_said_of_forwarding_goes_with_the_decision() {
    let policy = policy(&[r#""name": "all", "path": "/", "service": "writer",
        "timeout": "5s", "attempt_timeout": "250ms", "body_bytes": "10MiB", "affinity": {"header": "x-user"},
        "request_headers": {"set": {"X-From": "gateway"}, "remove": ["X-Debug"]},
        "response_headers": {"set": {"cache-control": "no-store"}, "remove": ["server"]}"#]);
    let decision = Decision::forward("writer")
        .route_name("all")
        .timeout(Duration::from_secs(5))
        .attempt_timeout(Duration::from_millis(250))
        .request_body_max(10 << 20)
        .request_header("x-from", "gateway")
        .remove_request_header("x-debug")
        .response_header("cache-control", "no-store")
        .remove_response_header("server");
    assert_eq!(policy.route(&get("/").build()), decision.clone());
    let request = get("/").header("x-user", b"\xffann").build();
    assert_eq!(policy.route(&request), decision.clone().affinity(b"\xffann"));
    // A key that is too long to hand over is handed over as its hash.
    let hashes = ["x", "y"].map(|key| {
        let request = get("/").header("x-user", key.repeat(10_000)).build();
        policy.route(&request).affinity.expect("a key").into_owned()
    });
    assert_eq!(hashes[0].len(), 8);
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn a_response_has_a_status_a_body_its_type_and_when_to_come_back() {
    let policy = policy(&[r#""path_prefix": "/", "respond": {"status": 503,
        "body": "<p>Back soon", "content_type": "text/html", "retry_after": "1500ms"},
        "response_headers": {"set": {"x-a": "b"}}"#]);
    let decision = Decision::respond(503)
        .body("<p>Back soon")
        .route_name("/")
        .response_header("content-type", "text/html")
        .response_header("retry-after", "2")
        .response_header("x-a", "b");
    assert_eq!(policy.route(&get("/x").build()), decision);
    assert_eq!(decide(r#""path": "/", "respond": {"status": 204}"#, get("/")), "204");
}

#[test]
fn a_redirect_leads_to_another_path_host_or_scheme_and_keeps_the_rest() {
    for (pattern, redirect, location) in [
        (r#""path": "/a/b""#, r#""to": "/new""#, "302 /new?q=1"),
        (r#""path": "/a/b""#, r#""to": "/new", "status": 308"#, "308 /new?q=1"),
        (r#""path": "/a/b""#, r#""to": "/new", "keep_query": false"#, "302 /new"),
        (r#""path": "/a/b""#, r#""to": "/new?x=y""#, "302 /new?x=y"),
        (r#""path": "/a/{id}""#, r#""to": "/new/{id}""#, "302 /new/b?q=1"),
        (r#""path": "/a/b""#, r#""to": "https://x.org""#, "302 https://x.org/a/b?q=1"),
        (r#""path": "/a/b""#, r#""to": "https://x.org/""#, "302 https://x.org/?q=1"),
        (r#""path": "/{a}/b""#, r#""to": "http://x.org:81/{a}""#, "302 http://x.org:81/a?q=1"),
        (r#""path": "/a/b""#, r#""to": "https://[::1]:8/""#, "302 https://[::1]:8/?q=1"),
        (r#""path_prefix": "/a""#, r#""prefix": "/c""#, "302 /c/b?q=1"),
        (r#""path_prefix": "/a""#, r#""prefix": "/""#, "302 /b?q=1"),
        (r#""path_prefix": "/a""#, r#""path": "/c""#, "302 /c?q=1"),
        (r#""path_prefix": "/""#, r#""scheme": "https""#, "302 https://me.org/a/b?q=1"),
        (
            r#""path_prefix": "/""#,
            r#""scheme": "https", "port": 8443"#,
            "302 https://me.org:8443/a/b?q=1",
        ),
        (r#""path_prefix": "/""#, r#""host": "x.org""#, "302 http://x.org/a/b?q=1"),
        (
            r#""path_prefix": "/a""#,
            r#""host": "x.org", "prefix": "/c", "status": 301"#,
            "301 http://x.org/c/b?q=1",
        ),
        (r#""path_prefix": "/a""#, r#""port": 81"#, "302 http://me.org:81/a/b?q=1"),
    ] {
        let route = format!(r#"{pattern}, "redirect": {{{redirect}}}"#);
        let request = get("/a/b").query("q=1").authority("me.org:8003");
        assert_eq!(decide(&route, request), location, "{route}");
    }
}

#[test]
fn a_redirect_cannot_be_made_to_lead_to_another_host() {
    for (pattern, redirect, path, location) in [
        (r#""path_prefix": "/""#, r#""prefix": "/""#, "//evil.org/x", "302 /evil.org/x"),
        (r#""path_prefix": "/a""#, r#""prefix": "/""#, "/a//evil.org", "302 /evil.org"),
        (r#""path_prefix": "/a""#, r#""prefix": "/""#, "/a/\\evil.org", "302 /%5Cevil.org"),
        (r#""path": "/{x}""#, r#""to": "/{x}""#, "/\\evil.org", "302 /%5Cevil.org"),
        (r#""path_prefix": "/""#, r#""host": "x.org""#, "//evil.org", "302 http://x.org//evil.org"),
        (
            r#""path_prefix": "/""#,
            r#""scheme": "https""#,
            "/@evil.org",
            "302 https://me.org/@evil.org",
        ),
        (r#""path": "/{x}""#, r#""to": "/{x}""#, "/a\"<b>", "302 /a%22%3Cb%3E"),
        (r#""path": "/{x}""#, r#""to": "/{x}""#, "/a\r\nb", "302 /a%0D%0Ab"),
        (r#""path": "/{x}""#, r#""to": "/{x}""#, "/é%41", "302 /%C3%A9%41"),
    ] {
        let route = format!(r#"{pattern}, "redirect": {{{redirect}}}"#);
        assert_eq!(decide(&route, get(path).authority("me.org")), location, "{route} {path:?}");
    }
    let route = r#""path_prefix": "/", "redirect": {"scheme": "https"}"#;
    for authority in ["", ":80", "a b", "a@evil.org", "a/b", "a\\b"] {
        assert_eq!(decide(route, get("/").authority(authority)), "400", "{authority}");
    }
    let query = get("/").query("a=\r\nb\\").authority("me.org");
    assert_eq!(decide(route, query), "302 https://me.org/?a=%0D%0Ab%5C");
}
