//! Tries to smuggle a header by CR LF: `/evil/request-value`, `/evil/request-name`,
//! `/evil/response-value`, `/evil/response-name`; a lone `/evil/lf`, `/evil/cr` and `/evil/nul`.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(request: &Request, service: &'a str) -> Decision<'a> {
    let decision = Decision::forward(service);
    match orchestrator_guests::trick(request).as_str() {
        "request-value" => decision.request_header("x-a", "1\r\nx-smuggled: 1"),
        "request-name" => decision.request_header("x-a: 1\r\nx-smuggled", "1"),
        "response-name" => decision.response_header("x-a: 1\r\nx-smuggled", "1"),
        "lf" => decision.response_header("x-a", "1\nx-smuggled: 1"),
        "cr" => decision.response_header("x-a", "1\rx-smuggled: 1"),
        "nul" => decision.response_header("x-a", "1\0"),
        _ => decision.response_header("x-a", "1\r\nx-smuggled: 1"),
    }
}

orchestrator_guests::hostile_routing!(misbehave);
