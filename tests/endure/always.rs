//! All endpoints answer 500, which no breaker counts, and the retry policy always says "again": the
//! retry budget alone bounds what the service gets.

use std::time::{Duration, Instant};

use orchestrator_tests::{Gateway, component, toml_path};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::endpoint::{Endpoint, service};
use crate::load::{Caller, Tally, get, pace};
use crate::{Verdicts, figure};

const CLIENTS: u32 = 16;

pub(crate) async fn run(quick: bool, verdicts: &mut Verdicts) {
    // Few requests, of which 10/s is the larger part; then many.
    let phases = match quick {
        true => [(20, 3), (1_500, 5)],
        false => [(20, 15), (1_500, 45)],
    };
    let folder = TempDir::new().unwrap();
    let access = folder.path().join("access.log");
    let endpoints = [Endpoint::start("/dev/null").await, Endpoint::start("/dev/null").await];
    let service = service(&[&endpoints[0], &endpoints[1]]);
    let again = toml_path(&component("retry-always"));
    let began = Instant::now();
    let gateway = Gateway::start(format!(
        "{service}\npolicy.retry.component = {again}\nserver.workers = 2\nlog.access = {access:?}\n"
    ))
    .await;
    let mut all = Tally::default();
    for (per_s, seconds) in phases {
        let time = Duration::from_secs(seconds);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let address = gateway.listen;
            clients.spawn(async move {
                let mut tally = Tally::default();
                let mut caller = Caller::new(address);
                let mut ticks = pace(per_s, CLIENTS);
                let began = Instant::now();
                while began.elapsed() < time {
                    ticks.tick().await;
                    let at = Instant::now();
                    tally.count(500, at, &caller.call(&get("/fail")).await);
                }
                tally
            });
        }
        while let Some(tally) = clients.join_next().await {
            all.add(tally.unwrap());
        }
        let attempts = endpoints[0].count().await + endpoints[1].count().await;
        // From the start, for what was saved up comes out of the ten a second; and one second's worth
        // is there to begin with.
        let seconds = began.elapsed().as_secs_f64() + 1.0;
        let most = 1.2 * all.requests as f64 + 10.0 * seconds;
        let said =
            format!("{attempts} of {most:.0} for {} requests in {seconds:.1} s", all.requests);
        let criterion = format!("at {per_s} requests/s, attempts ≤ 1.2 × requests + 10/s");
        verdicts.verdict(attempts as f64 <= most, &criterion, said);
        // Else the policy was not asked, and nothing was shown.
        let least = 1.15 * all.requests as f64;
        let used = format!("{attempts}, at least {least:.0}");
        verdicts.verdict(attempts as f64 >= least, "the policy's will is done that far", used);
    }
    figure("durations", all.durations());
    verdicts.verdict(
        all.errors == 0,
        "each request is answered with its service's 500",
        all.said(),
    );
}
