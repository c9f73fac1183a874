//! Responds with the status that follows `/evil/`, whatever it is; else with 999.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(request: &Request, _: &'a str) -> Decision<'a> {
    Decision::respond(orchestrator_guests::trick(request).parse().unwrap_or(999))
}

orchestrator_guests::hostile_routing!(misbehave);
