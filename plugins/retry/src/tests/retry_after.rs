//! When the service says when.

use super::*;

fn after(config: &str, asked_s: u64) -> Verdict {
    judge(config, status(503).retry_after(Duration::from_secs(asked_s)))
}

#[test]
fn it_is_waited_for_up_to_half_a_minute_by_default() {
    assert_eq!(after("{}", 7), again(7_000));
    assert_eq!(after("{}", 30), again(30_000));
}

#[test]
fn who_asks_for_more_is_not_asked_sooner_but_not_again() {
    assert_eq!(after("{}", 31), Verdict::stop());
    assert_eq!(after(r#"{"retry_after_max": "2m"}"#, 120), again(120_000));
    assert_eq!(after(r#"{"retry_after_max": "2m"}"#, 121), Verdict::stop());
    assert_eq!(after(r#"{"retry_after_max": "0s"}"#, 1), Verdict::stop());
}

#[test]
fn the_policys_own_delay_is_kept_where_it_is_longer() {
    assert_eq!(after("{}", 0), again(1_000));
    assert_eq!(after(r#"{"delay": "9s"}"#, 7), again(9_000));
    let backoff = r#"{"backoff": {"initial": "9s", "jitter": "none"}}"#;
    assert_eq!(after(backoff, 7), again(9_000));
}

#[test]
fn it_can_be_ignored() {
    assert_eq!(after(r#"{"retry_after": "ignore"}"#, 7), again(1_000));
    assert_eq!(after(r#"{"retry_after": "ignore"}"#, 120), again(1_000));
}

#[test]
fn it_makes_no_status_worth_another_attempt() {
    let asked = Duration::from_secs(7);
    assert_eq!(judge("{}", status(429).retry_after(asked)), Verdict::stop());
    assert_eq!(judge(r#"{"statuses": [429]}"#, status(429).retry_after(asked)), again(7_000));
    assert_eq!(judge("{}", status(503).number(3).retry_after(asked)), Verdict::stop());
}
