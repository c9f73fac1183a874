//! The default routing policy, seen from outside: each of its fields does what it says, through the
//! component that is built in. `default_routes` has paths and methods, `configuration` what is refused.

use std::time::{Duration, Instant};

use orchestrator_tests::{Answer, Gateway, Request, Upstream, service};

use crate::default_routes::routes;

mod takes {
    use super::*;

    #[tokio::test]
    async fn the_most_specific_host_and_stars_at_any_depth() {
        let routed = routes(
            r#"{ path_prefix = "/", service = "writer" },
               { path_prefix = "/", host = "*.shop.test", service = "research" },
               { path_prefix = "/", host = "www.shop.test", service = "backend" }"#,
        )
        .await;
        for (host, expected) in [
            ("www.shop.test", "backend GET /x"),
            ("WWW.Shop.Test:8003", "backend GET /x"),
            ("a.shop.test", "research GET /x"),
            ("b.a.shop.test", "research GET /x"),
            ("shop.test", "writer GET /x"),
            ("myshop.test", "writer GET /x"),
        ] {
            let request = Request::get("/x").header("Host", host);
            assert_eq!(routed.reaches(request).await, expected, "for {host}");
        }
    }

    #[tokio::test]
    async fn a_host_before_a_path() {
        let routed = routes(
            r#"{ path = "/a/b", service = "writer" },
               { path_prefix = "/a", host = "one.test", service = "research" }"#,
        )
        .await;
        let request = Request::get("/a/b").header("Host", "one.test");
        assert_eq!(routed.reaches(request).await, "research GET /a/b");
        assert_eq!(routed.reaches(Request::get("/a/b")).await, "writer GET /a/b");
    }

    #[tokio::test]
    async fn paths_with_segments_in_braces() {
        routes(
            r#"{ path = "/users/{id}", service = "writer" },
               { path = "/users/me", service = "research" },
               { path_prefix = "/users", service = "backend" }"#,
        )
        .await
        .expect(&[
            ("GET /users/7", "writer GET /users/7"),
            ("GET /users/%37?x", "writer GET /users/7?x"),
            ("GET /users/me", "research GET /users/me"),
            ("GET /users/7/orders", "backend GET /users/7/orders"),
            ("GET /users/", "backend GET /users/"),
        ])
        .await;
    }

    #[tokio::test]
    async fn headers_exactly_at_all_absent_or_by_pattern() {
        let routed = routes(
            r#"{ path = "/a", headers = { X-Tenant = "acme" }, service = "writer" },
               { path = "/a", headers = { user-agent = { regex = 'curl/8\.\d+' } }, service = "research" },
               { path = "/a", headers = { x-beta = { present = true } }, service = "backend" },
               { path = "/b", headers = { x-beta = { present = false } }, service = "backend" }"#,
        )
        .await;
        for (path, name, value, expected) in [
            ("/a", "x-tenant", "acme".as_bytes(), "writer GET /a"),
            ("/a", "x-tenant", b"Acme", "404"),
            ("/a", "User-Agent", b"curl/8.5", "research GET /a"),
            ("/a", "User-Agent", b"curl/8.5.1", "404"),
            ("/a", "X-Beta", b"", "backend GET /a"),
            ("/b", "x-beta", b"1", "404"),
            ("/b", "x-other", b"1", "backend GET /b"),
            // Bytes that are no text are compared, matched by no pattern, and no fault.
            ("/a", "user-agent", b"curl/8.\xff", "404"),
            ("/a", "x-tenant", b"acme\xff", "404"),
            ("/a", "x-beta", b"\xff", "backend GET /a"),
        ] {
            let request = Request::get(path).header(name, value);
            assert_eq!(routed.reaches(request).await, expected, "{name}: {}", value.escape_ascii());
        }
        let faults = routed.gateway.metrics().await.sum("orchestrator_policy_faults_total", &[]);
        assert_eq!(faults, 0.0);
    }

    #[tokio::test]
    async fn parameters_of_the_query_decoded() {
        routes(
            r#"{ path = "/a", query = { "user name" = "ann & bob" }, service = "writer" },
               { path = "/a", query = { v = { regex = "[0-9]+" } }, service = "research" },
               { path = "/a", query = { debug = { present = true } }, service = "backend" }"#,
        )
        .await
        .expect(&[
            ("GET /a?user+name=ann%20%26+bob", "writer GET /a?user+name=ann%20%26+bob"),
            ("GET /a?v=12", "research GET /a?v=12"),
            ("GET /a?v=x&v=12", "404"),
            ("GET /a?debug", "backend GET /a?debug"),
            ("GET /a?%FF=%FF", "404"),
            ("GET /a", "404"),
        ])
        .await;
    }

    #[tokio::test]
    async fn ten_thousand_routes_within_the_default_memory() {
        let mut list = String::new();
        for n in 0..10_000 {
            list.push_str(&format!(
                "{{ path_prefix = \"/team-{n}/api\", rewrite_prefix = \"/v{n}\", service = \
                 \"writer\" }},\n"
            ));
        }
        routes(&list)
            .await
            .expect(&[
                ("GET /team-0/api", "writer GET /v0"),
                ("GET /team-9999/api/x", "writer GET /v9999/x"),
                ("GET /team-10000/api", "404"),
            ])
            .await;
    }
}

mod forwards {
    use super::*;

    #[tokio::test]
    async fn under_a_path_made_of_the_requests() {
        routes(
            r#"{ path = "/users/{id}", rewrite = "/v2/accounts/{id}", service = "writer" },
               { path = "/find/{what}", rewrite = "/search?q={what}&n=5", service = "research" },
               { path_prefix = "/t/{team}/api", rewrite_prefix = "/{team}", service = "backend" }"#,
        )
        .await
        .expect(&[
            ("GET /users/7?x=1", "writer GET /v2/accounts/7?x=1"),
            ("GET /users/a%2Fb", "writer GET /v2/accounts/a%2Fb"),
            ("GET /find/a&n=9?x=1", "research GET /search?q=a%26n%3D9&n=5"),
            ("GET /t/red/api/x/y?z", "backend GET /red/x/y?z"),
            ("GET /t/red/api", "backend GET /red"),
        ])
        .await;
    }

    #[tokio::test]
    async fn to_services_that_share_the_requests() {
        let routed = routes(
            r#"{ path = "/half", services = [{ service = "writer" }, { service = "research" }] },
               { path = "/none", services = [{ service = "writer", weight = 3 }, { service = "backend", weight = 0 }] }"#,
        )
        .await;
        for _ in 0..100 {
            routed.gateway.get("/half").await;
            routed.gateway.get("/none").await;
        }
        let [writer, research, backend] = routed.services.each_ref().map(|(_, it)| it.count());
        assert_eq!((writer + research, backend), (200, 0));
        // Of 100 fair coins, fewer than 20 heads come up once in a billion times.
        assert!((20..=80).contains(&research), "{research} of 100");
    }

    #[tokio::test]
    async fn a_cookies_owner_to_the_same_of_them_always() {
        let routed = routes(
            r#"{ path = "/home", sticky = { cookie = "user" },
                 services = [{ service = "writer" }, { service = "research" }] }"#,
        )
        .await;
        let mut reached = std::collections::HashSet::new();
        for user in 0..20 {
            let cookie = format!("a=b; user={user}");
            let request = || Request::get("/home").header("Cookie", &cookie);
            let first = routed.reaches(request()).await;
            for _ in 0..5 {
                assert_eq!(routed.reaches(request()).await, first, "{cookie}");
            }
            reached.insert(first);
        }
        assert_eq!(reached.len(), 2, "all users went to {reached:?}");
    }

    #[tokio::test]
    async fn elsewhere_while_the_circuit_is_open() {
        let failing = Upstream::answering([Answer::status(503)]).await;
        let spare = Upstream::answering([Answer::ok("spare")]).await;
        let gateway = Gateway::start(format!(
            "{}\n{}\npolicy.retry.config.attempts = 1\n[policy.routing.config]\nroutes = [
                {{ path = \"/home\", service = \"main\", fallback = \"spare\" }},
                {{ path = \"/state\", service = \"main\" }},
                {{ path = \"/state\", when = {{ main = \"open\" }}, respond = {{ status = 200, body = \"is open\" }} }},
            ]",
            service("main", [&failing]),
            service("spare", [&spare]),
        ))
        .await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/state").await.status(), 503);
        }
        assert_eq!(gateway.get("/home").await.text(), "spare");
        assert_eq!(gateway.get("/state").await.text(), "is open");
        assert_eq!((failing.count(), spare.count()), (3, 1));
    }

    #[tokio::test]
    async fn for_as_long_as_the_route_says() {
        let silent = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::start(format!(
            "{}\n[policy.routing.config]\nroutes = [
                {{ path = \"/whole\", service = \"writer\", timeout = \"150ms\" }},
                {{ path = \"/attempt\", service = \"writer\", attempt_timeout = \"150ms\" }},
            ]",
            service("writer", [&silent]),
        ))
        .await;
        let began = Instant::now();
        let reply = gateway.get("/whole").await;
        reply.problem(504);
        assert!(began.elapsed() >= Duration::from_millis(150));
        assert_eq!(gateway.access_of(&reply).await["attempts"], 1);
        let reply = gateway.get("/attempt").await;
        reply.problem(504);
        assert_eq!(gateway.access_of(&reply).await["attempts"], 3);
    }

    #[tokio::test]
    async fn but_no_longer_than_the_gateway_allows() {
        let silent = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::start(format!(
            "{}\nproxy.request_timeout = \"200ms\"\n[policy.routing.config]\nroutes = [
                {{ path_prefix = \"/\", service = \"writer\", timeout = \"10m\", attempt_timeout = \"10m\" }},
            ]",
            service("writer", [&silent]),
        ))
        .await;
        let reply = gateway.get("/x").await;
        reply.problem(504);
        assert_eq!(gateway.access_of(&reply).await["why"], "request_timeout");
    }

    #[tokio::test]
    async fn with_a_body_as_large_as_the_route_and_the_gateway_allow() {
        let writer = Upstream::start().await;
        let gateway = Gateway::start(format!(
            "{}\nlimits.body_bytes = \"2KiB\"\n[policy.routing.config]\nroutes = [
                {{ path = \"/small\", service = \"writer\", body_bytes = \"1KiB\" }},
                {{ path = \"/large\", service = \"writer\", body_bytes = \"1GiB\" }},
                {{ path = \"/none\", service = \"writer\", body_bytes = \"0B\" }},
            ]",
            service("writer", [&writer]),
        ))
        .await;
        for (path, bytes, status) in [
            ("/small", 1024, 200),
            ("/small", 1025, 413),
            ("/large", 2048, 200),
            ("/large", 2049, 413),
            ("/none", 0, 200),
            ("/none", 1, 413),
        ] {
            let reply = gateway.call(Request::post(path, vec![b'x'; bytes])).await;
            assert_eq!(reply.status(), status, "{bytes} bytes to {path}");
        }
        // What does not say its size is found out on the way.
        let mut client = gateway.connect().await;
        client.send("POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.send(format!("401\r\n{}\r\n", "x".repeat(0x401))).await;
        client.reply().await.problem(413);
        let whole = writer.requests().iter().filter(|request| request.whole).count();
        assert_eq!(whole, 3);
    }

    #[tokio::test]
    async fn with_headers_set_and_removed_in_both_directions() {
        let answer = Answer::new(200, &[("X-Powered-By", "magic"), ("X-Kept", "1")], "hello");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::start(format!(
            "{}\n[[policy.routing.config.routes]]
            path_prefix = \"/\"
            service = \"writer\"
            request_headers = {{ set = {{ X-From = \"gateway\" }}, remove = [\"X-Debug\"] }}
            response_headers = {{ set = {{ cache-control = \"no-store\" }}, remove = [\"x-powered-by\"] }}",
            service("writer", [&writer]),
        ))
        .await;
        let request = Request::get("/home").header("x-from", "client").header("x-debug", "1");
        let reply = gateway.call(request.header("x-kept", "1")).await;
        assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(reply.header("x-powered-by"), None);
        assert_eq!(reply.header("x-kept").as_deref(), Some("1"));
        let request = writer.request();
        assert_eq!(request.header("x-from").as_deref(), Some("gateway"));
        assert_eq!(request.header("x-debug"), None);
        assert_eq!(request.header("x-kept").as_deref(), Some("1"));
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn with_a_redirect_that_no_client_can_bend() {
        let routed = routes(
            r#"{ path = "/u/{id}", redirect = { to = "/users/{id}", status = 301 } },
               { path_prefix = "/old", redirect = { prefix = "/", status = 308 } },
               { path_prefix = "/there", redirect = { to = "https://there.test" } },
               { path_prefix = "/safe", redirect = { scheme = "https", status = 307 } }"#,
        )
        .await;
        for (target, status, location) in [
            ("/u/7?x=1", 301, "/users/7?x=1"),
            ("/u/a%3Ab", 301, "/users/a%3Ab"),
            ("/old/a?b", 308, "/a?b"),
            ("/there/x?y", 302, "https://there.test/there/x?y"),
            ("/safe/x", 307, "https://shop.test/safe/x"),
        ] {
            let request = Request::get(target).header("Host", "shop.test:8003");
            let reply = routed.gateway.call(request).await;
            assert_eq!(reply.status(), status, "for {target}");
            assert_eq!(reply.header("location").as_deref(), Some(location), "for {target}");
            assert!(reply.header("x-request-id").is_some());
        }
        // However the gateway treats `//`, the client stays here.
        let reply = routed.gateway.get("/old//evil.test").await;
        if let Some(location) = reply.header("location") {
            assert!(!location.starts_with("//"), "{location}");
        }
    }

    #[tokio::test]
    async fn with_what_is_written_there() {
        let routed = routes(
            r#"{ path_prefix = "/shop", respond = { status = 503, body = "<p>Back at six", content_type = "text/html", retry_after = "90s" } },
               { path = "/plain", respond = { status = 200, body = "so" }, response_headers = { set = { x-a = "b" } } },
               { path = "/gone", respond = { status = 410 } }"#,
        )
        .await;
        let reply = routed.gateway.get("/shop/x").await;
        assert_eq!((reply.status(), &*reply.text()), (503, "<p>Back at six"));
        assert_eq!(reply.header("content-type").as_deref(), Some("text/html"));
        assert_eq!(reply.header("retry-after").as_deref(), Some("90"));
        let reply = routed.gateway.get("/plain").await;
        assert_eq!((reply.status(), &*reply.text()), (200, "so"));
        assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("x-a").as_deref(), Some("b"));
        assert!(!routed.gateway.get("/gone").await.problem(410).is_empty());
    }
}
