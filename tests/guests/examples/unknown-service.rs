//! Forwards to `nowhere`, which is not a service; below `/evil/` to whatever follows.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(request: &Request, _: &'a str) -> Decision<'a> {
    match orchestrator_guests::trick(request) {
        name if name.is_empty() => Decision::forward("nowhere"),
        name => Decision::forward(name),
    }
}

orchestrator_guests::hostile_routing!(misbehave);
