use super::*;

#[test]
fn a_header_has_this_value_is_there_is_absent_or_matches() {
    let policy = policy(&[
        r#""name": "exact", "path": "/exact", "headers": {"X-A": "one"}"#,
        r#""name": "table", "path": "/table", "headers": {"x-a": {"exact": "one"}}"#,
        r#""name": "present", "path": "/present", "headers": {"x-a": {"present": true}}"#,
        r#""name": "absent", "path": "/absent", "headers": {"x-a": {"present": false}}"#,
        r#""name": "regex", "path": "/regex", "headers": {"x-a": {"regex": "o(n|m)e|two"}}"#,
    ]);
    // What each makes of: no header, `one`, `One`, `xtwo`, an empty one, bytes that are not UTF-8,
    // and two values.
    for (name, expected) in [
        ("exact", [false, true, false, false, false, false, false]),
        ("table", [false, true, false, false, false, false, false]),
        ("present", [false, true, true, true, true, true, true]),
        ("absent", [true, false, false, false, false, false, false]),
        ("regex", [false, true, false, false, false, false, false]),
    ] {
        let path = format!("/{name}");
        let values: [&[&[u8]]; 7] =
            [&[], &[b"one"], &[b"One"], &[b"xtwo"], &[b""], &[b"one\xff"], &[b"one", b"two"]];
        for (values, expected) in values.iter().zip(expected) {
            let request = values.iter().fold(get(&path), |it, value| it.header("x-A", value));
            let expected = if expected { name } else { "-" };
            assert_eq!(taken_by(&policy, request), expected, "{name} with {values:?}");
        }
    }
}

#[test]
fn several_values_of_a_header_are_one_joined_by_commas() {
    let policy = policy(&[r#""path": "/", "headers": {"x-a": "one, two"}"#]);
    assert_eq!(taken_by(&policy, get("/").header("x-a", "one").header("x-a", "two")), "/");
}

#[test]
fn a_pattern_is_held_against_the_whole_value() {
    for (pattern, value, taken) in [
        ("a|b", "a", true),
        ("a|b", "b", true),
        ("a|b", "ab", false),
        ("b", "abc", false),
        (".*b.*", "abc", true),
        ("(?i)ABC", "abc", true),
        ("a.c", "a\nc", false),
        ("a", "a\n", false),
        ("", "", true),
        (r"\\d+", "42", true),
        ("é+", "éé", true),
        (".*", &"x".repeat(4096), true),
        (".*", &"x".repeat(4097), false),
    ] {
        let route = format!(r#""path": "/", "headers": {{"x-a": {{"regex": "{pattern}"}}}}"#);
        let request = get("/").header("x-a", value);
        let expected = if taken { "/" } else { "-" };
        assert_eq!(taken_by(&policy(&[&route]), request), expected, "{pattern} {value:?}");
    }
}

#[test]
fn a_parameter_is_compared_decoded() {
    let policy = policy(&[
        r#""name": "exact", "path": "/", "query": {"a b": "1&2"}"#,
        r#""name": "present", "path": "/p", "query": {"flag": {"present": true}}"#,
        r#""name": "absent", "path": "/n", "query": {"flag": {"present": false}}"#,
        r#""name": "regex", "path": "/r", "query": {"n": {"regex": "[0-9]+"}}"#,
    ]);
    for (path, query, route) in [
        ("/", Some("a+b=1%262"), "exact"),
        ("/", Some("x&a%20b=1%262&y"), "exact"),
        ("/", Some("a%20b=1&2"), "-"),
        ("/", Some("A+b=1%262"), "-"),
        ("/", Some("a+b=%ff"), "-"),
        ("/", None, "-"),
        ("/p", Some("flag"), "present"),
        ("/p", Some("flag="), "present"),
        ("/p", Some("flags=1"), "-"),
        ("/p", Some(""), "-"),
        ("/p", None, "-"),
        ("/n", Some("flag=1"), "-"),
        ("/n", Some("other"), "absent"),
        ("/n", None, "absent"),
        ("/r", Some("n=42"), "regex"),
        ("/r", Some("n=%342"), "regex"),
        ("/r", Some("n=x42"), "-"),
        // Of several with a name, the first counts.
        ("/r", Some("n=1&n=x"), "regex"),
        ("/r", Some("n=x&n=1"), "-"),
        // What is no encoding stays as it is.
        ("/r", Some("n=%4"), "-"),
        ("/r", Some("n=%zz&%=%"), "-"),
    ] {
        let request = query.into_iter().fold(get(path), RequestBuilder::query);
        assert_eq!(taken_by(&policy, request), route, "{path} {query:?}");
    }
}

#[test]
fn a_service_stands_in_a_state() {
    let state = |circuit, health| ServiceState { circuit, health };
    for (word, stands, taken) in [
        ("open", state(Circuit::Open, Health::Unhealthy), true),
        ("open", state(Circuit::HalfOpen, Health::Degraded), false),
        ("half_open", state(Circuit::HalfOpen, Health::Degraded), true),
        ("closed", state(Circuit::Closed, Health::Unhealthy), true),
        ("closed", state(Circuit::Open, Health::Unhealthy), false),
        ("healthy", state(Circuit::Closed, Health::Healthy), true),
        ("degraded", state(Circuit::Closed, Health::Degraded), true),
        ("unhealthy", state(Circuit::Closed, Health::Unhealthy), true),
        ("unhealthy", state(Circuit::Closed, Health::Unknown), false),
        ("unknown", state(Circuit::Closed, Health::Unknown), true),
    ] {
        let policy = policy(&[&format!(r#""path": "/", "when": {{"research": "{word}"}}"#)]);
        let request = get("/").service("writer", standing(Circuit::Closed));
        let expected = if taken { "/" } else { "-" };
        assert_eq!(taken_by(&policy, request.service("research", stands)), expected, "{word}");
    }
}

#[test]
fn all_conditions_have_to_hold() {
    let policy = policy(&[r#""path": "/", "headers": {"a": "1", "b": "2"}, "query": {"c": "3"}"#]);
    for (headers, query, taken) in [
        (["a", "b"].as_slice(), "c=3", true),
        (&["a"], "c=3", false),
        (&["b"], "c=3", false),
        (&["a", "b"], "c=4", false),
        (&["a", "b"], "d=3", false),
    ] {
        let value = |name: &str| if name == "a" { "1" } else { "2" };
        let request = get("/").query(query);
        let request = headers.iter().fold(request, |it, name| it.header(name, value(name)));
        assert_eq!(
            taken_by(&policy, request),
            if taken { "/" } else { "-" },
            "{headers:?} {query}"
        );
    }
}

#[test]
fn methods_come_first_then_the_most_headers_parameters_and_states_then_the_order() {
    // Each is before all that follow it, whatever the order of the list.
    let mut routes = vec![
        r#""name": "method", "path": "/", "methods": ["GET"]"#,
        r#""name": "2 headers", "path": "/", "headers": {"a": "1", "b": "1"}"#,
        r#""name": "1 header, 1 parameter", "path": "/", "headers": {"a": "1"}, "query": {"c": "1"}"#,
        r#""name": "1 header, 1 state", "path": "/", "headers": {"a": "1"}, "when": {"writer": "closed"}"#,
        r#""name": "1 header", "path": "/", "headers": {"a": {"present": true}}"#,
        r#""name": "2 parameters", "path": "/", "query": {"c": "1", "d": "1"}"#,
        r#""name": "1 parameter", "path": "/", "query": {"c": "1"}"#,
        r#""name": "1 state", "path": "/", "when": {"writer": "closed"}"#,
        r#""name": "nothing", "path": "/""#,
    ];
    while let Some(first) = routes.first().copied() {
        for _ in 0..2 {
            let policy = policy(&routes);
            let request = get("/").header("a", "1").header("b", "1").query("d=1&c=1");
            let request = request.service("writer", standing(Circuit::Closed));
            let name = first.split('"').nth(3).expect("a name");
            assert_eq!(taken_by(&policy, request), name);
            routes.reverse();
        }
        routes.remove(0);
    }
    let first = r#""name": "first", "path": "/", "headers": {"a": {"present": true}}"#;
    let second = r#""name": "second", "path": "/", "headers": {"b": {"present": true}}"#;
    for (routes, name) in [([first, second], "first"), ([second, first], "second")] {
        let request = get("/").header("a", "1").header("b", "1");
        assert_eq!(taken_by(&policy(&routes), request), name);
    }
}
