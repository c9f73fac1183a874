//! How many retries may a service get? A share of its requests, and a few a second besides.
//!
//! Retries help against single faults and make an outage worse. Over any span of time
//!
//! ```text
//! retries ≤ ratio × requests + min_per_s × seconds + what was saved up
//! ```
//!
//! where at most [`BudgetRules::saved_max`] is saved up: a token bucket, in one atomic word that
//! all workers share. A full bucket, which is what a healthy service has, is only read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The limits of a service's retries.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetRules {
    /// Retries per request. It counts in thousandths, rounded down; what is negative or no number
    /// counts as 0.
    pub ratio: f64,
    /// Retries per second besides, for services with few requests.
    pub min_per_s: u32,
}

impl BudgetRules {
    /// How many retries can be saved up, and so come at once: ten seconds of `min_per_s`, at least
    /// 100, at most 268,435.
    pub fn saved_max(&self) -> u32 {
        (self.cap() / TOKEN) as u32
    }

    fn cap(&self) -> u64 {
        (10 * u64::from(self.min_per_s)).max(100).saturating_mul(TOKEN).min(MILLITOKENS_MAX)
    }

    /// What one request adds, in thousandths of a token.
    fn per_request(&self) -> u64 {
        // The nudge keeps 0.57, which is a little less in binary, at 570. The cast saturates.
        (self.ratio * TOKEN as f64 + 1e-6) as u64
    }
}

/// The retry budget of one service. `now_ms` as in [`Breaker`](crate::breaker::Breaker), but modulo
/// 2^36 (two years): a service that rests for longer finds less saved up.
pub struct Budget(AtomicU64);

impl Budget {
    /// A budget that has one second's `min_per_s` saved up.
    pub fn new(rules: &BudgetRules, now_ms: u64) -> Self {
        Self(AtomicU64::new(Bucket::new(rules, now_ms).pack()))
    }

    /// A request came for the service: not one of its retries, the request itself.
    pub fn deposit(&self, rules: &BudgetRules, now_ms: u64) {
        self.apply(rules, now_ms, Event::Deposit);
    }

    /// Takes one retry out of the budget. `false`: it is used up, and nothing was taken.
    #[must_use]
    pub fn withdraw(&self, rules: &BudgetRules, now_ms: u64) -> bool {
        self.apply(rules, now_ms, Event::Withdraw)
    }

    /// Whether there is a retry to withdraw now.
    pub fn has(&self, rules: &BudgetRules, now_ms: u64) -> bool {
        self.bucket().refilled(rules, now_ms).millitokens >= TOKEN
    }

    /// How many retries the budget is good for now.
    pub fn balance(&self, rules: &BudgetRules, now_ms: u64) -> f64 {
        self.bucket().refilled(rules, now_ms).millitokens as f64 / TOKEN as f64
    }

    fn bucket(&self) -> Bucket {
        Bucket::unpack(self.0.load(Relaxed))
    }

    /// Steps the shared word. `Relaxed` is enough, for the word guards no memory but itself.
    fn apply(&self, rules: &BudgetRules, now_ms: u64, event: Event) -> bool {
        let mut word = self.0.load(Relaxed);
        loop {
            let (next, granted) = step(Bucket::unpack(word), rules, now_ms, event);
            let next = next.pack();
            if next == word {
                return granted;
            }
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return granted,
                Err(newer) => word = newer,
            }
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Budget").field(&self.bucket()).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Deposit,
    Withdraw,
}

/// The unpacked word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// Thousandths of a token: `min_per_s` of them come each millisecond, without a remainder.
    millitokens: u64,
    /// Up to when `min_per_s` is paid out.
    paid_until_ms: u64,
}

/// The machine: the next bucket, and whether a withdrawal was granted.
fn step(bucket: Bucket, rules: &BudgetRules, now_ms: u64, event: Event) -> (Bucket, bool) {
    match event {
        // Untouched where it is full: `paid_until_ms` may then lag, for what it would pay out does
        // not fit anyway. This is what spares the workers a write for each request.
        Event::Deposit if bucket.millitokens == rules.cap() => (bucket, true),
        Event::Deposit => {
            let Bucket { millitokens, paid_until_ms } = bucket.refilled(rules, now_ms);
            let millitokens = millitokens.saturating_add(rules.per_request()).min(rules.cap());
            (Bucket { millitokens, paid_until_ms }, true)
        }
        Event::Withdraw => {
            let Bucket { millitokens, paid_until_ms } = bucket.refilled(rules, now_ms);
            match millitokens.checked_sub(TOKEN) {
                Some(millitokens) => (Bucket { millitokens, paid_until_ms }, true),
                None => (bucket, false),
            }
        }
    }
}

/// One retry.
const TOKEN: u64 = 1_000;

// The word: 36 bits of milliseconds above 28 bits of thousandths of a token.
const MILLITOKENS_BITS: u32 = 28;
const MILLITOKENS_MAX: u64 = (1 << MILLITOKENS_BITS) - 1;
const TIME_MAX: u64 = (1 << 36) - 1;

/// A caller may be this far behind another one before its clock counts as having come round.
const LAG_MAX_MS: u64 = 60_000;

impl Bucket {
    fn new(rules: &BudgetRules, now_ms: u64) -> Self {
        let saved = u64::from(rules.min_per_s) * TOKEN;
        Self { millitokens: saved.min(rules.cap()), paid_until_ms: now_ms & TIME_MAX }
    }

    fn refilled(self, rules: &BudgetRules, now_ms: u64) -> Self {
        let now_ms = now_ms & TIME_MAX;
        let elapsed_ms = now_ms.wrapping_sub(self.paid_until_ms) & TIME_MAX;
        let (elapsed_ms, paid_until_ms) = if elapsed_ms > TIME_MAX - LAG_MAX_MS {
            (0, self.paid_until_ms)
        } else {
            (elapsed_ms, now_ms)
        };
        let earned = elapsed_ms.saturating_mul(u64::from(rules.min_per_s));
        let millitokens = self.millitokens.saturating_add(earned).min(rules.cap());
        Self { millitokens, paid_until_ms }
    }

    fn pack(self) -> u64 {
        self.paid_until_ms << MILLITOKENS_BITS | self.millitokens
    }

    fn unpack(word: u64) -> Self {
        Self { millitokens: word & MILLITOKENS_MAX, paid_until_ms: word >> MILLITOKENS_BITS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: BudgetRules = BudgetRules { ratio: 0.2, min_per_s: 10 };

    fn withdrawals(budget: &Budget, rules: &BudgetRules, now_ms: u64, wanted: usize) -> usize {
        (0..wanted).filter(|_| budget.withdraw(rules, now_ms)).count()
    }

    #[test]
    fn one_second_is_saved_up_at_first_and_ten_come_each_second() {
        let budget = Budget::new(&RULES, 0);
        assert_eq!(withdrawals(&budget, &RULES, 0, 100), 10);
        assert!(!budget.has(&RULES, 99));
        assert!(budget.has(&RULES, 100));
        assert_eq!(withdrawals(&budget, &RULES, 1_000, 100), 10);
    }

    #[test]
    fn five_requests_pay_for_a_retry_and_four_do_not() {
        let rules = BudgetRules { ratio: 0.2, min_per_s: 0 };
        let budget = Budget::new(&rules, 0);
        for _ in 0..4 {
            budget.deposit(&rules, 0);
        }
        assert!(!budget.withdraw(&rules, 0));
        budget.deposit(&rules, 0);
        assert!(budget.withdraw(&rules, 0));
        assert!(!budget.withdraw(&rules, 0));
    }

    #[test]
    fn no_ratio_and_no_minimum_is_no_retry() {
        let rules = BudgetRules { ratio: 0.0, min_per_s: 0 };
        let budget = Budget::new(&rules, 0);
        for now_ms in 0..10_000 {
            budget.deposit(&rules, now_ms);
            assert!(!budget.withdraw(&rules, now_ms));
        }
    }

    #[test]
    fn savings_have_a_limit() {
        let budget = Budget::new(&RULES, 0);
        for _ in 0..100_000 {
            budget.deposit(&RULES, 3_600_000);
        }
        assert_eq!(budget.balance(&RULES, 7_200_000), 100.0);
        assert_eq!(withdrawals(&budget, &RULES, 7_200_000, 1_000), 100);
    }

    #[test]
    fn a_full_budget_is_not_written() {
        let budget = Budget::new(&RULES, 0);
        for _ in 0..1_000 {
            budget.deposit(&RULES, 0);
        }
        let before = budget.0.load(Relaxed);
        budget.deposit(&RULES, 50);
        assert_eq!(budget.0.load(Relaxed), before);
    }

    #[test]
    fn a_caller_whose_clock_is_behind_earns_nothing_twice() {
        let budget = Budget::new(&RULES, 10_000);
        assert_eq!(withdrawals(&budget, &RULES, 10_000, 100), 10);
        budget.deposit(&RULES, 9_990);
        budget.deposit(&RULES, 10_000);
        assert_eq!(budget.balance(&RULES, 10_000), 0.4);
    }

    #[test]
    fn odd_rules_are_safe() {
        let ratios = [-1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-9];
        for (ratio, retries) in ratios.into_iter().zip([0, 0, 268_435, 268_435, 0]) {
            let rules = BudgetRules { ratio, min_per_s: u32::MAX };
            assert_eq!(rules.saved_max(), 268_435);
            let budget = Budget::new(&rules, u64::MAX);
            assert_eq!(withdrawals(&budget, &rules, u64::MAX, 300_000), 268_435);
            budget.deposit(&rules, u64::MAX);
            assert_eq!(withdrawals(&budget, &rules, u64::MAX, 300_000), retries, "{ratio}");
        }
    }

    #[test]
    fn threads_together_get_no_more_than_there_is() {
        let budget = Budget::new(&RULES, 0);
        let got = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| withdrawals(&budget, &RULES, 0, 100)));
            threads.map(|thread| thread.join().expect("no panic")).iter().sum::<usize>()
        });
        assert_eq!(got, 10);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Deposit,
        Withdraw,
        Advance(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => Just(Op::Deposit),
            4 => Just(Op::Withdraw),
            1 => (0..3_000u64).prop_map(Op::Advance),
        ];
        prop::collection::vec(op, EVENTS)
    }

    /// Together a million events.
    const EVENTS: usize = 400;
    const CASES: u32 = 2_500;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn behaves_as_a_plain_bucket_and_keeps_the_bound(
            per_mille in 0..1_500u32,
            min_per_s in 0..30u32,
            start_ms in prop_oneof![Just(0), Just(TIME_MAX - 5_000), 0..u64::MAX / 2],
            ops in ops(),
        ) {
            let rules = BudgetRules { ratio: f64::from(per_mille) / 1_000.0, min_per_s };
            let saved_max = (10 * min_per_s).max(100);
            prop_assert_eq!(rules.saved_max(), saved_max);
            let budget = Budget::new(&rules, start_ms);
            let mut now_ms = start_ms;

            // The plain bucket pays at each advance, and the shared one when it is touched.
            let mut balance = f64::from(min_per_s);
            // For the bound: all that came and went, and its value at each step.
            let mut retries_less_income = 0.0f64;
            let mut lowest = 0.0f64;
            for op in ops {
                match op {
                    Op::Deposit => {
                        budget.deposit(&rules, now_ms);
                        balance += rules.ratio;
                        retries_less_income -= rules.ratio;
                    }
                    Op::Withdraw => {
                        let expected = balance > 1.0 - 1e-6;
                        prop_assert_eq!(budget.has(&rules, now_ms), expected);
                        prop_assert_eq!(budget.withdraw(&rules, now_ms), expected);
                        if expected {
                            balance -= 1.0;
                            retries_less_income += 1.0;
                        }
                    }
                    Op::Advance(ms) => {
                        now_ms += ms;
                        let income = f64::from(min_per_s) * ms as f64 / 1_000.0;
                        balance += income;
                        retries_less_income -= income;
                    }
                }
                balance = balance.min(f64::from(saved_max));
                prop_assert!((budget.balance(&rules, now_ms) - balance).abs() < 1e-6);
                // Of any span that ends here the one that began at the lowest point is the worst.
                lowest = lowest.min(retries_less_income);
                let saved_up = retries_less_income - lowest;
                prop_assert!(saved_up <= f64::from(saved_max) + 1e-6);
            }
        }
    }
}
