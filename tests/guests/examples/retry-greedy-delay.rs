//! Wants to wait for half a billion years.

use std::time::Duration;

use orchestrator_policy::{Failure, Request, Verdict};

fn misbehave(_: &Request, _: &Failure) -> Verdict {
    Verdict::again(Duration::from_millis(u64::MAX))
}

orchestrator_guests::hostile_retry!(misbehave);
