//! Refuses every configuration, with three errors.

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest;

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(_: &Setup) -> Result<Self, Vec<ConfigError>> {
        Err(vec![
            ConfigError::new("", "the whole is wrong"),
            ConfigError::new("/routes/0/service", "no such service")
                .suggest("did you mean `writer`?"),
            ConfigError::new("/no~1such/place", "points nowhere"),
        ])
    }

    fn route(&self, _: &Request) -> Decision<'_> {
        Decision::decline()
    }
}
