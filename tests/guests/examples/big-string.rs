//! Hands over 10 MB at once: `/evil/body`, `/evil/path`, `/evil/service`, `/evil/header`,
//! `/evil/name`, `/evil/affinity`, `/evil/reason`; and `/evil/drip` hands over 10 MB in pieces of
//! 1 KiB. Where `memory_max` is below 20 MB, all but the drip trap on their own memory first.

use orchestrator_policy::{Decision, Request};

const BYTES: usize = 10_000_000;

fn misbehave<'a>(request: &Request, service: &'a str) -> Decision<'a> {
    let big = || "/".repeat(BYTES);
    let decision = Decision::forward(service);
    match orchestrator_guests::trick(request).as_str() {
        "path" => decision.path(big()),
        "service" => Decision::forward(big()),
        "header" => decision.request_header("x-big", big()),
        "name" => decision.route_name(big()),
        "affinity" => decision.affinity(big()),
        "reason" => Decision::cannot_decide(big()),
        "drip" => {
            const PIECE: [u8; 1024] = [b'x'; 1024];
            (0..BYTES / PIECE.len())
                .fold(decision, |decision, _| decision.response_header("x-drip", &PIECE))
        }
        _ => Decision::respond(200).body(big()),
    }
}

orchestrator_guests::hostile_routing!(misbehave);
