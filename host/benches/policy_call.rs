//! What one decision costs: a warm instance of a default policy, called as a worker calls it.
//!
//! `cargo bench -p orchestrator --bench policy_call`; the figures are in `wit/README.md`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use orchestrator::config::{Component, Config, Policy};
use orchestrator::policy::{
    Engine, FailedAttempt, Kind, Outcome, RequestFacts, Sizing, Version, Warm,
};
use serde_json::json;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::Semaphore;

/// The gateway's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn decisions(criterion: &mut Criterion) {
    let (config, _) = Config::builtin();
    let engine = Engine::new(Sizing { workers: 1, memory_max: config.routing.limits.memory_max })
        .expect("the pool can be reserved");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");

    let routing = warm(&runtime, &engine, Kind::Routing, &config.routing);
    criterion.bench_function("route, the three default routes", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(route(&routing, count)));
    });

    let routes: Vec<_> = (0..1000)
        .map(|n| json!({ "path_prefix": format!("/team-{n}/api"), "service": "writer" }))
        .chain([json!({ "path_prefix": "/api/enrich", "service": "research" })])
        .collect();
    let many = Policy {
        component: Component::BuiltinRouting,
        config: json!({ "routes": routes }),
        ..config.routing.clone()
    };
    let routing = warm(&runtime, &engine, Kind::Routing, &many);
    criterion.bench_function("route, a thousand routes", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(route(&routing, count)));
    });

    let retry = warm(&runtime, &engine, Kind::Retry, &config.retry);
    criterion.bench_function("judge, a 503", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(judge(&retry, count)));
    });
}

fn warm(runtime: &LocalRuntime, engine: &Engine, kind: Kind, policy: &Policy) -> Rc<Warm> {
    let services = ["writer", "research", "backend"].map(str::to_owned);
    let version = Version::load(engine, kind, policy, &services).expect("a good component");
    runtime
        .block_on(Warm::new(engine, Arc::new(version), Arc::new(Semaphore::new(1))))
        .expect("a good configuration")
}

fn request() -> Box<RequestFacts> {
    let (head, ()) = http::Request::get("/api/enrich/documents/7?lang=en")
        .header("host", "gateway.example:8003")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .body(())
        .expect("a request")
        .into_parts();
    Box::new(RequestFacts {
        head,
        client: [127, 0, 0, 1].into(),
        scheme: "http",
        now_ms: 1_700_000_000_000,
        seed: 42,
        services: Box::default(),
    })
}

async fn route(warm: &Rc<Warm>, count: u64) -> Duration {
    let mut request = request();
    let began = Instant::now();
    for _ in 0..count {
        let answer;
        (request, answer) = warm.route(request).await;
        assert!(answer.expect("a decision").choice.is_some());
    }
    began.elapsed()
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
        (request, verdict) = warm.judge(request, failed).await;
        assert!(verdict.expect("a verdict").again_after_ms.is_some());
    }
    began.elapsed()
}

criterion_group!(benches, decisions);
criterion_main!(benches);
