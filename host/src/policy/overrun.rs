//! What becomes of a guest at the end of each of its ticks, and which fault it was that ended one.
//!
//! A guest is interrupted between two instructions only, and one that fills its memory may take a hundred
//! ticks. So it is charged what it ran, not what it was granted, and others get the more time after it.
//! The first slice is an exception: nobody looks at a clock when it begins, but for the decisions that
//! come soon after one that was long (`gate.rs`). Nor does anybody know what the machine did meanwhile: so a decision has
//! overrun only once a clock has said so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{StoreContextMut, UpdateDeadline};

use super::Fault;
use super::bindings::{Host, Phase, TooMuch, Turn};
use super::engine::{EPOCH, EPOCHS_A_TICK, TICK, Ticker};
use super::gate::Strain;
use crate::config::PolicyLimits;

/// Decisions of one version that may overrun at once on a worker; a further one ends once it has run its
/// first slice. The rest of the instances is for those that do not.
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
    epochs(usual).saturating_mul(2).saturating_add(1).min(EPOCHS_A_TICK)
}

/// A time in ticks of [`TICK`].
pub(super) fn ticks(time: Duration) -> u32 {
    time.as_millis().try_into().unwrap_or(u32::MAX)
}

/// The time that this thread ran itself: what others on the machine have does not count.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// In whole ones.
fn epochs(time: Duration) -> u32 {
    (time.as_micros() / EPOCH.as_micros()).try_into().unwrap_or(u32::MAX)
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
    let turn = slices.turn.lock().expect("nobody panics while holding it").take();
    let Some(began) = turn.map(|turn| turn.began).or(slices.began.take()) else {
        // Nobody looked at a clock when it began. It is taken to have had its slice, and has a little more, on
        // the clock: one that the machine has kept from running ends within that, and nothing has happened.
        slices.began = Some(thread_time().saturating_sub(EPOCH * slices.granted));
        slices.granted += 1;
        return Ok(UpdateDeadline::Continue(2));
    };
    let ran = epochs(thread_time().saturating_sub(began));
    if ran < slices.granted {
        // The machine kept it from its slice, which goes on: it has not overrun.
        slices.began = Some(began);
        return Ok(UpdateDeadline::Continue((slices.granted - ran).into()));
    }
    slices.granted = EPOCHS_A_TICK;
    slices.used = slices.used.saturating_add(ran);
    if decides {
        strain.overran();
    }
    let own_ticks = slices.used / EPOCHS_A_TICK;
    if own_ticks >= slices.max {
        let key = if decides { "decision_timeout" } else { "configure_timeout" };
        let text = format!("ran for {own_ticks} ms (its limit is `{key}`)");
        return Err(TimedOut(text).into());
    }
    if decides && own_ticks >= RUNS_AWAY_TICKS {
        ticker.hurry();
    }
    if decides && slices.overrun.is_none() {
        let Ok(place) = overruns.clone().try_acquire_owned() else {
            let text = "overran while as many did so already as may: half of `instances_max`";
            return Err(TimedOut(text.into()).into());
        };
        slices.overrun = Some(place);
    }
    // For each tick that it ran: what kept it longer keeps the others from more.
    let share = TICK.max(EPOCH * ran);
    let (place, turn) = (place.clone(), slices.turn.clone());
    let wait = async move {
        let place = match decides {
            true => Some(place.acquire_owned().await.expect("the semaphore is never closed")),
            // Decisions wait for this instance: those that overrun must not keep it from them.
            false => None,
        };
        // Three ticks for everybody else, then one for this guest, which keeps the only place meanwhile:
        // any number of runaways together get a quarter of the worker.
        tokio::time::sleep(if decides { 3 * share } else { share }).await;
        begin(&turn, place);
    };
    Ok(UpdateDeadline::YieldCustom(EPOCHS_A_TICK.into(), Box::pin(wait)))
}

/// Notes that a further slice begins.
fn begin(turn: &Mutex<Option<Turn>>, place: Option<OwnedSemaphorePermit>) {
    let begins = Turn { place, began: thread_time() };
    *turn.lock().expect("nobody panics while holding it") = Some(begins);
}

/// By the time that the guest itself ran.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TimedOut(String);

pub(super) fn fault_of(error: &wasmtime::Error) -> Fault {
    if let Some(TimedOut(text)) = error.downcast_ref() {
        return Fault::Timeout(text.clone());
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use wasmtime::component::ResourceTable;
    use wasmtime::{AsContextMut, Store, StoreLimits};
    use wasmtime_wasi::WasiCtxBuilder;

    use super::*;
    use crate::config::Config;
    use crate::policy::bindings::{Setup, Slices};
    use crate::policy::facts::{Answer, Circuit, Health, RetryAnswer, ServiceState};
    use crate::policy::{Engine, Kind, Sizing, cases};

    /// A decision that has begun, on a worker with so many places for those that overrun.
    struct Begun {
        engine: Engine,
        store: Store<Host>,
        strain: Strain,
        places: Arc<Semaphore>,
    }

    impl Begun {
        fn new(places: usize, granted: u32, began: Option<Duration>) -> Begun {
            let (config, _) = Config::builtin();
            let sizing = Sizing::of(1, [&config.routing.limits]);
            let engine = Engine::new(sizing, "/nowhere".into()).expect("the pool can be reserved");
            let probe = &cases::probes(Kind::Routing, &[])[0];
            let limits = &config.routing.limits;
            let host = Host {
                wasi: WasiCtxBuilder::new().build(),
                table: ResourceTable::new(),
                limits: StoreLimits::default(),
                setup: Arc::new(Setup { config: "{}".into(), services: Vec::new() }),
                state_of: Arc::new(|_| ServiceState {
                    circuit: Circuit::Closed,
                    health: Health::Unknown,
                }),
                phase: Phase::Route(probe.request()),
                answer: Answer::default(),
                verdict: RetryAnswer::default(),
                slices: Slices {
                    granted,
                    began,
                    max: ticks(limits.decision_timeout),
                    ..Slices::default()
                },
                header_edits: 0,
                handed_over: 0,
                result_max: limits.result_max,
                random: 0,
                call_seed: Arc::default(),
            };
            let store = Store::new(&engine.wasmtime, host);
            let places = Arc::new(Semaphore::new(places));
            Begun { engine, store, strain: Strain::default(), places }
        }

        fn overrun(&mut self) -> wasmtime::Result<UpdateDeadline> {
            let (store, place) = (self.store.as_context_mut(), Arc::new(Semaphore::new(1)));
            overrun(store, &self.engine.ticker, (&place, &self.strain), &self.places)
        }

        fn used(&self) -> u32 {
            self.store.data().slices.used
        }
    }

    /// Until this thread has run for so long.
    fn run_until(time: Duration) {
        while thread_time() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_one_ran_is_charged_beyond_its_slice() {
        let mut begun = Begun::new(1, 1, Some(Duration::ZERO));
        run_until(20 * TICK);
        let ended = begun.overrun().err().expect("it may run for ten ticks");
        assert!(ended.to_string().contains("`decision_timeout`"), "{ended}");
        assert!(begun.used() >= 20 * EPOCHS_A_TICK);
    }

    #[tokio::test]
    async fn others_get_three_times_what_one_ran() {
        let mut begun = Begun::new(1, 1, None);
        run_until(5 * TICK);
        begun.store.data_mut().slices.began = Some(thread_time() - 5 * TICK);
        let goes_on = begun.overrun().expect("it may run for ten ticks");
        let UpdateDeadline::YieldCustom(_, pause) = goes_on else { panic!("others go first") };
        let paused = Instant::now();
        pause.await;
        assert!(paused.elapsed() >= 15 * TICK, "{:?}", paused.elapsed());
    }

    #[test]
    fn where_no_further_one_may_overrun_one_that_had_its_slice_ends() {
        let mut begun = Begun::new(0, 1, None);
        let more = begun.overrun().expect("nobody knows whether it had");
        assert!(matches!(more, UpdateDeadline::Continue(2)));
        assert!(!begun.strain.is_felt() && begun.used() == 0, "it may end within that");
        run_until(thread_time() + TICK);
        let ended = begun.overrun().err().expect("it ends");
        assert!(ended.to_string().contains("as many did so"), "{ended}");
    }

    #[test]
    fn one_that_the_machine_held_up_has_not_overrun() {
        let mut begun = Begun::new(0, EPOCHS_A_TICK, None);
        begun.store.data_mut().slices.began = Some(thread_time());
        for _ in 0..3 {
            let goes_on = begun.overrun().expect("it has hardly run");
            assert!(matches!(goes_on, UpdateDeadline::Continue(1..=8)));
        }
        assert_eq!(begun.used(), 0);
        assert!(!begun.strain.is_felt());
    }
}
