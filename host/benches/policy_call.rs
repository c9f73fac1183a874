//! What one decision costs: a warm instance of a default policy, called as a worker calls it.
//!
//! `cargo bench -p orchestrator --bench policy_call`; the figures are in `wit/README.md`.

#[path = "common/decisions.rs"]
mod decisions;
#[path = "common/loading.rs"]
mod loading;

use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use orchestrator::config::Config;
use orchestrator::policy::{
    Engine, FailedAttempt, Fault, Kind, Outcome, RequestFacts, Sizing, Warm,
};

use decisions::{configured, facts, warm, with_routes};
use loading::{load, runtime};

/// The gateway's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many calls share the time at which they began, which a gateway knows in any case.
const CALLS_PER_TIME: u64 = 1024;

/// How long a call waits for an instance.
const INSTANCE_PATIENCE: Duration = Duration::from_millis(100);

fn measure(criterion: &mut Criterion) {
    let (config, _) = Config::builtin();
    let program = env!("CARGO_BIN_EXE_orchestrator");
    let engine = Engine::new(Sizing::of(1, [&config.routing.limits]), program.into())
        .expect("the pool can be reserved");
    let runtime = runtime();

    let routing = warm(&runtime, &engine, Kind::Routing, &config.routing);
    criterion.bench_function("route, the three default routes", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(route(&routing, count)));
    });

    // What ten thousand routes may cost: at most twice ten (`with_routes` says what they are).
    for count in [10, 10_000] {
        let many = with_routes(&config, count);
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

fn request() -> Box<RequestFacts> {
    facts("/api/enrich/documents/7?lang=en", "gateway.example:8003")
}

async fn route(warm: &Rc<Warm>, count: u64) -> Duration {
    route_to(warm, request(), count).await
}

async fn route_to(warm: &Rc<Warm>, mut request: Box<RequestFacts>, count: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut began = Instant::now();
    let mut call_began = began;
    let mut left = count;
    while left > 0 {
        if left.is_multiple_of(CALLS_PER_TIME) {
            call_began = Instant::now();
        }
        let answer;
        (request, answer) = warm.route(&mut call_began, request).await;
        match answer {
            Ok(_) => left -= 1,
            // An instance is replaced after a million calls. Between requests a gateway has time to build
            // the next one; here it gets some, which is not counted.
            Err(Fault::NoInstance { .. }) => {
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
        (request, _, verdict) = warm.judge(&mut Instant::now(), request, failed).await;
        assert!(verdict.expect("a verdict").again_after_ms.is_some());
    }
    began.elapsed()
}

criterion_group!(benches, measure);
criterion_main!(benches);
