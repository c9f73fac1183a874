use orchestrator_policy::RequestBuilder;

use super::*;

const SERVICES: [&str; 3] = ["writer", "research", "backend"];

fn configure(config: &str) -> Result<Routing, Vec<ConfigError>> {
    Routing::configure(&Setup::builder().config(config).services(SERVICES).build())
}

/// A policy with these routes, each a JSON object.
fn policy(routes: &[&str]) -> Routing {
    configure(&format!(r#"{{"routes": [{}]}}"#, routes.join(", "))).expect("valid routes")
}

fn get(path: &str) -> RequestBuilder {
    Request::builder().path(path)
}

/// The name of the route that takes the request; `-` for none, the `Allow` of a 405.
fn taken_by(policy: &Routing, request: RequestBuilder) -> String {
    use orchestrator_policy::Action;
    let request = request.build();
    let decision = policy.route(&request);
    match decision.action {
        Action::Forward(_) => decision.route_name.expect("a name").into_owned(),
        Action::Decline => "-".to_owned(),
        Action::Respond(405) => {
            let allow = decision.response_headers[0].value.as_deref().expect("a value");
            format!("405 {}", String::from_utf8_lossy(allow))
        }
        other => panic!("{other:?}"),
    }
}

const DEFAULT: [&str; 3] = [
    r#"{"path_prefix": "/api/enrich", "service": "research"}"#,
    r#"{"path_prefix": "/api/publish", "rewrite_prefix": "/publish", "service": "backend"}"#,
    r#"{"path_prefix": "/api/writer", "rewrite_prefix": "/", "service": "writer"}"#,
];

#[test]
fn the_default_routes_lead_to_their_services_under_the_paths_they_serve() {
    let policy = policy(&DEFAULT);
    let to = |service, name| Decision::forward(service).route_name(name);
    for (path, decision) in [
        ("/api/enrich", to("research", "/api/enrich")),
        ("/api/enrich/x", to("research", "/api/enrich")),
        ("/api/publish", to("backend", "/api/publish").path("/publish")),
        ("/api/publish/", to("backend", "/api/publish").path("/publish/")),
        ("/api/publish/x/y", to("backend", "/api/publish").path("/publish/x/y")),
        ("/api/writer", to("writer", "/api/writer").path("/")),
        ("/api/writer/", to("writer", "/api/writer").path("/")),
        ("/api/writer/x", to("writer", "/api/writer").path("/x")),
        ("/api/writers", Decision::decline()),
        ("/api", Decision::decline()),
        ("/", Decision::decline()),
        ("*", Decision::decline()),
    ] {
        assert_eq!(policy.route(&get(path).build()), decision, "{path}");
    }
}

#[test]
fn a_prefix_ends_on_a_segment_boundary() {
    for prefix in ["/api", "/api/"] {
        let policy = policy(&[&format!(
            r#"{{"name": "api", "path_prefix": "{prefix}", "service": "writer"}}"#
        )]);
        for (path, route) in [
            ("/api", "api"),
            ("/api/", "api"),
            ("/api/x", "api"),
            ("/api//x", "api"),
            ("/apix", "-"),
            ("/ap", "-"),
            ("/API", "-"),
            ("/x/api", "-"),
        ] {
            assert_eq!(taken_by(&policy, get(path)), route, "{path} with {prefix}");
        }
    }
}

#[test]
fn the_root_prefix_takes_every_path() {
    let policy = policy(&[r#"{"path_prefix": "/", "service": "writer"}"#]);
    for (path, route) in [("/", "/"), ("/x", "/"), ("/x/y/", "/"), ("//", "/"), ("*", "-")] {
        assert_eq!(taken_by(&policy, get(path)), route, "{path}");
    }
}

#[test]
fn an_exact_path_takes_itself_only() {
    let policy = policy(&[
        r#"{"path": "/a", "service": "writer"}"#,
        r#"{"path": "/b/", "service": "writer"}"#,
        r#"{"path": "/", "service": "writer"}"#,
    ]);
    for (path, route) in [
        ("/a", "/a"),
        ("/a/", "-"),
        ("/a/x", "-"),
        ("/b/", "/b/"),
        ("/b", "-"),
        ("/", "/"),
        ("//", "-"),
        ("/x", "-"),
    ] {
        assert_eq!(taken_by(&policy, get(path)), route, "{path}");
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order_of_the_list() {
    let mut routes = [
        r#"{"name": "all", "path_prefix": "/", "service": "writer"}"#,
        r#"{"name": "short", "path_prefix": "/a", "service": "writer"}"#,
        r#"{"name": "long", "path_prefix": "/a/b", "service": "writer"}"#,
        r#"{"name": "exact", "path": "/a/b", "service": "writer"}"#,
    ];
    for _ in 0..2 {
        let policy = policy(&routes);
        for (path, route) in [
            ("/a/b", "exact"),
            ("/a/b/c", "long"),
            ("/a/b/", "long"),
            ("/a/bc", "short"),
            ("/a", "short"),
            ("/b", "all"),
        ] {
            assert_eq!(taken_by(&policy, get(path)), route, "{path}");
        }
        routes.reverse();
    }
}

#[test]
fn a_host_matches_whatever_its_case_and_port() {
    let policy = policy(&[r#"{"path_prefix": "/", "host": "Example.org", "service": "writer"}"#]);
    for (authority, route) in [
        ("example.org", "/"),
        ("EXAMPLE.org:8003", "/"),
        ("example.org.:80", "/"),
        ("example.org:", "/"),
        ("www.example.org", "-"),
        ("example.org.evil.net", "-"),
        ("example", "-"),
        ("", "-"),
    ] {
        assert_eq!(taken_by(&policy, get("/").authority(authority)), route, "{authority:?}");
    }
}

#[test]
fn an_address_in_brackets_is_a_host() {
    let policy = policy(&[r#"{"path_prefix": "/", "host": "[::1]", "service": "writer"}"#]);
    for (authority, route) in [("[::1]", "/"), ("[::1]:8003", "/"), ("[::2]", "-")] {
        assert_eq!(taken_by(&policy, get("/").authority(authority)), route, "{authority}");
    }
}

#[test]
fn a_route_for_the_host_comes_before_one_for_any_host() {
    let policy = policy(&[
        r#"{"name": "any", "path_prefix": "/a", "service": "writer"}"#,
        r#"{"name": "org", "path_prefix": "/a", "host": "a.org", "service": "writer"}"#,
    ]);
    assert_eq!(taken_by(&policy, get("/a").authority("a.org")), "org");
    assert_eq!(taken_by(&policy, get("/a").authority("b.org")), "any");
}

#[test]
fn a_path_that_is_for_other_hosts_is_passed_over() {
    let policy = policy(&[
        r#"{"name": "other", "path": "/a/b", "host": "b.org", "methods": ["PUT"], "service": "writer"}"#,
        r#"{"name": "long", "path_prefix": "/a/b", "host": "b.org", "service": "writer"}"#,
        r#"{"name": "short", "path_prefix": "/a", "host": "a.org", "service": "writer"}"#,
    ]);
    assert_eq!(taken_by(&policy, get("/a/b").authority("a.org")), "short");
    assert_eq!(taken_by(&policy, get("/a/b").authority("c.org")), "-");
}

#[test]
fn a_longer_path_comes_before_a_host() {
    let policy = policy(&[
        r#"{"name": "host", "path_prefix": "/a", "host": "a.org", "service": "writer"}"#,
        r#"{"name": "path", "path_prefix": "/a/b", "service": "writer"}"#,
    ]);
    assert_eq!(taken_by(&policy, get("/a/b").authority("a.org")), "path");
}

#[test]
fn routes_of_one_path_share_it_by_method() {
    let policy = policy(&[
        r#"{"name": "read", "path": "/a", "methods": ["GET"], "service": "writer"}"#,
        r#"{"name": "write", "path": "/a", "methods": ["PUT", "GET"], "service": "writer"}"#,
    ]);
    for (method, route) in [
        ("GET", "read"),
        ("HEAD", "read"),
        ("PUT", "write"),
        ("DELETE", "405 GET, HEAD, PUT"),
        ("get", "405 GET, HEAD, PUT"),
    ] {
        assert_eq!(taken_by(&policy, get("/a").method(method)), route, "{method}");
    }
}

#[test]
fn a_method_that_the_path_does_not_take_does_not_fall_through() {
    let policy = policy(&[
        r#"{"path_prefix": "/", "service": "writer"}"#,
        r#"{"path_prefix": "/a", "methods": ["POST"], "service": "writer"}"#,
    ]);
    let request = get("/a/x").build();
    assert_eq!(
        policy.route(&request),
        Decision::respond(405).response_header("allow", "POST").route_name("/a")
    );
}

#[test]
fn allow_lists_the_methods_for_the_requests_host_only() {
    let policy = policy(&[
        r#"{"path": "/a", "host": "a.org", "methods": ["PUT"], "service": "writer"}"#,
        r#"{"path": "/a", "host": "b.org", "methods": ["PATCH"], "service": "writer"}"#,
        r#"{"path": "/a", "methods": ["POST"], "service": "writer"}"#,
    ]);
    assert_eq!(taken_by(&policy, get("/a").authority("a.org")), "405 PUT, POST");
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
    ] {
        let policy = policy(&[&format!(
            r#"{{"name": "r", "path_prefix": "{prefix}", "rewrite_prefix": "{rewrite}", "service": "writer"}}"#
        )]);
        let request = get(path).build();
        let decision = Decision::forward("writer").route_name("r").path(rewritten);
        assert_eq!(policy.route(&request), decision, "{prefix} -> {rewrite}");
    }
}

#[test]
fn a_rewrite_replaces_the_whole_of_an_exact_path() {
    let policy = policy(&[r#"{"path": "/old", "rewrite_prefix": "/v2/new", "service": "writer"}"#]);
    let request = get("/old").query("q=1").build();
    assert_eq!(
        policy.route(&request),
        Decision::forward("writer").route_name("/old").path("/v2/new")
    );
}

#[test]
fn the_default_name_is_the_path_as_far_as_the_gateway_takes_it() {
    let long = format!("/{}", "x".repeat(100));
    let policy = policy(&[&format!(r#"{{"path": "{long}", "service": "writer"}}"#)]);
    assert_eq!(taken_by(&policy, get(&long)), long[..64]);
}

#[test]
fn no_routes_decline_everything() {
    assert_eq!(taken_by(&policy(&[]), get("/")), "-");
}

#[test]
fn many_routes_are_told_apart() {
    let routes: Vec<_> = (0..10_000)
        .map(|n| format!(r#"{{"path_prefix": "/t{}/r{n}", "service": "writer"}}"#, n % 100))
        .collect();
    let policy = policy(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(taken_by(&policy, get("/t99/r9999/x")), "/t99/r9999");
    assert_eq!(taken_by(&policy, get("/t98/r9999/x")), "-");
}

#[test]
fn a_long_path_is_walked_no_deeper_than_the_routes_go() {
    let policy = policy(&[r#"{"path_prefix": "/a", "service": "writer"}"#]);
    assert_eq!(taken_by(&policy, get(&"/a".repeat(100_000))), "/a");
}

#[test]
fn what_is_wrong_with_a_route_is_told_with_its_place() {
    for (route, pointer, message, suggestion) in [
        (r#"7"#, "", "expected a table, found a number", None),
        (
            r#"{"path": "/a", "servce": "writer", "service": "writer"}"#,
            "/servce#",
            "`servce` is not known here",
            Some("did you mean `service`?"),
        ),
        (r#"{"path": "/a"}"#, "", "`service` is missing", None),
        (
            r#"{"path": "/a", "service": "writre"}"#,
            "/service",
            "`writre` is not a service",
            Some("did you mean `writer`?"),
        ),
        (
            r#"{"path": "/a", "service": "nowhere"}"#,
            "/service",
            "`nowhere` is not a service",
            Some("there is `writer`, `research`, `backend`"),
        ),
        (
            r#"{"path": "/a", "service": ["writer"]}"#,
            "/service",
            "expected text, found a list",
            None,
        ),
        (
            r#"{"service": "writer"}"#,
            "",
            "neither `path` nor `path_prefix`",
            Some(r#"add one of the two; `"path_prefix": "/"` takes every path"#),
        ),
        (
            r#"{"path": "/a", "path_prefix": "/a", "service": "writer"}"#,
            "",
            "both `path` and `path_prefix`",
            Some("keep one of the two"),
        ),
        (
            r#"{"path": "a", "service": "writer"}"#,
            "/path",
            "a path begins with `/`",
            Some(r#"write "/a""#),
        ),
        (
            r#"{"path_prefix": "/a?b=c", "service": "writer"}"#,
            "/path_prefix",
            "a route has no query and no fragment",
            Some(r#"write "/a""#),
        ),
        (
            r#"{"path": "/a//b", "service": "writer"}"#,
            "/path",
            "a path has no empty segment: `//`",
            None,
        ),
        (
            r#"{"path": "/a/../b", "service": "writer"}"#,
            "/path",
            "a path has no segment `.` or `..`",
            None,
        ),
        (
            r#"{"path": "/é", "service": "writer"}"#,
            "/path",
            "'é' cannot stand in a path",
            Some("percent-encode it: paths are compared as sent"),
        ),
        (
            r#"{"path": "/a", "rewrite_prefix": "b", "service": "writer"}"#,
            "/rewrite_prefix",
            "a path begins with `/`",
            Some(r#"write "/b""#),
        ),
        (
            r#"{"path": "/a", "methods": ["GET", "P T"], "service": "writer"}"#,
            "/methods/1",
            "`P T` is not a method",
            None,
        ),
        (
            r#"{"path": "/a", "methods": ["get"], "service": "writer"}"#,
            "/methods/0",
            "methods are case-sensitive",
            Some(r#"write "GET""#),
        ),
        (
            r#"{"path": "/a", "methods": [], "service": "writer"}"#,
            "/methods",
            "an empty list takes no method",
            Some("leave `methods` out to take any"),
        ),
        (
            r#"{"path": "/a", "methods": "GET", "service": "writer"}"#,
            "/methods",
            "expected a list, found text",
            None,
        ),
        (
            r#"{"path": "/a", "host": "a.org:80", "service": "writer"}"#,
            "/host",
            "ports are not compared",
            Some(r#"write "a.org""#),
        ),
        (
            r#"{"path": "/a", "host": "*.a.org", "service": "writer"}"#,
            "/host",
            "a host is exact, without `*`",
            Some("one route for each host"),
        ),
        (
            r#"{"path": "/a", "host": "http://a.org", "service": "writer"}"#,
            "/host",
            "`http://a.org` is not a host",
            Some(r#"a name or an address alone, in ASCII: "example.org""#),
        ),
        (
            r#"{"path": "/a", "host": "", "service": "writer"}"#,
            "/host",
            "a host has a name",
            Some("leave `host` out to take any host"),
        ),
        (
            r#"{"path": "/a", "name": "", "service": "writer"}"#,
            "/name",
            "a name has 1 to 64 bytes, this has 0",
            None,
        ),
        (
            r#"{"path": "/a", "name": "a\nb", "service": "writer"}"#,
            "/name",
            "a name has no control characters",
            None,
        ),
    ] {
        let errors = configure(&format!(r#"{{"routes": [{route}]}}"#)).expect_err(route);
        let mut expected = ConfigError::new(format!("/routes/0{pointer}"), message);
        expected.suggestion = suggestion.map(str::to_owned);
        assert_eq!(errors, [expected], "{route}");
    }
}

#[test]
fn what_is_wrong_with_the_whole_is_told() {
    for (config, pointer, message) in [
        ("{}", "", "`routes` is missing"),
        (r#"{"routes": {}}"#, "/routes", "expected a list, found a table"),
        (r#"{"routes": [], "route": []}"#, "/route#", "`route` is not known here"),
    ] {
        let errors = configure(config).expect_err(config);
        assert_eq!(errors.len(), 1, "{config}");
        assert_eq!((&*errors[0].pointer, &*errors[0].message), (pointer, message));
    }
}

#[test]
fn a_route_that_no_request_reaches_is_an_error() {
    for (earlier, later, unreachable) in [
        (r#""path": "/a""#, r#""path": "/a""#, true),
        (r#""path_prefix": "/a""#, r#""path_prefix": "/a/""#, true),
        (r#""path": "/a""#, r#""path": "/a", "methods": ["GET"]"#, true),
        (r#""path": "/a", "methods": ["GET"]"#, r#""path": "/a", "methods": ["HEAD"]"#, true),
        (r#""path": "/a", "host": "A.org""#, r#""path": "/a", "host": "a.ORG""#, true),
        (r#""path": "/a""#, r#""path_prefix": "/a""#, false),
        (r#""path": "/a", "methods": ["GET"]"#, r#""path": "/a""#, false),
        (r#""path": "/a", "methods": ["GET"]"#, r#""path": "/a", "methods": ["PUT"]"#, false),
        (r#""path": "/a""#, r#""path": "/a", "host": "a.org""#, false),
    ] {
        let config = format!(
            r#"{{"routes": [{{{earlier}, "service": "writer"}}, {{{later}, "service": "writer"}}]}}"#
        );
        let errors = configure(&config).err().unwrap_or_default();
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        let expected: &[&str] = if unreachable { &["/routes/1"] } else { &[] };
        assert_eq!(pointers, expected, "{config}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let errors = configure(
        r#"{"routes": [
            {"path": "a", "service": "x", "host": 1, "methods": [2], "name": 3, "rewrite_prefix": 4, "?": 5},
            {"path": "/b", "service": "writer"},
            {"path": "/b", "service": "writer"}
        ]}"#,
    )
    .expect_err("an invalid configuration");
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/routes/0/?#",
            "/routes/0/path",
            "/routes/0/service",
            "/routes/0/name",
            "/routes/0/host",
            "/routes/0/methods/0",
            "/routes/0/rewrite_prefix",
            "/routes/2",
        ]
    );
}
