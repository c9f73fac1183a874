use orchestrator_policy::FailureBuilder;

use super::*;

fn configure(config: &str) -> Result<Retry, Vec<ConfigError>> {
    Retry::configure(&Setup::builder().config(config).build())
}

fn judge(config: &str, failure: FailureBuilder) -> Verdict {
    let policy = configure(config).expect("a valid configuration");
    policy.judge(&Request::builder().build(), &failure.build())
}

fn again(ms: u64) -> Verdict {
    Verdict::again(Duration::from_millis(ms)).elsewhere()
}

#[test]
fn three_attempts_a_second_apart_by_default() {
    for (number, verdict) in
        [(1, again(1_000)), (2, again(1_000)), (3, Verdict::stop()), (4, Verdict::stop())]
    {
        assert_eq!(judge("{}", Failure::builder().number(number)), verdict, "attempt {number}");
    }
}

#[test]
fn the_delay_stays_the_same_where_another_endpoint_is_left() {
    let failure = Failure::builder().others_left(2);
    assert_eq!(judge(r#"{"delay": "250ms"}"#, failure), again(250));
}

#[test]
fn one_attempt_is_no_retry() {
    assert_eq!(judge(r#"{"attempts": 1}"#, Failure::builder()), Verdict::stop());
}

#[test]
fn by_default_every_outcome_but_other_statuses_and_unknown_words_is_worth_another() {
    for (outcome, verdict) in [
        (Outcome::ConnectFailed, again(1_000)),
        (Outcome::ConnectionLost, again(1_000)),
        (Outcome::Timeout, again(1_000)),
        (Outcome::Status(502), again(1_000)),
        (Outcome::Status(503), again(1_000)),
        (Outcome::Status(504), again(1_000)),
        (Outcome::Status(500), Verdict::stop()),
        (Outcome::Status(404), Verdict::stop()),
        (Outcome::Other("solar-flare".to_owned()), Verdict::stop()),
    ] {
        let failure = Failure::builder().outcome(outcome.clone());
        assert_eq!(judge("{}", failure), verdict, "{outcome:?}");
    }
}

#[test]
fn only_listed_outcomes_count() {
    let outcomes =
        [Outcome::ConnectFailed, Outcome::ConnectionLost, Outcome::Timeout, Outcome::Status(503)];
    for (index, word) in OUTCOMES.iter().enumerate() {
        let config = format!(r#"{{"on": ["{word}"]}}"#);
        for (other, outcome) in outcomes.iter().enumerate() {
            let verdict = judge(&config, Failure::builder().outcome(outcome.clone()));
            let expected = if other == index { again(1_000) } else { Verdict::stop() };
            assert_eq!(verdict, expected, "{outcome:?} with {config}");
        }
    }
}

#[test]
fn only_listed_statuses_count() {
    let config = r#"{"statuses": [429]}"#;
    for (status, verdict) in [(429, again(1_000)), (503, Verdict::stop())] {
        let failure = Failure::builder().outcome(Outcome::Status(status));
        assert_eq!(judge(config, failure), verdict, "{status}");
    }
}

#[test]
fn an_empty_list_of_outcomes_stops_always() {
    assert_eq!(judge(r#"{"on": []}"#, Failure::builder()), Verdict::stop());
}

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
            "expected a whole number from 1 to 4294967295, found 0",
            None,
        ),
        (r#"{"attempts": "3"}"#, "/attempts", "expected a whole number, found text", None),
        (
            r#"{"delay": 1}"#,
            "/delay",
            "expected a duration as text, found a number",
            Some(r#"write a whole number and a unit: "250ms", "1s", "2m", "1h""#),
        ),
        (
            r#"{"delay": "soon"}"#,
            "/delay",
            "`soon` is not a duration",
            Some(r#"write a whole number and a unit: "250ms", "1s", "2m", "1h""#),
        ),
        (r#"{"statuses": 503}"#, "/statuses", "expected a list, found a number", None),
        (
            r#"{"statuses": [503, 200]}"#,
            "/statuses/1",
            "expected a whole number from 400 to 599, found 200",
            None,
        ),
        (
            r#"{"on": ["time_out"]}"#,
            "/on/0",
            "`time_out` is not an outcome",
            Some("did you mean `timeout`?"),
        ),
        (
            r#"{"on": ["always"]}"#,
            "/on/0",
            "`always` is not an outcome",
            Some("there is `connect_failure`, `lost_connection`, `timeout`, `status`"),
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
