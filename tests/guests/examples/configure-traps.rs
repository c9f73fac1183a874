//! Panics in `configure`.

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest;

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        assert!(setup.config().is_empty(), "a guest that panics in `configure` on purpose");
        Ok(Guest)
    }

    fn route(&self, _: &Request) -> Decision<'_> {
        Decision::decline()
    }
}
