//! Misbehaves as its configuration says: `{"behaviour": "spin"}`. The names are those of
//! `src/hostile.rs` and of `OWN`.

use std::time::Duration;

use orchestrator_guests::{hostile, judge_well, misbehaves};
use orchestrator_policy::{ConfigError, Failure, Request, RetryPolicy, Setup, Verdict};

const OWN: &[&str] = &["again-for-ever", "longest-delay", "huge-reason"];

#[derive(Debug)]
pub struct Guest(String);

orchestrator_policy::export_retry!(Guest);

impl RetryPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        hostile::behaviour(setup, OWN).map(Guest)
    }

    fn judge(&self, request: &Request, failure: &Failure) -> Verdict {
        if !misbehaves(request) {
            return judge_well(failure.number());
        }
        hostile::misbehave(&self.0, request);
        match self.0.as_str() {
            "again-for-ever" => Verdict::again(Duration::ZERO).elsewhere(),
            "longest-delay" => Verdict::again(Duration::from_millis(u32::MAX.into())),
            "huge-reason" => Verdict::cannot_decide("why ".repeat(1 << 18)),
            "wrong-answer" => {
                wrong_answer();
                judge_well(failure.number())
            }
            "forged-log" => Verdict::cannot_decide(hostile::FORGED),
            _ => judge_well(failure.number()),
        }
    }
}

/// What only a routing policy may say.
fn wrong_answer() {
    #[cfg(target_arch = "wasm32")]
    orchestrator_policy::wire::route_half::orchestrator::policy::answer::forward("writer");
}
