//! Helpful: uses every part of an answer: `/respond` answers itself, all else is forwarded.

use std::time::Duration;

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
        let decision = match request.path().as_str() {
            "/respond" => Decision::respond(418)
                .body("{\"teapot\": true}")
                .response_header("content-type", "application/json"),
            _ => Decision::forward(&self.0).path("/rewritten?by=policy"),
        };
        decision
            .timeout(Duration::from_secs(5))
            .attempt_timeout(Duration::from_secs(1))
            .request_body_max(1024)
            .request_header("x-added", "by the policy")
            .remove_request_header("x-removed")
            .response_header("x-policy", "everything")
            .remove_response_header("server")
            .affinity("a user")
            .route_name("everything")
    }
}
