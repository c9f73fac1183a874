//! What becomes of a guest at the end of each of its ticks, and which fault it was that ended one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::{StoreContextMut, UpdateDeadline};

use super::Fault;
use super::bindings::{Host, Phase, TooMuch};
use super::engine::{EPOCH, EPOCHS_A_TICK, TICK, Ticker};
use super::gate::Strain;
use crate::config::PolicyLimits;

/// Decisions of one version that may overrun at once on a worker; a further one ends at its first
/// tick. The rest of the instances is for those that do not.
pub(super) fn overruns_max(limits: &PolicyLimits) -> usize {
    (limits.instances_max as usize / 2).max(1)
}

/// A decision that has run for so many ticks itself runs away: others get less than a tick at once.
const RUNS_AWAY_TICKS: u32 = 2;

/// How long a decision runs undisturbed, in epochs, where `usual` is what one takes: a tick, and while
/// decisions run away no longer than twice as long as usual.
pub(super) fn first_slice(ticker: &Ticker, usual: Duration) -> u32 {
    if !ticker.hurries() {
        return EPOCHS_A_TICK;
    }
    let usual = (usual.as_micros() / EPOCH.as_micros()).try_into().unwrap_or(EPOCHS_A_TICK);
    (1 + usual.saturating_mul(2)).min(EPOCHS_A_TICK)
}

/// A time in ticks of [`TICK`].
pub(super) fn ticks(time: Duration) -> u32 {
    time.as_millis().try_into().unwrap_or(u32::MAX)
}

/// Runs whenever a guest meets the end of its tick: another turn, or the end of the call.
pub(super) fn overrun(
    mut store: StoreContextMut<'_, Host>,
    ticker: &Ticker,
    (place, strain): (&Arc<Semaphore>, &Strain),
    overruns: &Arc<Semaphore>,
) -> wasmtime::Result<UpdateDeadline> {
    // The ticker must not rest while a guest is being counted.
    ticker.want();
    let host = store.data_mut();
    let decides = !matches!(host.phase, Phase::Configure);
    let slices = &mut host.slices;
    slices.used += std::mem::replace(&mut slices.granted, EPOCHS_A_TICK);
    if decides {
        strain.overran();
    }
    *slices.turn.lock().expect("nobody panics while holding it") = None;
    let own_ticks = slices.used / EPOCHS_A_TICK;
    if own_ticks >= slices.max {
        let key = if decides { "decision_timeout" } else { "configure_timeout" };
        let text = format!("ran for {} ms (its limit is `{key}`)", slices.max);
        return Err(TimedOut::Own(text).into());
    }
    if decides && own_ticks >= RUNS_AWAY_TICKS {
        ticker.hurry();
    }
    if decides && slices.overrun.is_none() {
        let Ok(place) = overruns.clone().try_acquire_owned() else {
            let text = "overran while as many did so already as may: half of `instances_max`";
            return Err(TimedOut::Own(text.into()).into());
        };
        slices.overrun = Some(place);
    }
    let now = Instant::now();
    if now >= *slices.wall_end.get_or_insert(now + slices.wall_max) {
        let text = format!(
            "took {:?} by the wall clock, {} ms of it its own (its limit is `wall_timeout`)",
            slices.wall_max, own_ticks
        );
        return Err(TimedOut::Wall { text, own_ticks }.into());
    }
    if !decides {
        // Decisions wait for this instance: those that overrun must not keep it from them.
        return Ok(UpdateDeadline::YieldCustom(
            EPOCHS_A_TICK.into(),
            Box::pin(tokio::time::sleep(TICK)),
        ));
    }
    let (place, turn) = (place.clone(), slices.turn.clone());
    let wait = async move {
        let permit = place.acquire_owned().await.expect("the semaphore is never closed");
        // Two ticks for everybody else, then one for this guest, which keeps the only place meanwhile:
        // any number of runaways together get a third of the worker.
        tokio::time::sleep(2 * TICK).await;
        *turn.lock().expect("nobody panics while holding it") = Some(permit);
    };
    Ok(UpdateDeadline::YieldCustom(EPOCHS_A_TICK.into(), Box::pin(wait)))
}

#[derive(Debug, thiserror::Error)]
enum TimedOut {
    /// By the time that the guest itself ran.
    #[error("{0}")]
    Own(String),
    #[error("{text}")]
    Wall { text: String, own_ticks: u32 },
}

pub(super) fn fault_of(error: &wasmtime::Error) -> Fault {
    match error.downcast_ref::<TimedOut>() {
        Some(TimedOut::Own(text)) => return Fault::Timeout(text.clone()),
        Some(TimedOut::Wall { text, own_ticks }) => {
            return Fault::WallClock { text: text.clone(), own_ticks: *own_ticks };
        }
        None => {}
    }
    if let Some(TooMuch(text)) = error.downcast_ref() {
        return Fault::Result(text.clone());
    }
    let text = error.root_cause().to_string();
    // wasmtime has no types for what these limits of its own refuse, and its words do not name the
    // keys that set them.
    if text.contains("growing memory") {
        return Fault::Memory(format!("{} (its limit is `memory_max`)", excerpt(&text)));
    }
    if text.contains("growing table") {
        return Fault::Table(format!("{} (its limit is `table_elements_max`)", excerpt(&text)));
    }
    if text.contains("call stack exhausted") {
        return Fault::Stack(format!("{} (its limit is `stack_max`)", excerpt(&text)));
    }
    if text.contains("fuel allocated for hostcalls") {
        return Fault::Result(format!("{} (its limit is `result_max`)", excerpt(&text)));
    }
    Fault::Trap(excerpt(text.strip_prefix("wasm trap: ").unwrap_or(&text)))
}

/// A guest's words for the log: not more than a line's worth, without control characters.
pub(super) fn excerpt(text: &str) -> String {
    harmless(text, 300)
}

/// The same of a whole refusal, which also says what to do.
pub(super) fn refusal(text: &str) -> String {
    harmless(text, 1000)
}

fn harmless(text: &str, characters_max: usize) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(characters_max)
        .collect()
}
