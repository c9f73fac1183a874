//! Loops for ever in `judge`.

use std::hint::black_box;

use orchestrator_policy::{Failure, Request, Verdict};

fn misbehave(_: &Request, _: &Failure) -> Verdict {
    while black_box(true) {}
    Verdict::stop()
}

orchestrator_guests::hostile_retry!(misbehave);
