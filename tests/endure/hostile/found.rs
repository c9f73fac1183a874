//! What was seen of one behaviour, and what of it must not be.

use std::fmt::Display;

use orchestrator_tests::metrics::Metrics;

use super::table::{Behaviour, End, Kind};
use super::traffic::Halves;

/// What the good half may take longer while the policy is at it.
const ADDED_MAX_MS: f64 = 8.0;

/// What it may take longer once the policy is quarantined: the larger of the two.
const QUARANTINED_RATIO_MAX: f64 = 1.2;
const QUARANTINED_ADDED_MAX_MS: f64 = 2.0;

/// The longest that a client may wait for the end of an evil request: for an instance and for a
/// decision 100 ms each, and for a busy machine.
const EVIL_MAX_MS: f64 = 250.0;

const REASONS: [&str; 10] = [
    "trap",
    "timeout",
    "wall_clock",
    "memory",
    "result",
    "invalid",
    "cannot_decide",
    "no_instance",
    "stack",
    "table",
];

#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Figures, in words.
    said: Vec<String>,
    /// What must not be, in words.
    pub(crate) wrong: Vec<String>,
    pub(crate) deaths: u32,
    /// Whether it is wrong to take too long: within a test that others run beside, it is only told.
    times_count: bool,
}

/// What the good half's requests took, round by round, in milliseconds: where the policy is good, and
/// here.
pub(crate) type Pairs = Vec<(f64, f64)>;

impl Found {
    pub(crate) fn new(times_count: bool) -> Found {
        Found { times_count, ..Found::default() }
    }

    pub(crate) fn say(&mut self, what: impl Display) {
        self.said.push(what.to_string());
    }

    pub(crate) fn wrong(&mut self, what: impl Display) {
        self.wrong.push(format!("WRONG: {what}"));
    }

    fn slow(&mut self, what: impl Display) {
        match self.times_count {
            true => self.wrong(what),
            false => self.say(format!("({what})")),
        }
    }

    pub(crate) fn words(&self) -> String {
        self.said.iter().chain(&self.wrong).map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// No good request failed, and each evil one ended as it may.
    pub(crate) fn no_errors(&mut self, halves: &mut Halves) {
        if halves.good.errors > 0 {
            self.wrong(format!("good requests failed: {}", halves.good.said()));
        }
        if halves.evil.errors > 0 {
            self.wrong(format!("evil requests ended otherwise: {}", halves.evil.said()));
        }
        let longest = halves.evil.ms_at(1.0);
        self.say(format!("longest {longest:.0} ms"));
        if longest > EVIL_MAX_MS {
            self.slow("an evil request takes too long");
        }
    }

    /// The faults are those that the table has.
    pub(crate) fn faults(&mut self, kind: Kind, behaviour: &Behaviour, evil: u64, page: &Metrics) {
        let of = |reason| {
            let labels = [("policy", kind.word()), ("reason", reason)];
            page.sum("orchestrator_policy_faults_total", &labels)
        };
        let counts = REASONS.map(|reason| (reason, of(reason)));
        let counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0.0).collect();
        let all = page.sum("orchestrator_policy_faults_total", &[("policy", kind.word())]);
        let (wanted, share): (&[&str], _) = match behaviour.end {
            End::Fault(reasons) => (reasons, 1.0..=1.0),
            End::HalfFault(reasons) => (reasons, 0.3..=0.7),
            End::SomeFault(reasons) => (reasons, 0.0..=0.9),
            End::Allowed => (&[], 0.0..=0.0),
        };
        let words: Vec<_> =
            counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let words = if words.is_empty() { "no fault".to_owned() } else { words.join(" and ") };
        self.say(format!("{words} in {evil}"));
        let other = counts.iter().any(|(reason, _)| !wanted.contains(reason));
        if other || !share.contains(&(all / evil.max(1) as f64)) {
            self.wrong(format!("the faults should be {:?}", behaviour.end));
        }
    }

    /// No decision took longer than it may by the wall clock, but for those that ended as too long.
    pub(crate) fn ended_in_time(&mut self, kind: Kind, page: &Metrics) {
        let policy = ("policy", kind.word());
        let name = "orchestrator_policy_decision_seconds";
        let within = page.sum(&format!("{name}_bucket"), &[("le", "0.1"), policy]);
        let beyond = page.sum(&format!("{name}_count"), &[policy]) - within;
        let faults = ["timeout", "wall_clock", "no_instance"].map(|reason| {
            page.sum("orchestrator_policy_faults_total", &[policy, ("reason", reason)])
        });
        if beyond > faults.iter().sum() {
            self.slow(format!("{beyond} decisions took more than 100 ms"));
        }
    }

    /// What the hostile policy adds, as the median of all rounds.
    pub(crate) fn slowed(&mut self, pairs: &Pairs) {
        let added = median(pairs.iter().map(|(good, here)| here - good).collect());
        self.say(format!("good half {} ms", shown(pairs)));
        if added > ADDED_MAX_MS {
            self.slow(format!("it adds {added:.1} ms of at most {ADDED_MAX_MS}"));
        }
    }

    /// The same, once it is quarantined.
    pub(crate) fn as_before(&mut self, pairs: &Pairs) {
        let beyond = |(good, here): &(f64, f64)| {
            here - (good * QUARANTINED_RATIO_MAX).max(good + QUARANTINED_ADDED_MAX_MS)
        };
        self.say(format!("quarantined {} ms", shown(pairs)));
        if median(pairs.iter().map(beyond).collect()) > 0.0 {
            self.slow("it is not as before");
        }
    }
}

fn shown(pairs: &Pairs) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(good, here)| format!("{good:.1}→{here:.1}")).collect();
    pairs.join(" ")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
