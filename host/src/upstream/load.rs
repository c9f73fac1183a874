//! What an endpoint counts as, beside what is under way there: its recent failures, and how much of
//! its weight it has yet.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A failure counts as one request under way for so long, ten of them as five after it, and so on.
/// Short, for what goes on failing is the breaker's to end.
pub const FAULT_HALF_LIFE_MS: u64 = 1_000;

/// An endpoint's failures of late, as requests under way.
///
/// An endpoint that fails does so at once, and has nothing under way: to a balancer that looks at
/// nothing else, it is the best of all, and gets everything (linkerd/linkerd2-proxy#4537). So a
/// failure goes on counting as a request for a while. One word, which all workers share and only
/// failures write. `now_ms` as in [`Breaker`](crate::breaker::Breaker), but modulo 2^40.
#[derive(Default)]
pub struct RecentFaults(AtomicU64);

impl RecentFaults {
    /// An attempt has failed.
    pub fn add(&self, now_ms: u64) {
        let mut word = self.0.load(Relaxed);
        loop {
            let level = level_at(word, now_ms).saturating_add(FAULT).min(LEVEL_MAX);
            let next = (now_ms & TIME_MAX) << LEVEL_BITS | level;
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// As how many requests they count, to the nearest one.
    pub fn count(&self, now_ms: u64) -> u32 {
        match self.0.load(Relaxed) {
            0 => 0, // Of nearly all endpoints.
            word => ((level_at(word, now_ms) + FAULT / 2) / FAULT) as u32,
        }
    }

    /// For an endpoint that takes the place of another.
    pub fn forget(&self) {
        self.0.store(0, Relaxed);
    }
}

impl fmt::Debug for RecentFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Relaxed);
        write!(f, "RecentFaults({}/{FAULT} at {} ms)", word & LEVEL_MAX, word >> LEVEL_BITS)
    }
}

// The word: 40 bits of milliseconds above 24 bits of failures in 256ths.
const FAULT: u64 = 256;
const LEVEL_BITS: u32 = 24;
const LEVEL_MAX: u64 = (1 << LEVEL_BITS) - 1;
const TIME_MAX: u64 = (1 << 40) - 1;

/// What the word's level has come down to: half in each half-life, and evenly in between.
fn level_at(word: u64, now_ms: u64) -> u64 {
    let (level, since_ms) = (word & LEVEL_MAX, word >> LEVEL_BITS);
    let elapsed_ms = (now_ms & TIME_MAX).wrapping_sub(since_ms) & TIME_MAX;
    // More than half a round ahead is a caller whose clock is a little behind.
    let elapsed_ms = if elapsed_ms > TIME_MAX / 2 { 0 } else { elapsed_ms };
    let halvings = elapsed_ms / FAULT_HALF_LIFE_MS;
    if halvings >= u64::from(LEVEL_BITS) {
        return 0;
    }
    let level = level >> halvings;
    level - level * (elapsed_ms % FAULT_HALF_LIFE_MS) / (2 * FAULT_HALF_LIFE_MS)
}

/// A weight of 1, whole. Slow start gives parts of it.
pub const WHOLE: u32 = 1024;

/// What an endpoint begins with: enough for its caches to fill.
const FIRST_SHARE: u32 = WHOLE / 10;

/// The weight, in parts of [`WHOLE`], of an endpoint that came back `age_ms` ago and is to have all
/// of it after `slow_start_ms`.
pub fn ramped(weight: u32, age_ms: u64, slow_start_ms: u64) -> u32 {
    let share = match age_ms < slow_start_ms {
        true => ((u64::from(WHOLE) * age_ms / slow_start_ms) as u32).max(FIRST_SHARE),
        false => WHOLE,
    };
    weight * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_failure_counts_as_a_request_for_one_half_life() {
        let faults = RecentFaults::default();
        assert_eq!(faults.count(0), 0);
        faults.add(5_000);
        assert_eq!(faults.count(5_000), 1);
        assert_eq!(faults.count(5_000 + FAULT_HALF_LIFE_MS), 1);
        assert_eq!(faults.count(5_100 + FAULT_HALF_LIFE_MS), 0);
    }

    #[test]
    fn many_take_longer_to_be_forgotten() {
        let faults = RecentFaults::default();
        for _ in 0..64 {
            faults.add(0);
        }
        for (half_lives, count) in [(0, 64), (1, 32), (2, 16), (5, 2), (6, 1), (7, 1), (8, 0)] {
            assert_eq!(faults.count(half_lives * FAULT_HALF_LIFE_MS), count, "{half_lives}");
        }
    }

    #[test]
    fn they_are_counted_up_to_a_limit_and_by_clocks_that_differ() {
        let faults = RecentFaults::default();
        for _ in 0..100_000 {
            faults.add(TIME_MAX);
        }
        assert_eq!(faults.count(TIME_MAX), (LEVEL_MAX / FAULT) as u32 + 1);
        assert_eq!(faults.count(TIME_MAX - 20), (LEVEL_MAX / FAULT) as u32 + 1, "a clock behind");
        let round = TIME_MAX + 1;
        assert!(faults.count(round + FAULT_HALF_LIFE_MS) < 33_000, "a clock that came round");
        faults.forget();
        assert_eq!(faults.count(TIME_MAX), 0);
    }

    #[test]
    fn a_newcomer_begins_with_a_tenth_and_rises_evenly() {
        let of_two = |age_ms| ramped(2, age_ms, 10_000);
        assert_eq!(of_two(0), 2 * FIRST_SHARE);
        assert_eq!(of_two(1_000), 2 * FIRST_SHARE);
        assert_eq!(of_two(5_000), WHOLE);
        assert_eq!(of_two(9_999), 2 * (WHOLE - 1));
        assert_eq!(of_two(10_000), 2 * WHOLE);
        assert_eq!(of_two(u64::MAX), 2 * WHOLE);
        assert_eq!(ramped(1000, 0, 0), 1000 * WHOLE, "slow start is off");
    }

    proptest! {
        /// Every failure for itself, each as old as it is: it may decay by halves in a half-life, or
        /// a little slower, since the word's decay is even between two failures.
        #[test]
        fn decay_as_if_each_were_remembered(
            steps in prop::collection::vec((0..2_500u64, any::<bool>()), 1..60),
            start_ms in prop_oneof![Just(0), Just(TIME_MAX - 5_000)],
        ) {
            let (faults, mut all, mut now_ms) = (RecentFaults::default(), Vec::new(), start_ms);
            for (later_ms, is_fault) in steps {
                now_ms += later_ms;
                if is_fault {
                    faults.add(now_ms);
                    all.push(now_ms);
                }
                let sum = |rate: f64| -> f64 {
                    let half_lives = |at| (now_ms - at) as f64 / FAULT_HALF_LIFE_MS as f64;
                    all.iter().map(|at| (-rate * half_lives(*at)).exp()).sum()
                };
                let count = f64::from(faults.count(now_ms));
                let rounding = 0.51 + 3.0 / FAULT as f64 * all.len() as f64;
                prop_assert!(count >= sum(std::f64::consts::LN_2) - rounding);
                prop_assert!(count <= sum(0.5) + rounding);
            }
        }

        #[test]
        fn a_share_never_falls_with_time(
            weight in 1..=1000u32, slow_start_ms in 0..4_000_000u64, age_ms in 0..4_000_000u64,
        ) {
            let (now, later) = (ramped(weight, age_ms, slow_start_ms), ramped(weight, age_ms + 1, slow_start_ms));
            prop_assert!(now <= later && now >= weight * FIRST_SHARE && later <= weight * WHOLE);
        }
    }
}
