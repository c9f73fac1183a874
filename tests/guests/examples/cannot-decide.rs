//! Says that it cannot decide.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(request: &Request, _: &'a str) -> Decision<'a> {
    Decision::cannot_decide(format!("no opinion about {}", request.path()))
}

orchestrator_guests::hostile_routing!(misbehave);
