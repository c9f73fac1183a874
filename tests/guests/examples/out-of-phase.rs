//! Calls what may not be called now: `setup` in `route`; and where its configuration says
//! `{"eager": true}`, `exchange` in `configure`.

use orchestrator_policy::config::Document;
use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest(String);

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        let document = Document::parse(setup.config())?;
        if document.table(&["eager"]).get("eager").and_then(|node| node.truth()) == Some(true) {
            call_exchange();
        }
        document.finish(())?;
        orchestrator_guests::first_service(setup).map(Guest)
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        if orchestrator_guests::misbehaves(request) {
            call_setup();
        }
        Decision::forward(&self.0)
    }
}

fn call_setup() {
    #[cfg(target_arch = "wasm32")]
    orchestrator_policy::wire::common::orchestrator::policy::setup::config();
}

fn call_exchange() {
    #[cfg(target_arch = "wasm32")]
    orchestrator_policy::wire::common::orchestrator::policy::exchange::path();
}
