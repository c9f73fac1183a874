use super::*;

/// What is wrong with one route, `{…}`: where in it, in which words, and what to write instead.
fn check(route: &str, pointer: &str, message: &str, suggestion: Option<&str>) {
    let errors = configure(&format!(r#"{{"routes": [{route}]}}"#)).expect_err(route);
    let found: Vec<_> = errors
        .iter()
        .map(|error| {
            let pointer = error.pointer.strip_prefix("/routes/0").expect("within the route");
            (pointer, &*error.message, error.suggestion.as_deref())
        })
        .collect();
    assert_eq!(found, [(pointer, message, suggestion)], "{route}");
}

#[test]
fn errors_name_the_route_and_the_field() {
    for (route, pointer, message) in [
        (
            r#"{"path": "/a", "service": 1}"#,
            "/service",
            "route 1 (`/a`), `service`: expected text, found a number",
        ),
        (
            r#"{"name": "all", "path_prefix": "/a", "service": 1}"#,
            "/service",
            "route `all`, `service`: expected text, found a number",
        ),
        (
            r#"{"path_prefix": "/a", "services": [{"service": "writer"}, {"service": 1}]}"#,
            "/services/1/service",
            "route 1 (`/a`), `services[1].service`: expected text, found a number",
        ),
        (
            r#"{"path": "/a", "headers": {"x/y~": "", "a": 1}, "service": "writer"}"#,
            "/headers/x~1y~0",
            "route 1 (`/a`), `headers.x/y~`: `x/y~` is not the name of a header",
        ),
        (r#"{"name": 1}"#, "/name", "route 1, `name`: expected text, found a number"),
        (r#"7"#, "", "route 1: expected a table, found a number"),
    ] {
        let errors = configure(&format!(r#"{{"routes": [{route}]}}"#)).expect_err(route);
        let found: Vec<_> = errors.iter().map(|it| (&*it.pointer, &*it.message)).collect();
        let pointer = format!("/routes/0{pointer}");
        assert!(found.contains(&(&*pointer, message)), "{found:?}");
    }
    let config = r#"{"routes": [{"path": "/a", "service": "writer"}, {"path": "b"}]}"#;
    let errors = configure(config).expect_err(config);
    assert_eq!(errors[0].message, "route 2 (`b`), `path`: a path begins with `/`");
}

#[test]
fn names_hosts_and_paths() {
    for (fields, pointer, message, suggestion) in [
        (r#""name": "", "path": "/a""#, "/name", "a name has 1 to 64 bytes, this has 0", None),
        (r#""name": "\n", "path": "/a""#, "/name", "a name has no control characters", None),
        (
            r#""service": "writer""#,
            "",
            "neither `path` nor `path_prefix`",
            Some(r#"add one of the two; `path_prefix = "/"` takes every path"#),
        ),
        (
            r#""path": "/a", "path_prefix": "/a""#,
            "",
            "both `path` and `path_prefix`",
            Some("keep one of the two"),
        ),
        (r#""path": "a""#, "/path", "a path begins with `/`", Some(r#"write "/a""#)),
        (
            r#""path_prefix": "/a?b=c""#,
            "/path_prefix",
            "a path has no query and no fragment here",
            Some(r#"write "/a""#),
        ),
        (r#""path": "/a//b""#, "/path", "a path has no empty segment: `//`", None),
        (r#""path": "/a/../b""#, "/path", "a path has no segment `.` or `..`", None),
        (
            r#""path": "/caf%c3%A9""#,
            "/path",
            "no request comes here with `%c3`: the gateway spells it `%C3`",
            Some("write `%C3`"),
        ),
        (
            r#""path_prefix": "/a/%7euser""#,
            "/path_prefix",
            "no request comes here with `%7e`: the gateway spells it `~`",
            Some("write `~`"),
        ),
        (
            r#""path": "/100%""#,
            "/path",
            "a `%` has no two hexadecimal digits behind it",
            Some("write `%25` for the character itself"),
        ),
        (
            r#""path": "/a%5Cb""#,
            "/path",
            "`%5C` cannot stand in a path: the gateway refuses it",
            None,
        ),
        (
            r#""path": "/é""#,
            "/path",
            "'é' cannot stand in a path",
            Some("percent-encode it, with digits and letters in upper case"),
        ),
        (
            r#""path": "/a/{id}.json""#,
            "/path",
            "braces hold a name, and are a segment of their own",
            Some(r#"write them like "/users/{id}"; a name is of letters, digits and `_`"#),
        ),
        (r#""path": "/{a}/{a}""#, "/path", "`{a}` stands here twice", None),
        (
            r#""path": "/a", "host": "a.org:80""#,
            "/host",
            "ports are not compared",
            Some(r#"write "a.org""#),
        ),
        (
            r#""path": "/a", "host": "a.*.org""#,
            "/host",
            "`*` stands for the first labels of a host, whole ones",
            Some(r#"write it like "*.example.org", or write the name in full"#),
        ),
        (
            r#""path": "/a", "host": "*a.org""#,
            "/host",
            "`*` stands for the first labels of a host, whole ones",
            Some(r#"write it like "*.example.org", or write the name in full"#),
        ),
        (
            r#""path": "/a", "host": "*""#,
            "/host",
            "a host has a name",
            Some("leave `host` out to take any host"),
        ),
        (
            r#""path": "/a", "host": "http://a.org""#,
            "/host",
            "`http://a.org` is not a host",
            Some(r#"a name or an address alone, in ASCII: "example.org""#),
        ),
    ] {
        let route = match fields.contains("service") {
            true => format!("{{{fields}}}"),
            false => format!(r#"{{{fields}, "service": "writer"}}"#),
        };
        let field = pointer.strip_prefix('/').map_or(String::new(), |it| format!(", `{it}`"));
        let text = |field: &str| {
            let (_, rest) = fields.split_once(&format!(r#""{field}": ""#))?;
            rest.split('"').next().filter(|it| !it.is_empty() && *it != r"\n")
        };
        let path = text("path").or(text("path_prefix"));
        let path = path.map_or(String::new(), |path| format!(" (`{path}`)"));
        let message = match fields.contains(r#""name": "\n""#) {
            true => format!("route `\\n`{field}: {message}"),
            false => format!("route 1{path}{field}: {message}"),
        };
        check(&route, pointer, &message, suggestion);
    }
    let long = format!(r#"{{"path": "/{}", "service": "writer"}}"#, "a".repeat(2048));
    let errors = configure(&format!(r#"{{"routes": [{long}]}}"#)).expect_err("too long");
    assert!(errors[0].message.ends_with("a path has at most 2048 bytes"), "{errors:?}");
}

/// The rest of a route `a` whose path is `/{id}`.
fn check_rest(fields: &str, pointer: &str, message: &str, suggestion: Option<&str>) {
    let field = pointer.trim_end_matches('#').strip_prefix('/').map_or(String::new(), |it| {
        let mut parts = it.split('/');
        let mut field = format!(", `{}", parts.next().unwrap_or_default());
        for part in parts {
            match part.parse::<usize>() {
                Ok(_) => field.push_str(&format!("[{part}]")),
                Err(_) => field.push_str(&format!(".{part}")),
            }
        }
        field + "`"
    });
    let route = format!(r#"{{"name": "a", "path": "/{{id}}", {fields}}}"#);
    check(&route, pointer, &format!("route `a`{field}: {message}"), suggestion);
}

#[test]
fn methods_headers_parameters_and_states() {
    let one_way =
        "write text, or one of `{ present = true }`, `{ present = false }` and `{ regex = \"…\" }`";
    for (fields, pointer, message, suggestion) in [
        (r#""methods": ["GET", "P T"]"#, "/methods/1", "`P T` is not a method", None),
        (
            r#""methods": ["get"]"#,
            "/methods/0",
            "methods are case-sensitive",
            Some(r#"write "GET""#),
        ),
        (
            r#""methods": []"#,
            "/methods",
            "an empty list takes no method",
            Some("leave `methods` out to take any"),
        ),
        (r#""methods": "GET""#, "/methods", "expected a list, found text", None),
        (r#""headers": ["x"]"#, "/headers", "expected a table, found a list", None),
        (r#""headers": {"x y": "1"}"#, "/headers/x y", "`x y` is not the name of a header", None),
        (r#""headers": {"x": 1}"#, "/headers/x", "expected a table, found a number", None),
        (r#""headers": {"x": {}}"#, "/headers/x", "a value is asked for in one way", Some(one_way)),
        (
            r#""query": {"x": {"exact": "1", "present": true}}"#,
            "/query/x",
            "a value is asked for in one way",
            Some(one_way),
        ),
        (
            r#""query": {"x": {"regexp": "1"}}"#,
            "/query/x/regexp#",
            "`regexp` is not known here",
            Some("did you mean `regex`?"),
        ),
        (
            r#""when": {"writr": "open"}"#,
            "/when/writr",
            "`writr` is not a service",
            Some("did you mean `writer`?"),
        ),
        (
            r#""when": {"writer": "opne"}"#,
            "/when/writer",
            "`opne` is not a state of a service",
            Some("did you mean `open`?"),
        ),
    ] {
        check_rest(&format!(r#"{fields}, "service": "writer""#), pointer, message, suggestion);
    }
}

#[test]
fn patterns() {
    let errors = |pattern: &str| {
        let headers = format!(r#"{{"x": {{"regex": "{pattern}"}}}}"#);
        let route = format!(r#"{{"path": "/", "headers": {headers}, "service": "writer"}}"#);
        configure(&format!(r#"{{"routes": [{route}]}}"#)).err().unwrap_or_default()
    };
    for pattern in
        ["(", "a)|(b", "[z-a]", "a{2,1}", r"\\p{Foo}", &"(".repeat(100), &"x".repeat(257)]
    {
        let errors = errors(pattern);
        assert_eq!(errors.len(), 1, "{pattern}");
        assert_eq!(errors[0].pointer, "/routes/0/headers/x/regex");
        assert!(errors[0].message.contains("pattern"), "{}", errors[0].message);
    }
    // What would be too large once it is written out.
    let errors = errors("(((a{40}){40}){40}){40}");
    assert!(errors[0].message.contains("is not a pattern"), "{errors:?}");
}

#[test]
fn actions() {
    let missing = "add it, or one of `services`, `redirect` and `respond`";
    let one_key =
        "write one of `{ header = \"…\" }`, `{ cookie = \"…\" }` and `{ client_ip = true }`";
    let parts = "add `to`, or some of `scheme`, `host`, `port`, `path` and `prefix`";
    let place = "write a path, \"/new/{id}\", or an address, \"https://example.org/new/{id}\"";
    for (fields, pointer, message, suggestion) in [
        (r#""methods": ["GET"]"#, "", "`service` is missing", Some(missing)),
        (
            r#""service": "writer", "respond": {"status": 200}"#,
            "",
            "both `service` and `respond`",
            Some("keep one of the two"),
        ),
        (
            r#""service": "writre""#,
            "/service",
            "`writre` is not a service",
            Some("did you mean `writer`?"),
        ),
        (
            r#""service": "nowhere""#,
            "/service",
            "`nowhere` is not a service",
            Some("there is `writer`, `research`, `backend`"),
        ),
        (r#""service": ["writer"]"#, "/service", "expected text, found a list", None),
        (
            r#""service": "writer", "servce": 1"#,
            "/servce#",
            "`servce` is not known here",
            Some("did you mean `service`?"),
        ),
        (
            r#""services": [{"service": "writer", "weight": 0}]"#,
            "/services",
            "no service has a weight",
            Some("give one of them a `weight` above 0"),
        ),
        (
            r#""services": []"#,
            "/services",
            "no service has a weight",
            Some("give one of them a `weight` above 0"),
        ),
        (
            r#""services": [{"service": "writer", "weight": -1}]"#,
            "/services/0/weight",
            "expected a whole number from 0 to 1000000, found -1",
            None,
        ),
        (r#""services": [{"weight": 1}]"#, "/services/0", "`service` is missing", None),
        (
            r#""service": "writer", "sticky": {"cookie": "x"}"#,
            "/sticky",
            "`sticky` says nothing beside `service`",
            Some("remove it, or draw among `services`"),
        ),
        (
            r#""services": [{"service": "writer"}], "sticky": {}"#,
            "/sticky",
            "requests belong together in one way",
            Some(one_key),
        ),
        (
            r#""service": "writer", "affinity": {"client_ip": false}"#,
            "/affinity",
            "requests belong together in one way",
            Some(one_key),
        ),
        (
            r#""service": "writer", "affinity": {"cookie": "a b"}"#,
            "/affinity/cookie",
            "`a b` is not the name of a cookie",
            None,
        ),
        (
            r#""service": "writer", "fallback": "writer""#,
            "/fallback",
            "the service falls back to itself",
            None,
        ),
        (
            r#""service": "writer", "timeout": "0s""#,
            "/timeout",
            "no time at all",
            Some("leave it out for the gateway's own limit"),
        ),
        (
            r#""service": "writer", "rewrite": "/a", "rewrite_prefix": "/b""#,
            "",
            "both `rewrite` and `rewrite_prefix`",
            Some("keep one"),
        ),
        (
            r#""service": "writer", "rewrite": "b""#,
            "/rewrite",
            "a path begins with `/`",
            Some(r#"write "/b""#),
        ),
        (
            r#""service": "writer", "rewrite": "/{di}""#,
            "/rewrite",
            "`{di}` is not in the route's path",
            Some("the path has `{id}`"),
        ),
        (r#""service": "writer", "rewrite": "/a?{""#, "/rewrite", "a `{` has no `}`", None),
        (
            r#""service": "writer", "rewrite": "/a%b/c?d=%""#,
            "/rewrite",
            "a `%` has no two hexadecimal digits behind it",
            Some("write `%25` for the character itself"),
        ),
        (
            r#""service": "writer", "rewrite": "/a/%00""#,
            "/rewrite",
            "`%00` cannot stand in a path: the gateway refuses it",
            None,
        ),
        (
            r#""service": "writer", "rewrite": "/a?b c""#,
            "/rewrite",
            "' ' cannot stand here",
            Some("percent-encode it"),
        ),
        (
            r#""service": "writer", "rewrite_prefix": "/b""#,
            "/rewrite_prefix",
            "a `path` has no prefix to replace",
            Some("give the whole path instead"),
        ),
        (
            r#""respond": {"status": 200}, "timeout": "1s""#,
            "/timeout",
            "`timeout` says nothing beside `respond`",
            Some("remove it: nothing is forwarded"),
        ),
        (
            r#""respond": {"status": 100}"#,
            "/respond/status",
            "expected a whole number from 200 to 599, found 100",
            None,
        ),
        (r#""respond": {}"#, "/respond", "`status` is missing", None),
        (
            r#""respond": {"status": 204, "body": "x"}"#,
            "/respond/body",
            "a response 204 has no body (RFC 9110 section 6.4.1)",
            None,
        ),
        (
            r#""respond": {"status": 200, "content_type": "text/html"}"#,
            "/respond/content_type",
            "the type of no body",
            Some("add `body`"),
        ),
        (
            r#""respond": {"status": 200, "body": "x", "content_type": "a\r\nb"}"#,
            "/respond/content_type",
            "'\\r' cannot stand in a header's value",
            None,
        ),
        (r#""redirect": {}"#, "/redirect", "it leads nowhere", Some(parts)),
        (
            r#""redirect": {"to": "/a", "status": 304}"#,
            "/redirect/status",
            "304 is no redirect",
            Some("301, 302, 303, 307 or 308"),
        ),
        (
            r#""redirect": {"to": "/a", "host": "x.org"}"#,
            "/redirect",
            "both `to` and `host`",
            Some("`to` is the whole of it"),
        ),
        (
            r#""redirect": {"to": "ftp://x.org/"}"#,
            "/redirect/to",
            "`ftp://x.org/` is not a place to go to",
            Some(place),
        ),
        (
            r#""redirect": {"to": "https://u:p@x.org/"}"#,
            "/redirect/to",
            "`https://u:p@x.org/` is not a place to go to",
            Some(place),
        ),
        (
            r#""redirect": {"to": "//evil.org"}"#,
            "/redirect/to",
            "a path has no empty segment: `//`",
            None,
        ),
        (
            r#""redirect": {"to": "https://x.org/{x}"}"#,
            "/redirect/to",
            "`{x}` is not in the route's path",
            Some("the path has `{id}`"),
        ),
        (
            r#""redirect": {"prefix": "/x"}"#,
            "/redirect/prefix",
            "a `path` has no prefix to replace",
            Some("give the whole path instead"),
        ),
        (
            r#""redirect": {"scheme": "ftp"}"#,
            "/redirect/scheme",
            "`ftp` is not a scheme",
            Some("there is `http`, `https`"),
        ),
        (
            r#""redirect": {"host": "x.org:80"}"#,
            "/redirect/host",
            "`x.org:80` is not a host",
            Some("a name or an address alone: \"example.org\"; the port is a field of its own"),
        ),
    ] {
        check_rest(fields, pointer, message, suggestion);
    }
}

#[test]
fn headers_that_are_the_gateways_and_values_that_break_a_message() {
    let hint = "leave it out: what frames a message, what names the hops on its way, `host`, `date` and `x-request-id` are the gateway's to set";
    for name in ["Host", "connection", "Content-Length", "X-Forwarded-For", "x_real_ip", "Via"] {
        let message = format!("the header `{}` belongs to the gateway", name.to_lowercase());
        for field in ["request_headers", "response_headers"] {
            let set = format!(r#""service": "writer", "{field}": {{"set": {{"{name}": "x"}}}}"#);
            check_rest(&set, &format!("/{field}/set/{name}"), &message, Some(hint));
            let remove = format!(r#""service": "writer", "{field}": {{"remove": ["{name}"]}}"#);
            check_rest(&remove, &format!("/{field}/remove/0"), &message, Some(hint));
        }
    }
    for (edit, pointer, message) in [
        (r#"{"set": {"x": "a\r\nb"}}"#, "/set/x", "'\\r' cannot stand in a header's value"),
        (r#"{"set": {"x": "a\u0000"}}"#, "/set/x", "'\\0' cannot stand in a header's value"),
        (r#"{"set": {"x:": "a"}}"#, "/set/x:", "`x:` is not the name of a header"),
        (r#"{"remove": "x"}"#, "/remove", "expected a list, found text"),
        (r#"{"set": ["x"]}"#, "/set", "expected a table, found a list"),
    ] {
        let fields = format!(r#""service": "writer", "request_headers": {edit}"#);
        check_rest(&fields, &format!("/request_headers{pointer}"), message, None);
    }
}

#[test]
fn what_is_wrong_with_the_whole() {
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
fn a_route_that_no_request_reaches() {
    for (earlier, later, unreachable) in [
        (r#""path": "/a""#, r#""path": "/a""#, true),
        (r#""path_prefix": "/a""#, r#""path_prefix": "/a/""#, true),
        (r#""path": "/{a}""#, r#""path": "/{b}""#, true),
        (r#""path": "/a", "methods": ["GET"]"#, r#""path": "/a", "methods": ["HEAD"]"#, true),
        (r#""path": "/a", "host": "A.org""#, r#""path": "/a", "host": "a.ORG""#, true),
        (r#""path": "/a", "headers": {"X": "1"}"#, r#""path": "/a", "headers": {"x": "1"}"#, true),
        (
            r#""path": "/a", "query": {"x": "1", "y": "2"}"#,
            r#""path": "/a", "query": {"y": "2", "x": "1"}"#,
            true,
        ),
        (r#""path": "/a""#, r#""path_prefix": "/a""#, false),
        (r#""path": "/a""#, r#""path": "/a", "methods": ["GET"]"#, false),
        (r#""path": "/a", "methods": ["GET"]"#, r#""path": "/a""#, false),
        (r#""path": "/a", "methods": ["GET"]"#, r#""path": "/a", "methods": ["PUT"]"#, false),
        (r#""path": "/a""#, r#""path": "/a", "host": "a.org""#, false),
        (r#""path": "/a""#, r#""path": "/a", "headers": {"x": "1"}"#, false),
        (r#""path": "/a", "headers": {"x": "1"}"#, r#""path": "/a", "query": {"x": "1"}"#, false),
        (r#""path": "/a", "headers": {"x": "1"}"#, r#""path": "/a", "headers": {"x": "2"}"#, false),
        (r#""path": "/a", "when": {"writer": "open"}"#, r#""path": "/a""#, false),
    ] {
        let config = format!(
            r#"{{"routes": [{{{earlier}, "service": "writer"}}, {{{later}, "service": "writer"}}]}}"#
        );
        let errors = configure(&config).err().unwrap_or_default();
        let found: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        let expected: &[&str] = if unreachable { &["/routes/1"] } else { &[] };
        assert_eq!(found, expected, "{config}");
        for error in errors {
            assert!(error.message.contains("no request comes here: route 1 (`/"), "{error:?}");
        }
    }
}

#[test]
fn all_errors_at_once() {
    let errors = configure(
        r#"{"routes": [
            {"path": "a", "service": "x", "host": 1, "methods": [2], "name": 3, "rewrite": 4,
             "headers": 5, "timeout": 6, "request_headers": 7, "affinity": 8, "?": 9},
            {"path": "/b", "service": "writer"},
            {"path": "/b", "service": "writer"}
        ]}"#,
    )
    .expect_err("an invalid configuration");
    let mut pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/routes/0/?#",
            "/routes/0/affinity",
            "/routes/0/headers",
            "/routes/0/host",
            "/routes/0/methods/0",
            "/routes/0/name",
            "/routes/0/path",
            "/routes/0/request_headers",
            "/routes/0/rewrite",
            "/routes/0/service",
            "/routes/0/timeout",
            "/routes/2",
        ]
    );
}
