//! A thousand swaps of both policies in a minute, under load: no request notices, but that another
//! version decides it.
//!
//! The same load with and without swaps, in turn. Three kinds of traffic: plain requests at 30 % of what
//! the gateway can do, which are timed; requests whose first attempts fail, whose attempts have to be
//! decided and judged by one version each; and streams and uploads, which outlast many swaps.

mod flows;
mod swapper;
mod traffic;

use std::time::{Duration, Instant};

use orchestrator_tests::{Gateway, toml_path};
use tempfile::TempDir;

use self::flows::Flows;
use self::swapper::Swapper;
use self::traffic::{Found, saturation, send};
use crate::bodies::mib;
use crate::endpoint::Endpoint;
use crate::{Verdicts, figure, versions};

const PAIRS: usize = 5;

/// From one swap to the next: a thousand in a minute.
const SWAP_EVERY: Duration = Duration::from_millis(60);

const P99_FACTOR_MAX: f64 = 1.2;
const P99_MORE_MAX_MS: f64 = 2.0;
const RESIDENT_MORE_MAX: u64 = 10 << 20;
const ROLLBACK_MAX_MS: f64 = 10.0;

pub(crate) async fn run(quick: bool, verdicts: &mut Verdicts) {
    let phase = Duration::from_secs(if quick { 1 } else { 12 });
    let swaps = phase.as_millis() / SWAP_EVERY.as_millis();
    let folder = TempDir::new().unwrap();
    let access = folder.path().join("access.log");
    let state_dir = toml_path(&folder.path().join("state"));
    let endpoint = Endpoint::start("/dev/null").await;
    let gateway = Gateway::start(format!(
        "services.writer.endpoints = [\"http://{}\"]\n{}server.workers = 2\nlog.access = {access:?}\n\
         server.state_dir = {state_dir}\nbreaker.failure_threshold = 1000\nproxy.retry_budget_ratio = 10\n",
        endpoint.address,
        versions::first(),
    ))
    .await;
    let mut swapper = Swapper::begin(&gateway).await;
    let most = saturation(gateway.listen, phase / 3).await;
    let per_s = (most * 0.3) as u32;
    figure("load", format!("{per_s} requests/s, 30 % of {most:.0}, streams and uploads"));

    let flows = Flows::begin(gateway.listen);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut swapping = Duration::ZERO;
    let mut before = 0;
    for pair in 0..PAIRS {
        // Whatever drifts counts for both.
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        for swapped in order {
            if !swapped {
                without.push(send(gateway.listen, per_s, phase).await);
                if before == 0 {
                    before = gateway.resident();
                }
                continue;
            }
            let began = Instant::now();
            let (found, ()) = tokio::join!(
                send(gateway.listen, per_s, phase),
                swapper.swap(swaps as usize, SWAP_EVERY)
            );
            swapping += began.elapsed();
            with.push(found);
        }
    }
    // Under the same load as before.
    let last = send(gateway.listen, per_s, phase.min(Duration::from_secs(3))).await;
    let after = gateway.resident();
    let mut flows = flows.end().await;

    figure("streams and uploads", flows.durations());
    let done = swapper.done();
    let wanted = PAIRS * swaps as usize;
    let said = format!("{done} of {wanted} in {swapping:.1?}{}", swapper.failures());
    let in_time = swapping < phase * PAIRS as u32 + Duration::from_secs(1);
    verdicts.verdict(done == wanted && in_time, "all swaps are done, in time", said);

    p99(&mut without, &mut with, verdicts);
    let mut all = Found::default();
    without.into_iter().chain(with).chain([last]).for_each(|found| all.add(found));
    requests(&gateway, all, &swapper, verdicts).await;
    let whole = "no stream and no upload is cut or altered";
    verdicts.verdict(flows.errors == 0 && flows.requests > 0, whole, flows.said());

    let grown = after.saturating_sub(before);
    let said = format!("{} from {}", mib(grown), mib(before));
    verdicts.verdict(grown <= RESIDENT_MORE_MAX, "at most 10 MiB more resident than before", said);
    figure("activations", swapper.activations.said());
    figure("activations of retired versions", swapper.returns.said());
    figure("pushes", swapper.pushes.said());
    let longest = swapper.rollbacks.longest();
    let said = swapper.rollbacks.said();
    verdicts.of_time(longest < ROLLBACK_MAX_MS, "each rollback takes less than 10 ms", said);
}

/// Each pair is compared in itself; of the pairs, the one in the middle counts.
fn p99(without: &mut [Found], with: &mut [Found], verdicts: &mut Verdicts) {
    let mut pairs = Vec::new();
    for (without, with) in without.iter_mut().zip(with) {
        let [before, now] = [without, with].map(|found| found.plain.ms_at(0.99));
        figure("p99 without swaps, with", format!("{before:.2} ms, {now:.2} ms"));
        pairs.push((now / before, now - before));
    }
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (factor, more) = (median(|pair| pair.0), median(|pair| pair.1));
    let said = format!("{factor:.2} times, {more:+.2} ms");
    let holds = factor <= P99_FACTOR_MAX || more <= P99_MORE_MAX_MS;
    verdicts.of_time(holds, "p99 with swaps is at most 1.2 times, or 2 ms more", said);
}

async fn requests(gateway: &Gateway, mut all: Found, swapper: &Swapper, verdicts: &mut Verdicts) {
    figure("plain requests", all.plain.durations());
    figure("requests with failing attempts", all.retried.durations());
    let failed = all.plain.errors + all.retried.errors;
    let said = format!("{}; {}", all.plain.said(), all.retried.said());
    verdicts.verdict(failed == 0, "no request fails, no connection is reset", said);

    // A test that no swap came between would show nothing.
    let [routing, retry] = ["routing", "retry"].map(|kind| {
        let history = swapper.history(kind);
        let attempts = all.seen.iter().filter(|seen| seen.attempts > 1);
        attempts.filter(|seen| history.swapped_between(seen.began, seen.ended)).count()
    });
    let shown: Vec<&String> = all.mixed.iter().take(5).collect();
    let said = format!(
        "{} {shown:?}; of {} with several attempts, {routing} had routing swapped between, {retry} retry",
        all.mixed.len(),
        all.seen.iter().filter(|seen| seen.attempts > 1).count(),
    );
    let holds = all.mixed.is_empty() && routing > 0 && retry > 0;
    verdicts.verdict(holds, "no request's attempts see two versions", said);

    let misfits: Vec<String> = all.seen.iter().filter_map(|seen| swapper.misfit(seen)).collect();
    let shown: Vec<&String> = misfits.iter().take(5).collect();
    let said = format!("{} of {} by another {shown:?}", misfits.len(), all.seen.len());
    let criterion = "each is decided by a version that was active while it was under way";
    verdicts.verdict(misfits.is_empty(), criterion, said);

    let page = gateway.metrics().await;
    let fallbacks = page.sum("orchestrator_policy_fallback_decisions_total", &[]);
    verdicts.verdict(
        fallbacks == 0.0,
        "no version fails",
        format!("{fallbacks} decided by another"),
    );
    let counted = page.sum("orchestrator_policy_swaps_total", &[]);
    figure("orchestrator_policy_swaps_total", counted);
}
