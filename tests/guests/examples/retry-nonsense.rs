//! Answers what makes no sense: `/evil/elsewhere-only` (means stop), `/evil/twice` (the last call
//! wins: at once), `/evil/out-of-phase` (a trap), `/evil/cannot-decide` (an `err`).

use orchestrator_policy::{Failure, Request, Verdict};

fn misbehave(request: &Request, failure: &Failure) -> Verdict {
    match orchestrator_guests::trick(request).as_str() {
        "cannot-decide" => {
            Verdict::cannot_decide(format!("no opinion about {:?}", failure.outcome()))
        }
        trick => {
            by_hand(trick);
            Verdict::stop()
        }
    }
}

/// What the SDK would not let a policy say.
fn by_hand(trick: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use orchestrator_policy::wire::common::orchestrator::policy::setup;
        use orchestrator_policy::wire::retry_half::orchestrator::policy::retry_answer;
        match trick {
            "twice" => {
                retry_answer::again(u64::MAX);
                retry_answer::again(0);
            }
            "out-of-phase" => drop(setup::config()),
            _ => retry_answer::elsewhere(),
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    let _ = trick;
}

orchestrator_guests::hostile_retry!(misbehave);
