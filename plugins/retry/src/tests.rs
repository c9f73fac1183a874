use orchestrator_policy::FailureBuilder;

use super::*;

mod backoff;
mod refused;
mod retry_after;
mod rules;

fn configure(config: &str) -> Result<Retry, Vec<ConfigError>> {
    Retry::configure(&Setup::builder().config(config).services(["writer", "shop"]).build())
}

fn judge(config: &str, failure: FailureBuilder) -> Verdict {
    judge_of("GET", config, failure)
}

fn judge_of(method: &str, config: &str, failure: FailureBuilder) -> Verdict {
    let policy = match configure(config) {
        Ok(policy) => policy,
        Err(errors) => panic!("{config} is refused: {errors:?}"),
    };
    policy.judge(&Request::builder().method(method).build(), &failure.build())
}

fn status(status: u16) -> FailureBuilder {
    Failure::builder().outcome(Outcome::Status(status))
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
    for (index, word) in super::read::OUTCOMES.iter().enumerate() {
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
