//! Warm instances of the default policies, and what they are asked.

use std::rc::Rc;
use std::sync::Arc;

use orchestrator::config::{Component, Config, Policy};
use orchestrator::policy::{
    Circuit, Engine, Health, Kind, Pace, RequestFacts, ServiceState, StateOf, Version, Warm,
};
use serde_json::json;
use tokio::runtime::LocalRuntime;
use tokio::sync::Semaphore;

use crate::loading::load;

/// The routing policy with so many routes.
pub(crate) fn with_routes(config: &Config, count: usize) -> Policy {
    Policy {
        component: Component::BuiltinRouting,
        config: json!({ "routes": routes(count) }),
        ..config.routing.clone()
    }
}

/// Routes of every kind that the index tells apart, the same number of each.
fn routes(count: usize) -> Vec<serde_json::Value> {
    let of_kind = |kind: usize, n: usize| match kind {
        0 => json!({ "path_prefix": format!("/team-{n}/api") }),
        1 => json!({ "path": format!("/users/{{user}}/orders-{n}/{{order}}") }),
        2 => json!({ "path_prefix": "/", "host": format!("h{n}.example") }),
        3 => json!({ "path_prefix": "/", "host": format!("*.w{n}.example") }),
        _ => json!({ "path": "/tenants", "headers": { "x-tenant": format!("t{n}") } }),
    };
    let kinds = 5;
    (0..count)
        .map(|at| {
            // The few are those that the requests are for, 7 and 8.
            let mut route = of_kind(at % kinds, 7 + at / kinds);
            route["service"] = "writer".into();
            route
        })
        .collect()
}

pub(crate) fn warm(
    runtime: &LocalRuntime,
    engine: &Engine,
    kind: Kind,
    policy: &Policy,
) -> Rc<Warm> {
    configured(runtime, engine, load(runtime, engine, kind, policy))
}

pub(crate) fn configured(
    runtime: &LocalRuntime,
    engine: &Engine,
    version: Arc<Version>,
) -> Rc<Warm> {
    let state_of: StateOf =
        Arc::new(|_| ServiceState { circuit: Circuit::Closed, health: Health::Healthy });
    runtime
        .block_on(Warm::new(engine, version, Arc::new(Semaphore::new(1)), state_of))
        .expect("a good configuration")
}

pub(crate) fn facts(target: &str, host: &str) -> Box<RequestFacts> {
    let (head, ()) = http::Request::get(target)
        .header("host", host)
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .header("x-tenant", "t7")
        .body(())
        .expect("a request")
        .into_parts();
    Box::new(RequestFacts {
        head,
        client: [127, 0, 0, 1].into(),
        scheme: "http",
        now_ms: 1_700_000_000_000,
        seed: 42,
        pace: Pace::Quick,
        services: Vec::new(),
    })
}
