//! Policies, compiled.

use std::sync::Arc;

use orchestrator::config::Policy;
use orchestrator::policy::{Engine, Kind, Source, Version};
use tokio::runtime::{LocalOptions, LocalRuntime};

pub(crate) fn runtime() -> LocalRuntime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime")
}

pub(crate) fn load(
    runtime: &LocalRuntime,
    engine: &Engine,
    kind: Kind,
    policy: &Policy,
) -> Arc<Version> {
    let services = ["writer", "research", "backend"].map(str::to_owned);
    let source = Source::named(policy).expect("it is built in");
    let loaded = runtime.block_on(Version::load(engine, kind, &source, policy, &services));
    Arc::new(loaded.expect("a good component"))
}
