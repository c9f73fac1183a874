//! What one decision costs: a warm instance of a default policy, called as a worker calls it.
//!
//! `cargo bench -p orchestrator --bench policy_call`; the figures are in `wit/README.md`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use orchestrator::config::{Component, Config, Policy};
use orchestrator::policy::{
    Circuit, Engine, FailedAttempt, Fault, Health, Kind, Outcome, RequestFacts, ServiceState,
    Sizing, Source, StateOf, Version, Warm,
};
use serde_json::json;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::Semaphore;

/// The gateway's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a call waits for an instance.
const INSTANCE_PATIENCE: Duration = Duration::from_millis(100);

fn decisions(criterion: &mut Criterion) {
    let (config, _) = Config::builtin();
    let program = env!("CARGO_BIN_EXE_orchestrator");
    let engine = Engine::new(Sizing::of(1, [&config.routing.limits]), program.into())
        .expect("the pool can be reserved");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");

    let routing = warm(&runtime, &engine, Kind::Routing, &config.routing);
    criterion.bench_function("route, the three default routes", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(route(&routing, count)));
    });

    // What ten thousand routes may cost: at most twice ten (`routes` says what they are).
    for count in [10, 10_000] {
        let many = Policy {
            component: Component::BuiltinRouting,
            config: json!({ "routes": routes(count) }),
            ..config.routing.clone()
        };
        let version = load(&runtime, &engine, Kind::Routing, &many);
        // Ten thousand take seconds.
        let mut building = criterion.benchmark_group("two instances");
        building.sample_size(10).bench_function(format!("{count} routes"), |bencher| {
            bencher.iter(|| configured(&runtime, &engine, version.clone()));
        });
        building.finish();
        let routing = configured(&runtime, &engine, version);
        for (what, path, host) in [
            ("a prefix", "/team-7/api/documents/7", "gateway.example"),
            ("braces", "/users/42/orders-7/9", "gateway.example"),
            ("a host", "/", "h7.example"),
            ("a wildcard host", "/", "a.w7.example"),
            ("a header", "/tenants", "gateway.example"),
            ("nothing", "/nowhere/at/all", "gateway.example"),
        ] {
            criterion.bench_function(&format!("route, {what}, {count} routes"), |bencher| {
                bencher.iter_custom(|count| {
                    runtime.block_on(route_to(&routing, facts(path, host), count))
                });
            });
        }
    }

    let retry = warm(&runtime, &engine, Kind::Retry, &config.retry);
    criterion.bench_function("judge, a 503", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(judge(&retry, count)));
    });
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

fn warm(runtime: &LocalRuntime, engine: &Engine, kind: Kind, policy: &Policy) -> Rc<Warm> {
    configured(runtime, engine, load(runtime, engine, kind, policy))
}

fn load(runtime: &LocalRuntime, engine: &Engine, kind: Kind, policy: &Policy) -> Arc<Version> {
    let services = ["writer", "research", "backend"].map(str::to_owned);
    let source = Source::named(policy).expect("it is built in");
    let loaded = runtime.block_on(Version::load(engine, kind, &source, policy, &services));
    Arc::new(loaded.expect("a good component"))
}

fn configured(runtime: &LocalRuntime, engine: &Engine, version: Arc<Version>) -> Rc<Warm> {
    let state_of: StateOf =
        Arc::new(|_| ServiceState { circuit: Circuit::Closed, health: Health::Healthy });
    runtime
        .block_on(Warm::new(engine, version, Arc::new(Semaphore::new(1)), state_of))
        .expect("a good configuration")
}

fn request() -> Box<RequestFacts> {
    facts("/api/enrich/documents/7?lang=en", "gateway.example:8003")
}

fn facts(target: &str, host: &str) -> Box<RequestFacts> {
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
        overran: false,
        services: Vec::new(),
    })
}

async fn route(warm: &Rc<Warm>, count: u64) -> Duration {
    route_to(warm, request(), count).await
}

async fn route_to(warm: &Rc<Warm>, mut request: Box<RequestFacts>, count: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut began = Instant::now();
    let mut left = count;
    while left > 0 {
        let answer;
        (request, answer) = warm.route(request).await;
        match answer {
            Ok(_) => left -= 1,
            // An instance is replaced after a million calls. Between requests a gateway has time to build
            // the next one; here it gets some, which is not counted.
            Err(Fault::NoInstance(_)) => {
                took += began.elapsed().saturating_sub(INSTANCE_PATIENCE);
                tokio::time::sleep(INSTANCE_PATIENCE).await;
                began = Instant::now();
            }
            Err(fault) => panic!("no decision: {fault}"),
        }
    }
    took + began.elapsed()
}

async fn judge(warm: &Rc<Warm>, count: u64) -> Duration {
    let mut request = request();
    let began = Instant::now();
    for _ in 0..count {
        let failed = Box::new(FailedAttempt {
            service: 1,
            number: 1,
            elapsed_ms: 3,
            remaining_ms: 29_997,
            outcome: Outcome::Status(503),
            sent: true,
            idempotent: true,
            replayable: true,
            others_left: 0,
            retry_after_ms: None,
            headers: None,
        });
        let verdict;
        (request, _, verdict) = warm.judge(request, failed).await;
        assert!(verdict.expect("a verdict").again_after_ms.is_some());
    }
    began.elapsed()
}

criterion_group!(benches, decisions);
criterion_main!(benches);
