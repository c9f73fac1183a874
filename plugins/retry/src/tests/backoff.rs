//! Delays that grow.

use super::*;

fn delay_after(config: &str, number: u32, random: u64) -> Duration {
    let policy = configure(config).expect("a valid configuration");
    let request = Request::builder().random([random]).build();
    match policy.judge(&request, &Failure::builder().number(number).build()) {
        Verdict::Again { delay, .. } => delay,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_jitter_they_double_from_a_tenth_of_a_second_to_ten_seconds() {
    let config = r#"{"attempts": 100, "backoff": {"jitter": "none"}}"#;
    for (number, ms) in
        [(1, 100), (2, 200), (3, 400), (4, 800), (7, 6_400), (8, 10_000), (99, 10_000)]
    {
        assert_eq!(delay_after(config, number, 7), Duration::from_millis(ms), "attempt {number}");
    }
}

#[test]
fn they_begin_grow_and_end_as_configured() {
    let config = r#"{"attempts": 9, "backoff":
        {"initial": "10ms", "factor": 3, "max": "200ms", "jitter": "none"}}"#;
    for (number, ms) in [(1, 10), (2, 30), (3, 90), (4, 200), (5, 200)] {
        assert_eq!(delay_after(config, number, 0), Duration::from_millis(ms), "attempt {number}");
    }
}

#[test]
fn with_full_jitter_they_are_anything_up_to_that_both_ends_included() {
    let config = r#"{"attempts": 9, "backoff": {}}"#;
    for (number, random, ms) in
        [(1, 0, 0), (1, 100, 100), (1, 101, 0), (2, 200, 200), (2, 201, 0), (2, 1_000, 196)]
    {
        let delay = delay_after(config, number, random);
        assert_eq!(delay, Duration::from_millis(ms), "attempt {number}, random {random}");
    }
}

#[test]
fn the_request_alone_draws_them_so_that_a_recorded_one_replays() {
    let config = r#"{"attempts": 9, "backoff": {"initial": "1h", "max": "1h"}}"#;
    let random = 0x1234_5678_9abc_def0;
    assert_eq!(delay_after(config, 1, random), delay_after(config, 1, random));
    assert_ne!(delay_after(config, 1, random), delay_after(config, 1, random + 1));
}

#[test]
fn the_largest_numbers_end_at_the_cap() {
    let config = r#"{"attempts": 4294967295, "backoff":
        {"initial": "2000h", "factor": 100, "max": "5124095576030h", "jitter": "none"}}"#;
    let longest = Duration::from_secs(5_124_095_576_030 * 3_600);
    assert_eq!(delay_after(config, 4_294_967_294, 0), longest);
    let config = config.replace("none", "full");
    assert!(delay_after(&config, 4_294_967_294, u64::MAX) <= longest);
}

#[test]
fn nothing_is_drawn_where_nothing_is_left_to_chance() {
    for config in [r#"{"delay": "1s"}"#, r#"{"backoff": {"jitter": "none"}}"#] {
        assert_eq!(delay_after(config, 1, 0), delay_after(config, 1, u64::MAX), "{config}");
    }
}
