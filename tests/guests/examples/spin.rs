//! Loops for ever.

use std::hint::black_box;

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(_: &Request, service: &'a str) -> Decision<'a> {
    while black_box(true) {}
    Decision::forward(service)
}

orchestrator_guests::hostile_routing!(misbehave);
