//! Panics in `judge`.

use orchestrator_policy::{Failure, Request, Verdict};

fn misbehave(_: &Request, failure: &Failure) -> Verdict {
    panic!("a guest that panics on purpose, at attempt {}", failure.number())
}

orchestrator_guests::hostile_retry!(misbehave);
