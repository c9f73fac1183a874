use super::*;

const DEFAULT: [&str; 3] = [
    r#""path_prefix": "/api/enrich", "service": "research""#,
    r#""path_prefix": "/api/publish", "rewrite_prefix": "/publish", "service": "backend""#,
    r#""path_prefix": "/api/writer", "rewrite_prefix": "/", "service": "writer""#,
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
        let policy = policy(&[&format!(r#""name": "api", "path_prefix": "{prefix}""#)]);
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
    let policy = policy(&[r#""path_prefix": "/""#]);
    for (path, route) in [("/", "/"), ("/x", "/"), ("/x/y/", "/"), ("//", "/"), ("*", "-")] {
        assert_eq!(taken_by(&policy, get(path)), route, "{path}");
    }
}

#[test]
fn an_exact_path_takes_itself_only() {
    let policy = policy(&[r#""path": "/a""#, r#""path": "/b/""#, r#""path": "/""#]);
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
fn braces_take_one_segment_that_is_not_empty() {
    let policy = policy(&[
        r#""path": "/users/{id}""#,
        r#""path": "/users/{id}/orders/{order}""#,
        r#""path_prefix": "/teams/{team}/api/""#,
    ]);
    for (path, route) in [
        ("/users/7", "/users/{id}"),
        ("/users/%2F", "/users/{id}"),
        ("/users/", "-"),
        ("/users", "-"),
        ("/users/7/", "-"),
        ("/users/7/orders", "-"),
        ("/users/7/orders/8", "/users/{id}/orders/{order}"),
        ("/users//orders/8", "-"),
        ("/teams/a/api", "/teams/{team}/api/"),
        ("/teams/a/api/x/y", "/teams/{team}/api/"),
        ("/teams/a/apis", "-"),
        ("/teams//api", "-"),
        ("/teams/a/b/api", "-"),
    ] {
        assert_eq!(taken_by(&policy, get(path)), route, "{path}");
    }
}

/// Both orders of the list give the same.
fn in_any_order(routes: &[&str], cases: &[(&str, &str)]) {
    let mut routes = routes.to_vec();
    for _ in 0..2 {
        let policy = policy(&routes);
        for (path, route) in cases {
            assert_eq!(taken_by(&policy, get(path)), *route, "{path}");
        }
        routes.reverse();
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order_of_the_list() {
    in_any_order(
        &[
            r#""name": "all", "path_prefix": "/""#,
            r#""name": "short", "path_prefix": "/a""#,
            r#""name": "long", "path_prefix": "/a/b""#,
            r#""name": "exact", "path": "/a/b""#,
        ],
        &[
            ("/a/b", "exact"),
            ("/a/b/c", "long"),
            ("/a/b/", "long"),
            ("/a/bc", "short"),
            ("/a", "short"),
            ("/b", "all"),
        ],
    );
}

#[test]
fn a_path_with_braces_stands_between_an_exact_one_and_a_prefix() {
    in_any_order(
        &[
            r#""name": "exact", "path": "/users/me""#,
            r#""name": "braces", "path": "/users/{id}""#,
            r#""name": "prefix", "path_prefix": "/users/me""#,
            r#""name": "short", "path_prefix": "/users""#,
        ],
        &[
            ("/users/me", "exact"),
            ("/users/you", "braces"),
            ("/users/me/x", "prefix"),
            ("/users/you/x", "short"),
        ],
    );
}

#[test]
fn fewer_braces_come_first_and_then_later_ones() {
    in_any_order(
        &[
            r#""name": "x--", "path": "/a/{b}/{c}""#,
            r#""name": "-xx", "path": "/{a}/b/c""#,
            r#""name": "-x-", "path": "/{a}/b/{c}""#,
            r#""name": "--x", "path": "/{a}/{b}/c""#,
        ],
        &[
            ("/a/b/c", "-xx"),
            ("/a/x/c", "x--"),
            ("/a/b/x", "x--"),
            ("/x/b/x", "-x-"),
            ("/x/x/c", "--x"),
            ("/x/x/x", "-"),
        ],
    );
}

#[test]
fn a_longer_prefix_comes_before_one_with_fewer_braces() {
    in_any_order(
        &[
            r#""name": "plain", "path_prefix": "/a/b""#,
            r#""name": "long", "path_prefix": "/{x}/b/c""#,
            r#""name": "braces", "path_prefix": "/a/{y}""#,
        ],
        &[("/a/b/c", "long"), ("/a/b/d", "plain"), ("/a/c/d", "braces"), ("/b/b/d", "-")],
    );
}

#[test]
fn a_host_matches_whatever_its_case_and_port() {
    let policy = policy(&[r#""path_prefix": "/", "host": "Example.org""#]);
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
    let policy = policy(&[r#""path_prefix": "/", "host": "[::1]""#]);
    for (authority, route) in [("[::1]", "/"), ("[::1]:8003", "/"), ("[::2]", "-")] {
        assert_eq!(taken_by(&policy, get("/").authority(authority)), route, "{authority}");
    }
}

#[test]
fn a_star_stands_for_the_first_labels_of_a_host_and_the_longest_name_decides() {
    let policy = policy(&[
        r#""name": "any", "path_prefix": "/""#,
        r#""name": "*.org", "path_prefix": "/", "host": "*.ORG""#,
        r#""name": "*.a.org", "path_prefix": "/", "host": "*.a.org""#,
        r#""name": "b.a.org", "path_prefix": "/", "host": "b.a.org""#,
    ]);
    for (authority, route) in [
        ("b.a.org", "b.a.org"),
        ("c.a.org", "*.a.org"),
        ("C.A.ORG:80", "*.a.org"),
        ("x.b.a.org", "*.a.org"),
        ("a.org", "*.org"),
        ("org", "any"),
        ("xa.org", "*.org"),
        ("a.net", "any"),
        ("", "any"),
        (&format!("{}.a.org", "x.".repeat(200)), "any"),
    ] {
        assert_eq!(taken_by(&policy, get("/").authority(authority)), route, "{authority}");
    }
}

#[test]
fn a_host_comes_before_a_path() {
    in_any_order_for_hosts(
        &[
            r#""name": "host", "path_prefix": "/a", "host": "a.org""#,
            r#""name": "star", "path_prefix": "/a/b/c", "host": "*.org""#,
            r#""name": "any", "path": "/a/b""#,
        ],
        &[
            ("a.org", "/a/b", "host"),
            ("b.org", "/a/b", "any"),
            ("b.org", "/a/b/c", "star"),
            ("a.org", "/a/b/c", "host"),
            ("a.org", "/b", "-"),
        ],
    );
}

fn in_any_order_for_hosts(routes: &[&str], cases: &[(&str, &str, &str)]) {
    let mut routes = routes.to_vec();
    for _ in 0..2 {
        let policy = policy(&routes);
        for (host, path, route) in cases {
            let request = get(path).authority(*host);
            assert_eq!(taken_by(&policy, request), *route, "{path} of {host}");
        }
        routes.reverse();
    }
}

#[test]
fn a_path_that_is_for_other_hosts_is_passed_over() {
    let policy = policy(&[
        r#""name": "other", "path": "/a/b", "host": "b.org", "methods": ["PUT"]"#,
        r#""name": "long", "path_prefix": "/a/b", "host": "b.org""#,
        r#""name": "short", "path_prefix": "/a", "host": "a.org""#,
    ]);
    assert_eq!(taken_by(&policy, get("/a/b").authority("a.org")), "short");
    assert_eq!(taken_by(&policy, get("/a/b").authority("c.org")), "-");
}

#[test]
fn routes_of_one_path_share_it_by_method() {
    let policy = policy(&[
        r#""name": "rest", "path": "/b""#,
        r#""name": "get", "path": "/b", "methods": ["GET"]"#,
        r#""name": "read", "path": "/a", "methods": ["GET"]"#,
        r#""name": "write", "path": "/a", "methods": ["PUT", "GET", "BREW"]"#,
    ]);
    for (method, path, route) in [
        ("GET", "/a", "read"),
        ("HEAD", "/a", "read"),
        ("PUT", "/a", "write"),
        ("BREW", "/a", "write"),
        ("DELETE", "/a", "405 GET, HEAD, PUT, BREW"),
        ("get", "/a", "405 GET, HEAD, PUT, BREW"),
        ("GET", "/b", "get"),
        ("POST", "/b", "rest"),
    ] {
        assert_eq!(taken_by(&policy, get(path).method(method)), route, "{method} {path}");
    }
}

#[test]
fn a_method_that_the_path_does_not_take_does_not_fall_through() {
    let policy = policy(&[
        r#""path_prefix": "/""#,
        r#""path_prefix": "/a", "methods": ["POST"]"#,
        r#""name": "braces", "path": "/b/{x}", "methods": ["POST"]"#,
        r#""path_prefix": "/b""#,
    ]);
    let refused = Decision::respond(405).response_header("allow", "POST");
    assert_eq!(policy.route(&get("/a/x").build()), refused.clone().route_name("/a"));
    assert_eq!(policy.route(&get("/b/x").build()), refused.route_name("braces"));
}

#[test]
fn a_method_may_be_taken_by_the_same_path_of_a_less_specific_host() {
    let policy = policy(&[
        r#""name": "put", "path": "/a", "host": "a.org", "methods": ["PUT"]"#,
        r#""name": "patch", "path": "/a", "host": "b.org", "methods": ["PATCH"]"#,
        r#""name": "post", "path": "/a", "methods": ["POST"]"#,
        r#""name": "all", "path_prefix": "/""#,
    ]);
    for (method, route) in [("PUT", "put"), ("POST", "post"), ("GET", "405 PUT, POST")] {
        let request = get("/a").authority("a.org").method(method);
        assert_eq!(taken_by(&policy, request), route, "{method}");
    }
}

#[test]
fn only_routes_whose_conditions_hold_refuse_a_method() {
    let policy = policy(&[
        r#""name": "acme", "path": "/a", "methods": ["PUT"], "headers": {"x-tenant": "acme"}"#,
        r#""name": "all", "path_prefix": "/""#,
    ]);
    assert_eq!(taken_by(&policy, get("/a")), "all");
    assert_eq!(taken_by(&policy, get("/a").header("x-tenant", "acme")), "405 PUT");
}

#[test]
fn the_default_name_is_the_path_as_far_as_the_gateway_takes_it() {
    let long = format!("/{}", "x".repeat(100));
    let policy = policy(&[&format!(r#""path": "{long}""#)]);
    assert_eq!(taken_by(&policy, get(&long)), long[..64]);
}

#[test]
fn no_routes_decline_everything() {
    assert_eq!(taken_by(&policy(&[]), get("/")), "-");
}

#[test]
fn many_routes_are_told_apart() {
    let paths = (0..2_500).map(|n| format!(r#""path_prefix": "/t{}/r{n}""#, n % 100));
    let hosts = (0..2_500).map(|n| format!(r#""path": "/x", "host": "h{n}.org", "name": "h{n}""#));
    let below =
        (0..2_500).map(|n| format!(r#""path": "/x", "host": "*.b{n}.org", "name": "b{n}""#));
    let tenants =
        (0..2_500).map(|n| format!(r#""path": "/t", "headers": {{"x-t": "{n}"}}, "name": "t{n}""#));
    let routes: Vec<_> = paths.chain(hosts).chain(below).chain(tenants).collect();
    let policy = policy(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(taken_by(&policy, get("/t99/r2499/x")), "/t99/r2499");
    assert_eq!(taken_by(&policy, get("/t98/r2499/x")), "-");
    assert_eq!(taken_by(&policy, get("/x").authority("h2499.org")), "h2499");
    assert_eq!(taken_by(&policy, get("/x").authority("a.b2499.org")), "b2499");
    assert_eq!(taken_by(&policy, get("/t").header("x-t", "2499")), "t2499");
    assert_eq!(taken_by(&policy, get("/t").header("x-t", "2500")), "-");
}

#[test]
fn a_long_path_is_walked_no_deeper_than_the_routes_go() {
    let policy = policy(&[r#""path_prefix": "/a""#]);
    assert_eq!(taken_by(&policy, get(&"/a".repeat(100_000))), "/a");
}
