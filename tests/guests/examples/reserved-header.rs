//! Sets a header that belongs to the host: `/evil/request/<name>`, `/evil/response/<name>`, and
//! `/evil/remove/<name>` removes one from the request. Else `transfer-encoding` of the request.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(request: &Request, service: &'a str) -> Decision<'a> {
    let decision = Decision::forward(service);
    let trick = orchestrator_guests::trick(request);
    match trick.split_once('/') {
        Some(("request", name)) => decision.request_header(name.to_owned(), "1"),
        Some(("response", name)) => decision.response_header(name.to_owned(), "1"),
        Some(("remove", name)) => decision.remove_request_header(name.to_owned()),
        _ => decision.request_header("transfer-encoding", "chunked"),
    }
}

orchestrator_guests::hostile_routing!(misbehave);
