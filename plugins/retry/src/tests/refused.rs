//! What `configure` refuses, where, and in which words.

use super::*;

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (config, pointer, message, suggestion) in [
        (
            r#"{"atempts": 3}"#,
            "/atempts#",
            "`atempts` is not known here",
            Some("did you mean `attempts`?"),
        ),
        (
            r#"{"attempts": 0}"#,
            "/attempts",
            "`attempts`: expected a whole number from 1 to 4294967295, found 0",
            None,
        ),
        (
            r#"{"attempts": "3"}"#,
            "/attempts",
            "`attempts`: expected a whole number, found text",
            None,
        ),
        (
            r#"{"delay": 1}"#,
            "/delay",
            "`delay`: expected a duration as text, found a number",
            Some(r#"write a whole number and a unit: "250ms", "1s", "2m", "1h""#),
        ),
        (
            r#"{"delay": "soon"}"#,
            "/delay",
            "`delay`: `soon` is not a duration",
            Some(r#"write a whole number and a unit: "250ms", "1s", "2m", "1h""#),
        ),
        (r#"{"statuses": 503}"#, "/statuses", "`statuses`: expected a list, found a number", None),
        (
            r#"{"statuses": [503, 200]}"#,
            "/statuses/1",
            "`statuses[1]`: expected a whole number from 400 to 599, found 200",
            None,
        ),
        (
            r#"{"statuses": ["6xx"]}"#,
            "/statuses/0",
            "`statuses[0]`: `6xx` is not a class of failures",
            Some(r#"write "4xx" or "5xx", or single statuses as numbers: 503"#),
        ),
        (
            r#"{"on": ["time_out"]}"#,
            "/on/0",
            "`on[0]`: `time_out` is not an outcome",
            Some("did you mean `timeout`?"),
        ),
        (
            r#"{"on": ["always"]}"#,
            "/on/0",
            "`on[0]`: `always` is not an outcome",
            Some("there is `connect_failure`, `lost_connection`, `timeout`, `status`"),
        ),
        (
            r#"{"on": ["timeout"], "statuses": [503]}"#,
            "/statuses",
            "`statuses`: has no effect: `on` lacks `status`",
            Some(r#"add "status" to `on`"#),
        ),
        (
            r#"{"methods": ["get"]}"#,
            "/methods/0",
            "`methods[0]`: methods are case-sensitive",
            Some(r#"write "GET""#),
        ),
        (r#"{"methods": ["GE T"]}"#, "/methods/0", "`methods[0]`: `GE T` is not a method", None),
        (
            r#"{"methods": []}"#,
            "/methods",
            "`methods`: an empty list takes no method",
            Some("leave `methods` out to take any"),
        ),
        (
            r#"{"delay": "1s", "backoff": {}}"#,
            "/backoff",
            "`backoff`: both `delay` and `backoff`",
            Some("keep one of the two"),
        ),
        (
            r#"{"backoff": {"factr": 3}}"#,
            "/backoff/factr#",
            "`backoff`: `factr` is not known here",
            Some("did you mean `factor`?"),
        ),
        (
            r#"{"backoff": {"factor": 0}}"#,
            "/backoff/factor",
            "`backoff.factor`: expected a whole number from 1 to 100, found 0",
            None,
        ),
        (
            r#"{"backoff": {"initial": "1m"}}"#,
            "/backoff",
            "`backoff`: `initial` is longer than `max`",
            Some("`max` is where growing ends"),
        ),
        (
            r#"{"backoff": {"jitter": "ful"}}"#,
            "/backoff/jitter",
            "`backoff.jitter`: `ful` is not a jitter",
            Some("did you mean `full`?"),
        ),
        (r#"{"backoff": "1s"}"#, "/backoff", "`backoff`: expected a table, found text", None),
        (
            r#"{"retry_after": "honor"}"#,
            "/retry_after",
            "`retry_after`: `honor` is not a way to take it",
            Some("did you mean `honour`?"),
        ),
        (
            r#"{"retry_after": "ignore", "retry_after_max": "1s"}"#,
            "/retry_after_max",
            r#"`retry_after_max`: has no effect: `retry_after` is "ignore""#,
            Some("remove one of the two"),
        ),
        (
            r#"{"services": {"wirter": {}}}"#,
            "/services/wirter#",
            "`services`: `wirter` is not known here",
            Some("did you mean `writer`?"),
        ),
        (
            r#"{"services": {"shop": {"delay": 1}}}"#,
            "/services/shop/delay",
            "`services.shop.delay`: expected a duration as text, found a number",
            Some(r#"write a whole number and a unit: "250ms", "1s", "2m", "1h""#),
        ),
        (
            r#"{"services": {"shop": {"services": {}}}}"#,
            "/services/shop/services#",
            "`services.shop`: `services` is not known here",
            Some(
                "known here: `attempts`, `delay`, `backoff`, `on`, `statuses`, `methods`, `retry_after`, `retry_after_max`, `rules`",
            ),
        ),
        (
            r#"{"services": {"shop": {"rules": [{"on": [1]}]}}}"#,
            "/services/shop/rules/0/on/0",
            "`services.shop.rules[0].on[0]`: expected text, found a number",
            None,
        ),
        (
            r#"{"rules": [{"statuses": [1]}]}"#,
            "/rules/0/statuses/0",
            "`rules[0].statuses[0]`: expected a whole number from 400 to 599, found 1",
            None,
        ),
        (
            r#"{"rules": [{"attempts": 1}, {"methods": ["GET"]}]}"#,
            "/rules/1",
            "`rules[1]`: no failure comes here: `rules[0]` takes them all",
            Some("give that one `methods`, `on` or `statuses`, or put it last"),
        ),
    ] {
        let mut error = ConfigError::new(pointer, message);
        error.suggestion = suggestion.map(str::to_owned);
        assert_eq!(configure(config), Err(vec![error]), "{config}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let config = r#"{"attempts": 0, "delay": "", "statuses": [1, 2], "on": [3], "x": 4}"#;
    let errors = configure(config).expect_err("an invalid configuration");
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/x#", "/attempts", "/delay", "/statuses/0", "/statuses/1", "/on/0"]);
}

#[test]
fn more_than_a_hundred_rules_are_refused() {
    let rules = |count| format!(r#"{{"rules": [{}]}}"#, vec![r#"{"on": []}"#; count].join(","));
    assert!(configure(&rules(100)).is_ok());
    let errors = configure(&rules(101)).unwrap_err();
    assert_eq!(errors[0].message, "`rules`: 101 rules; at most 100 are allowed");
}
