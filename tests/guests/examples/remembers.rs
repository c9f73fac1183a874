//! Remembers how often it was asked, and says so in its route's name: what no policy may do.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

static ASKED: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
struct Guest(String);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        orchestrator_guests::first_service(setup).map(Guest)
    }

    fn route(&self, _: &Request) -> Decision<'_> {
        let asked = ASKED.fetch_add(1, Relaxed) + 1;
        Decision::forward(&self.0).response_header("x-asked", asked.to_string())
    }
}

orchestrator_policy::export_routing!(Guest);
