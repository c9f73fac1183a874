//! Panics.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(request: &Request, _: &'a str) -> Decision<'a> {
    panic!("a guest that panics on purpose, at {}", request.path())
}

orchestrator_guests::hostile_routing!(misbehave);
