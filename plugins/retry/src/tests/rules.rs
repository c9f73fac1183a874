//! What is different for some services, methods and outcomes.

use super::*;

const RULES: &str = r#"{
    "delay": "200ms",
    "rules": [
        {"methods": ["POST", "PUT"], "attempts": 1},
        {"statuses": [429], "attempts": 5, "delay": "2s"},
        {"on": ["timeout"], "attempts": 2},
        {"methods": ["GET"], "statuses": ["5xx"], "backoff": {"jitter": "none"}}
    ]
}"#;

#[test]
fn the_first_rule_that_fits_decides() {
    for (method, failure, verdict) in [
        ("POST", Failure::builder(), Verdict::stop()),
        ("PUT", status(503), Verdict::stop()),
        ("PUT", status(429), Verdict::stop()),
        ("DELETE", status(429).number(4), again(2_000)),
        ("DELETE", status(429).number(5), Verdict::stop()),
        ("GET", Failure::builder().outcome(Outcome::Timeout), again(200)),
        ("GET", Failure::builder().outcome(Outcome::Timeout).number(2), Verdict::stop()),
        ("GET", status(500).number(2), again(200)),
        ("HEAD", status(500), again(100)),
    ] {
        let built = failure.clone().build();
        assert_eq!(judge_of(method, RULES, failure), verdict, "{method} {built:?}");
    }
}

#[test]
fn what_no_rule_fits_is_met_as_without_rules() {
    for (method, failure, verdict) in [
        ("DELETE", status(503), again(200)),
        ("DELETE", status(503).number(3), Verdict::stop()),
        ("DELETE", status(500), Verdict::stop()),
        ("GET", Failure::builder(), again(200)),
    ] {
        let built = failure.clone().build();
        assert_eq!(judge_of(method, RULES, failure), verdict, "{method} {built:?}");
    }
}

#[test]
fn a_rule_has_from_above_what_it_leaves_out() {
    let asked = |seconds| status(429).retry_after(Duration::from_secs(seconds));
    let config = r#"{"attempts": 7, "delay": "5ms", "retry_after_max": "1m",
                     "rules": [{"statuses": [429]}]}"#;
    assert_eq!(judge(config, asked(60).number(6)), again(60_000));
    assert_eq!(judge(config, asked(61)), Verdict::stop());
    assert_eq!(judge(config, asked(0).number(7)), Verdict::stop());
    let config = r#"{"retry_after": "ignore", "rules": [{"statuses": [429]},
                     {"statuses": [430], "retry_after": "honour"}]}"#;
    assert_eq!(judge(config, asked(60)), again(1_000));
    let asked = status(430).retry_after(Duration::from_secs(7));
    assert_eq!(judge(config, asked), again(7_000));
}

#[test]
fn a_rule_about_responses_takes_every_failed_one_where_it_names_none() {
    let config = r#"{"rules": [{"on": ["status"], "attempts": 9}]}"#;
    for code in [400, 404, 500, 503, 599] {
        assert_eq!(judge(config, status(code).number(8)), again(1_000), "{code}");
    }
    assert_eq!(judge(config, Failure::builder().number(8)), Verdict::stop());
}

#[test]
fn a_rule_about_methods_takes_every_outcome_but_unknown_words() {
    let config = r#"{"rules": [{"methods": ["PURGE"], "attempts": 9}]}"#;
    for outcome in [Outcome::ConnectFailed, Outcome::ConnectionLost, Outcome::Timeout] {
        let failure = Failure::builder().outcome(outcome.clone()).number(8);
        assert_eq!(judge_of("PURGE", config, failure), again(1_000), "{outcome:?}");
    }
    assert_eq!(judge_of("PURGE", config, status(404).number(8)), again(1_000));
    let unknown = Failure::builder().outcome(Outcome::Other("solar-flare".to_owned()));
    assert_eq!(judge_of("PURGE", config, unknown), Verdict::stop());
}

#[test]
fn methods_at_the_top_narrow_what_is_tried_again_and_get_includes_head() {
    let config = r#"{"methods": ["GET", "M-SEARCH"]}"#;
    for (method, verdict) in [
        ("GET", again(1_000)),
        ("HEAD", again(1_000)),
        ("M-SEARCH", again(1_000)),
        ("PUT", Verdict::stop()),
        ("get", Verdict::stop()),
    ] {
        assert_eq!(judge_of(method, config, Failure::builder()), verdict, "{method}");
    }
}

#[test]
fn classes_are_a_hundred_statuses_each() {
    let config = r#"{"statuses": ["5xx", 429]}"#;
    for (code, verdict) in [
        (499, Verdict::stop()),
        (500, again(1_000)),
        (599, again(1_000)),
        (429, again(1_000)),
        (428, Verdict::stop()),
    ] {
        assert_eq!(judge(config, status(code)), verdict, "{code}");
    }
    assert_eq!(judge(r#"{"statuses": ["4xx"]}"#, status(404)), again(1_000));
    assert_eq!(judge(r#"{"statuses": ["4xx"]}"#, status(500)), Verdict::stop());
}

#[test]
fn a_service_has_its_own_values_and_the_others_from_the_top() {
    let config = r#"{"delay": "3ms", "statuses": ["5xx"],
        "services": {"writer": {"attempts": 1}, "shop": {"delay": "4ms", "statuses": [429]}}}"#;
    for (service, failure, verdict) in [
        ("writer", status(500), Verdict::stop()),
        ("shop", status(429), again(4)),
        ("shop", status(429).number(3), Verdict::stop()),
        ("shop", status(500), Verdict::stop()),
        ("search", status(500), again(3)),
        ("", status(500), again(3)),
    ] {
        assert_eq!(judge(config, failure.service(service)), verdict, "{service}");
    }
}

#[test]
fn rules_of_a_service_stand_in_place_of_those_at_the_top() {
    let config = r#"{"rules": [{"statuses": [429], "attempts": 9}],
        "services": {"writer": {"delay": "4ms"}, "shop": {"rules": [{"statuses": [404]}]}}}"#;
    let at = |service: &str, code| judge(config, status(code).number(2).service(service));
    assert_eq!(at("writer", 429), again(4), "the rules at the top, with its own delay");
    assert_eq!(at("shop", 429), Verdict::stop());
    assert_eq!(at("shop", 404), again(1_000));
    assert_eq!(at("other", 429), again(1_000));
    assert_eq!(at("other", 404), Verdict::stop());
}
