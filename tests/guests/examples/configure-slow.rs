//! Takes its time in `configure`, tens of milliseconds, and traps where it misbehaves.

use std::hint::black_box;

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest(String);

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        let mut state = 1_u64;
        for _ in 0..60_000_000 {
            state = black_box(state ^ (state << 13) ^ (state >> 7));
        }
        orchestrator_guests::first_service(setup).map(Guest)
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        assert!(!orchestrator_guests::misbehaves(request), "a guest that panics on purpose");
        Decision::forward(&self.0)
    }
}
