//! One instance of a version: built and configured, and asked for decisions.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use wasmtime::component::{ComponentType, Lift, ResourceTable, TypedFunc};
use wasmtime::{Store, StoreLimitsBuilder};

use super::bindings::{Host, Phase, Slices};
use super::engine::EPOCHS_A_TICK;
use super::facts::{Answer, Came, Pace, RetryAnswer};
use super::overrun::{excerpt, fault_of, first_slice, overrun, refusal, thread_time, ticks};
use super::versions::{ConfigError, LoadError, Step, Version};
use super::warm::Warm;
use super::wasi::{self, CallSeed};
use super::{Fault, Kind};
use crate::config::PolicyLimits;

/// Of so many decisions of an instance one is timed, the first included.
const SAMPLED_EVERY: u32 = 64;

/// Host handles (streams and the like) that an instance may hold.
const HANDLES_MAX: usize = 64;

/// What `configure` may take by the wall clock, for each tick of its own that it may run: it gets one
/// tick in two, beside others.
const CONFIGURE_WALL_FACTOR: u32 = 6;

type Configure = TypedFunc<(), (Result<(), Vec<WireConfigError>>,)>;
type Decide = TypedFunc<(), (Result<(), String>,)>;

#[derive(ComponentType, Lift)]
#[component(record)]
struct WireConfigError {
    pointer: String,
    message: String,
    suggestion: Option<String>,
}

pub(super) struct Instance {
    store: Store<Host>,
    decide: Decide,
    /// How many decisions it was asked for.
    pub(super) calls: u32,
}

/// What a call came to, and whether its instance is as good as before.
pub(super) struct Returned(pub(super) Result<Came, Fault>, bool);

impl Returned {
    pub(super) fn is_reusable(&self) -> bool {
        self.1
    }
}

impl Instance {
    /// One more for `warm`, configured.
    pub(super) async fn build(warm: &Warm) -> Result<Instance, LoadError> {
        let mut store = store(warm);
        let wall_max = CONFIGURE_WALL_FACTOR * warm.version.limits.configure_timeout;
        let began = Instant::now();
        let set_up = {
            let set_up = pin!(set_up(&warm.version, &mut store));
            within(set_up, || began + wall_max).await
        };
        let decide = set_up.unwrap_or_else(|| {
            Err(LoadError::Configure(wall_clock(&store, wall_max, "configure_timeout")))
        })?;
        let mut instance = Instance { store, decide, calls: 0 };
        instance.end(Pace::Quick);
        Ok(instance)
    }

    /// The ticks that the last call ran itself beyond its first slice, or that configuring it took.
    pub(super) fn own_ticks(&self) -> u32 {
        self.store.data().slices.used / EPOCHS_A_TICK
    }

    /// One call: `phase` goes into the store and comes back out of it, whatever happened.
    pub(super) async fn decide(
        &mut self,
        warm: &Warm,
        began: Instant,
        phase: Phase,
        attempt: u64,
    ) -> (Phase, Returned) {
        let ticker = &*warm.engine.ticker;
        ticker.want();
        let slice = first_slice(ticker, warm.usual.get());
        self.begin(phase, attempt, &warm.version.limits, slice);
        let strain = &*warm.gate.strain;
        let timed_from = strain.take_timed().then(thread_time);
        self.store.data_mut().slices.began = timed_from;
        let sampled = self.calls % SAMPLED_EVERY == 1 && slice == EPOCHS_A_TICK;
        let wall_max = warm.version.limits.wall_timeout;
        let returned = {
            let call = pin!(self.decide.call_async(&mut self.store, ()));
            within(call, || began + wall_max).await
        };
        let pace = match timed_from {
            _ if self.store.data().slices.used > 0 => Pace::Overran,
            Some(from) => strain.ran(thread_time().saturating_sub(from)),
            None => Pace::Quick,
        };
        if sampled && self.store.data().slices.used == 0 {
            let usual = warm.usual.get();
            warm.usual.set(usual - usual / 8 + began.elapsed() / 8);
        }
        let returned = returned.ok_or_else(|| wall_clock(&self.store, wall_max, "wall_timeout"));
        let (phase, came) = self.end(pace);
        let returned = match returned {
            Ok(Ok((Ok(()),))) => Returned(Ok(came), true),
            Ok(Ok((Err(reason),))) => Returned(Err(Fault::CannotDecide(excerpt(&reason))), true),
            // Where a result cannot be read, the instance would be usable, but what it holds for the
            // host has not been given back.
            Ok(Err(error)) => Returned(Err(fault_of(&error)), false),
            Err(fault) => Returned(Err(fault), false),
        };
        (phase, returned)
    }

    fn begin(&mut self, phase: Phase, attempt: u64, limits: &PolicyLimits, slice: u32) {
        self.calls += 1;
        let host = self.store.data_mut();
        let (Phase::Route(request) | Phase::Judge(request, _)) = &phase else {
            unreachable!("only decisions are called through here");
        };
        // One stream for each request, kind and attempt (routing is attempt 0): a recorded decision
        // restarts where it began.
        host.random = request.seed ^ attempt.wrapping_mul(0xa076_1d64_78bd_642f);
        host.call_seed.random.store(host.random ^ 0xe703_7ed1_a0b4_28db, Ordering::Relaxed);
        host.call_seed.now_ms.store(request.now_ms, Ordering::Relaxed);
        host.phase = phase;
        host.handed_over = 0;
        host.header_edits = 0;
        host.slices.used = 0;
        host.slices.max = ticks(limits.decision_timeout);
        host.slices.granted = slice;
        // Before every call: with a stale deadline the guest would yield at once. One more, because the next
        // epoch may come at any moment, and must not interrupt a decision that has only begun.
        self.store.set_epoch_deadline(u64::from(slice) + 1);
    }

    /// Takes the phase back, and what was answered, and gives up the turn of a runaway.
    fn end(&mut self, pace: Pace) -> (Phase, Came) {
        let host = self.store.data_mut();
        if host.slices.used > 0 {
            *host.slices.turn.lock().expect("nobody panics while holding it") = None;
            host.slices.overrun = None;
        }
        let mut phase = std::mem::replace(&mut host.phase, Phase::Idle);
        if let Phase::Route(request) | Phase::Judge(request, _) = &mut phase {
            request.pace = pace;
        }
        let came = match phase {
            Phase::Judge(..) => Came::Judged(std::mem::take(&mut host.verdict)),
            _ => Came::Routed(std::mem::take(&mut host.answer)),
        };
        (phase, came)
    }
}

fn store(warm: &Warm) -> Store<Host> {
    let (version, limits) = (&*warm.version, &warm.version.limits);
    let seed = Arc::new(CallSeed::default());
    let host = Host {
        wasi: wasi::context(version.kind.name(), &seed, version.seed, &warm.output),
        table: {
            let mut table = ResourceTable::new();
            table.set_max_capacity(HANDLES_MAX);
            table
        },
        limits: StoreLimitsBuilder::new()
            .memory_size(limits.memory_max)
            .memories(1)
            .instances(limits.core_instances_max as usize)
            .tables(limits.tables_max as usize)
            .table_elements(limits.table_elements_max)
            .trap_on_grow_failure(true)
            .build(),
        setup: version.setup.clone(),
        state_of: warm.state_of.clone(),
        phase: Phase::Configure,
        answer: Answer::default(),
        verdict: RetryAnswer::default(),
        slices: Slices {
            used: 0,
            granted: EPOCHS_A_TICK,
            began: Some(thread_time()),
            max: ticks(limits.configure_timeout),
            turn: Arc::default(),
            overrun: None,
        },
        header_edits: 0,
        handed_over: 0,
        result_max: limits.result_max,
        random: 0,
        call_seed: seed,
    };
    let mut store = Store::new(&warm.engine.wasmtime, host);
    store.limiter(|host| &mut host.limits);
    // One allowance for a single call of a host function; their sum is counted in `Host`. The
    // margin lets the host's own count come first, since its message names the limit.
    store.set_hostcall_fuel(limits.result_max.saturating_mul(2).max(64 << 10));
    store.set_max_component_handles(HANDLES_MAX);
    let (place, strain) = (warm.runaway.clone(), warm.gate.strain.clone());
    let overruns = warm.overruns.clone();
    let ticker = warm.engine.ticker.clone();
    store.epoch_deadline_callback(move |store| {
        overrun(store, &ticker, (&place, &strain), &overruns)
    });
    store.set_epoch_deadline(u64::from(EPOCHS_A_TICK) + 1);
    warm.engine.ticker.want();
    store
}

/// Instantiates and configures. What comes back makes its decisions.
async fn set_up(version: &Version, store: &mut Store<Host>) -> Result<Decide, LoadError> {
    let configured = |error: wasmtime::Error| LoadError::Configure(fault_of(&error));
    let instantiated = |error: wasmtime::Error| {
        let text = format!("{error:#}");
        let key = "core_instances_max";
        if text.contains("instance count too high") {
            return LoadError::Limit { step: Step::Instantiate, key, text };
        }
        // The pool has room for several versions, each with all its instances.
        if text.contains("maximum concurrent") {
            let text = format!(
                "there is no room for its instances while requests under way still hold earlier \
                 versions: try again when those have ended ({text})"
            );
            return LoadError::unable(Step::Activate, text);
        }
        LoadError::Instantiate(fault_of(&error))
    };
    let instance = version.pre.instantiate_async(&mut *store).await.map_err(instantiated)?;
    let wrong = |function: &'static str| {
        move |error: wasmtime::Error| {
            LoadError::Contract(format!(
                "the function `{function}` that it exports has another type: {error:#}"
            ))
        }
    };
    let configure: Configure = instance
        .get_typed_func(&mut *store, version.configure)
        .map_err(wrong("lifecycle.configure"))?;
    let decides = match version.kind {
        Kind::Routing => "routing.route",
        Kind::Retry => "retry.judge",
    };
    let decide: Decide =
        instance.get_typed_func(&mut *store, version.decide).map_err(wrong(decides))?;
    let (answer,) = configure.call_async(&mut *store, ()).await.map_err(configured)?;
    answer.map_err(|errors| {
        LoadError::Config(
            errors
                .into_iter()
                .map(|WireConfigError { pointer, message, suggestion }| ConfigError {
                    pointer,
                    message: refusal(&message),
                    suggestion: suggestion.as_deref().map(refusal),
                })
                .collect(),
        )
    })?;
    Ok(decide)
}

/// What a call comes to before this time; none where it does not. Costs nothing unless it has to wait.
fn within<T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    wall_end: impl Fn() -> Instant,
) -> impl Future<Output = Option<T>> {
    let mut end = None;
    poll_fn(move |cx| {
        if let Poll::Ready(returned) = call.as_mut().poll(cx) {
            return Poll::Ready(Some(returned));
        }
        let end = end.get_or_insert_with(|| Box::pin(sleep_until(wall_end().into())));
        end.as_mut().poll(cx).map(|()| None)
    })
}

fn wall_clock(store: &Store<Host>, wall_max: Duration, key: &str) -> Fault {
    let own_ticks = store.data().slices.used / EPOCHS_A_TICK;
    let text = format!(
        "took {wall_max:?} by the wall clock, {own_ticks} ms of it its own (its limit is `{key}`)"
    );
    Fault::WallClock { text, own_ticks }
}
