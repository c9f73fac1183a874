//! Loops without end in `configure`.

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest;

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        let mut turns = setup.config().len() as u64;
        while turns != u64::MAX {
            turns = std::hint::black_box(turns.wrapping_add(2) & !1);
        }
        Ok(Guest)
    }

    fn route(&self, _: &Request) -> Decision<'_> {
        Decision::decline()
    }
}
