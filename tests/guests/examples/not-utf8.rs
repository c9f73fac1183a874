//! Helpful: sets header values that are not UTF-8, which is legal, on both sides, and sends the
//! bytes of the request's `x-bytes` back in the response's.

use orchestrator_guests::first_service;
use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest(String);

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        first_service(setup).map(Guest)
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        let decision = Decision::forward(&self.0)
            .request_header("x-latin-1", b"caf\xe9")
            .response_header("x-latin-1", b"caf\xe9");
        match request.header("x-bytes") {
            Some(value) => decision.response_header("x-bytes", value),
            None => decision,
        }
    }
}
