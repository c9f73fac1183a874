//! A worker's instances of one version: configured ahead of need, reused while they behave.
//!
//! A call takes an instance out and puts it back only when the guest returned; a trap, a deadline
//! or a caller that went away drops it. A task of the worker makes up for what is missing, so that
//! no request pays for an instance being built.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use wasmtime::component::{ComponentType, Lift, ResourceTable, TypedFunc};
use wasmtime::{Store, StoreContextMut, StoreLimitsBuilder, UpdateDeadline};

use super::bindings::{Host, Phase, Slices, TooMuch};
use super::engine::{CORE_INSTANCES_MAX, Engine, TABLE_ELEMENTS_MAX, TABLES_MAX, TICK, Ticker};
use super::facts::{
    Answer, Circuit, FailedAttempt, Health, RequestFacts, RetryAnswer, ServiceState, StateOf,
};
use super::versions::{ConfigError, LoadError, Version};
use super::wasi::{self, CallSeed, OutputLimit};
use super::{Fault, Kind};

/// Instances of one version that a worker has at the most. A decision holds one only while it
/// runs, so that more than one is needed just when decisions overrun their first tick.
pub(super) const INSTANCES_PER_WORKER_MAX: u32 = 16;

/// Instances that a worker keeps ready beside those at work.
const SPARE: u32 = 2;

/// Decisions of one version that may overrun at once on a worker; a further one ends at its first
/// tick. The rest of the instances is for those that do not.
const OVERRUNS_MAX: usize = INSTANCES_PER_WORKER_MAX as usize / 2;

/// An instance is replaced after so many calls, so that nothing in it grows for ever.
const CALLS_MAX: u32 = 1 << 20;

/// Host handles (streams and the like) that an instance may hold.
const HANDLES_MAX: usize = 64;

/// What `configure` may take, in ticks of its own running time.
const CONFIGURE_TICKS_MAX: u32 = 1000;

/// A decision's cap by the wall clock. Reaching it may be the machine's fault: it is a reason of its
/// own in the metrics.
const WALL_MAX: Duration = Duration::from_millis(100);

/// What `configure` may take by the wall clock.
const CONFIGURE_WALL_MAX: Duration = Duration::from_secs(30);

type Configure = TypedFunc<(), (Result<(), Vec<WireConfigError>>,)>;
type Decide = TypedFunc<(), (Result<(), String>,)>;

#[derive(ComponentType, Lift)]
#[component(record)]
struct WireConfigError {
    pointer: String,
    message: String,
    suggestion: Option<String>,
}

struct Instance {
    store: Store<Host>,
    decide: Decide,
    calls: u32,
}

/// A worker's instances of one version.
pub struct Warm {
    version: Arc<Version>,
    engine: Engine,
    state_of: StateOf,
    idle: RefCell<Vec<Instance>>,
    /// Instances that exist: idle, at work, or being built.
    alive: Cell<u32>,
    refilling: Cell<bool>,
    /// Rung when an instance became idle.
    returned: Notify,
    /// The worker's single place for a decision that overran its tick, shared by all its policies.
    runaway: Arc<Semaphore>,
    /// Decisions of this version that overran their tick and are not over.
    overruns: Arc<Semaphore>,
    output: Arc<Mutex<OutputLimit>>,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Warm {
    /// Instances of `version` for the worker that calls this, the first of them built and
    /// configured on return.
    pub async fn new(
        engine: &Engine,
        version: Arc<Version>,
        runaway: Arc<Semaphore>,
        state_of: StateOf,
    ) -> Result<Rc<Warm>, LoadError> {
        let warm = Rc::new(Warm::empty(engine, version, runaway, state_of));
        for _ in 0..SPARE {
            let instance = warm.build().await?;
            warm.alive.set(warm.alive.get() + 1);
            warm.idle.borrow_mut().push(instance);
        }
        Ok(warm)
    }

    fn empty(
        engine: &Engine,
        version: Arc<Version>,
        runaway: Arc<Semaphore>,
        state_of: StateOf,
    ) -> Warm {
        Warm {
            version,
            engine: engine.clone(),
            state_of,
            idle: RefCell::new(Vec::new()),
            alive: Cell::new(0),
            refilling: Cell::new(false),
            returned: Notify::new(),
            runaway,
            overruns: Arc::new(Semaphore::new(OVERRUNS_MAX)),
            output: Arc::default(),
        }
    }

    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Asks a routing policy. The request comes back with the answer, which nobody has checked yet.
    pub async fn route(
        self: &Rc<Self>,
        request: Box<RequestFacts>,
    ) -> (Box<RequestFacts>, Result<Answer, Fault>) {
        debug_assert_eq!(self.version.kind, Kind::Routing);
        match self.call(Phase::Route(request, Answer::default()), 0).await {
            (Phase::Route(request, answer), outcome) => (request, outcome.map(|()| answer)),
            _ => unreachable!("a call gives back the phase that it was given"),
        }
    }

    /// Asks a retry policy about a failed attempt.
    pub async fn judge(
        self: &Rc<Self>,
        request: Box<RequestFacts>,
        failed: Box<FailedAttempt>,
    ) -> (Box<RequestFacts>, Result<RetryAnswer, Fault>) {
        debug_assert_eq!(self.version.kind, Kind::Retry);
        let number = u64::from(failed.number);
        match self.call(Phase::Judge(request, failed, RetryAnswer::default()), number).await {
            (Phase::Judge(request, _, verdict), outcome) => (request, outcome.map(|()| verdict)),
            _ => unreachable!("a call gives back the phase that it was given"),
        }
    }

    /// One call: `phase` goes into the store and comes back out of it, whatever happened.
    async fn call(self: &Rc<Self>, phase: Phase, attempt: u64) -> (Phase, Result<(), Fault>) {
        let mut place = match self.take().await {
            Ok(place) => place,
            Err(fault) => return (phase, Err(fault)),
        };
        let instance = place.instance.as_mut().expect("taken with an instance");
        instance.begin(phase, attempt, &self.version.limits);
        self.engine.ticker.want();
        let returned = instance.decide.call_async(&mut instance.store, ()).await;
        let phase = instance.end();
        match returned {
            Ok((decided,)) => {
                place.put_back();
                (phase, decided.map_err(|reason| Fault::CannotDecide(excerpt(&reason))))
            }
            Err(error) => (phase, Err(fault_of(&error))),
        }
    }

    /// An idle instance, or the next that becomes idle within [`WALL_MAX`].
    async fn take(self: &Rc<Self>) -> Result<Place<'_>, Fault> {
        if let Some(instance) = self.pop() {
            return Ok(Place { warm: self, instance: Some(instance) });
        }
        let deadline = tokio::time::Instant::now() + WALL_MAX;
        loop {
            let returned = self.returned.notified();
            if let Some(instance) = self.pop() {
                return Ok(Place { warm: self, instance: Some(instance) });
            }
            if tokio::time::timeout_at(deadline, returned).await.is_err() {
                let alive = self.alive.get();
                return Err(Fault::NoInstance(format!(
                    "all {alive} instances of this worker were busy for {WALL_MAX:?}"
                )));
            }
        }
    }

    fn pop(self: &Rc<Self>) -> Option<Instance> {
        let instance = self.idle.borrow_mut().pop();
        if self.idle.borrow().is_empty() {
            self.refill();
        }
        instance
    }

    /// Builds instances in a task of its own until [`SPARE`] are idle or no more may exist.
    fn refill(self: &Rc<Self>) {
        if self.refilling.replace(true) {
            return;
        }
        let warm = self.clone();
        tokio::task::spawn_local(async move {
            while warm.alive.get() < INSTANCES_PER_WORKER_MAX
                && warm.idle.borrow().len() < SPARE as usize
            {
                warm.alive.set(warm.alive.get() + 1);
                match warm.build().await {
                    Ok(instance) => {
                        warm.idle.borrow_mut().push(instance);
                        warm.returned.notify_one();
                    }
                    Err(error) => {
                        warm.alive.set(warm.alive.get() - 1);
                        let policy = warm.version.kind.name();
                        let version = &*warm.version.name;
                        tracing::error!(policy, version, %error, "no new instance could be made");
                        // The next call that finds nothing idle tries again; a policy that once
                        // could be configured and now cannot is not worth a loop.
                        break;
                    }
                }
            }
            warm.refilling.set(false);
        });
    }

    async fn build(&self) -> Result<Instance, LoadError> {
        let version = &*self.version;
        let seed = Arc::new(CallSeed::default());
        let host = Host {
            wasi: wasi::context(version.kind.name(), &seed, version.seed, &self.output),
            table: {
                let mut table = ResourceTable::new();
                table.set_max_capacity(HANDLES_MAX);
                table
            },
            limits: StoreLimitsBuilder::new()
                .memory_size(version.limits.memory_max)
                .memories(1)
                .instances(CORE_INSTANCES_MAX as usize)
                .tables(TABLES_MAX as usize)
                .table_elements(TABLE_ELEMENTS_MAX)
                .trap_on_grow_failure(true)
                .build(),
            setup: version.setup.clone(),
            state_of: self.state_of.clone(),
            phase: Phase::Configure,
            slices: Slices {
                used: 0,
                max: CONFIGURE_TICKS_MAX,
                wall_end: Some(Instant::now() + CONFIGURE_WALL_MAX),
                turn: Arc::default(),
                overrun: None,
            },
            header_edits: 0,
            handed_over: 0,
            result_max: version.limits.result_max,
            random: 0,
            call_seed: seed,
        };
        let mut store = Store::new(&self.engine.wasmtime, host);
        store.limiter(|host| &mut host.limits);
        // One allowance for a single call of a host function; their sum is counted in `Host`. The
        // margin lets the host's own count come first, since its message names the limit.
        store.set_hostcall_fuel(version.limits.result_max.saturating_mul(2).max(64 << 10));
        store.set_max_component_handles(HANDLES_MAX);
        let (runaway, overruns) = (self.runaway.clone(), self.overruns.clone());
        let ticker = self.engine.ticker.clone();
        store.epoch_deadline_callback(move |store| overrun(store, &ticker, &runaway, &overruns));
        store.set_epoch_deadline(1);
        self.engine.ticker.want();

        let configured = |error: wasmtime::Error| LoadError::Configure(fault_of(&error));
        let instance = version.pre.instantiate_async(&mut store).await.map_err(configured)?;
        let wrong = |error: wasmtime::Error| {
            LoadError::Contract(format!("an exported function has another type: {error}"))
        };
        let configure: Configure =
            instance.get_typed_func(&mut store, version.configure).map_err(wrong)?;
        let decide: Decide = instance.get_typed_func(&mut store, version.decide).map_err(wrong)?;
        let (answer,) = configure.call_async(&mut store, ()).await.map_err(configured)?;
        answer.map_err(|errors| {
            LoadError::Config(
                errors
                    .into_iter()
                    .map(|WireConfigError { pointer, message, suggestion }| ConfigError {
                        pointer,
                        message,
                        suggestion,
                    })
                    .collect(),
            )
        })?;
        let mut instance = Instance { store, decide, calls: 0 };
        instance.end();
        Ok(instance)
    }
}

/// Makes one instance, to see whether the version takes its configuration.
pub async fn try_configure(engine: &Engine, version: Arc<Version>) -> Result<(), LoadError> {
    // There is no request to ask about a service for.
    let nothing = |_| ServiceState { circuit: Circuit::Closed, health: Health::Unknown };
    let warm = Warm::empty(engine, version, Arc::new(Semaphore::new(1)), Arc::new(nothing));
    warm.build().await.map(drop)
}

impl Instance {
    fn begin(&mut self, phase: Phase, attempt: u64, limits: &crate::config::PolicyLimits) {
        self.calls += 1;
        let host = self.store.data_mut();
        let (Phase::Route(request, _) | Phase::Judge(request, ..)) = &phase else {
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
        host.slices.max = limits.decision_timeout.as_millis().try_into().unwrap_or(u32::MAX);
        host.slices.wall_end = None;
        // Before every call: with a stale deadline the guest would yield at once. Two, because the next
        // tick may come at any moment, and must not interrupt a decision that has only begun.
        self.store.set_epoch_deadline(2);
    }

    /// Takes the phase back and gives up the turn of a runaway.
    fn end(&mut self) -> Phase {
        let host = self.store.data_mut();
        if host.slices.used > 0 {
            *host.slices.turn.lock().expect("nobody panics while holding it") = None;
            host.slices.overrun = None;
        }
        std::mem::replace(&mut host.phase, Phase::Idle)
    }
}

/// Runs whenever a guest meets the end of its tick: another turn, or the end of the call.
fn overrun(
    mut store: StoreContextMut<'_, Host>,
    ticker: &Ticker,
    runaway: &Arc<Semaphore>,
    overruns: &Arc<Semaphore>,
) -> wasmtime::Result<UpdateDeadline> {
    // The ticker must not rest while a guest is being counted.
    ticker.want();
    let host = store.data_mut();
    let decides = !matches!(host.phase, Phase::Configure);
    let slices = &mut host.slices;
    slices.used += 1;
    *slices.turn.lock().expect("nobody panics while holding it") = None;
    if slices.used >= slices.max {
        return Err(TimedOut::Own(format!("ran for {} ms", slices.max)).into());
    }
    if decides && slices.overrun.is_none() {
        let Ok(place) = overruns.clone().try_acquire_owned() else {
            let text = format!("ran for a tick while {OVERRUNS_MAX} decisions overran already");
            return Err(TimedOut::Own(text).into());
        };
        slices.overrun = Some(place);
    }
    let now = Instant::now();
    if now >= *slices.wall_end.get_or_insert(now + WALL_MAX) {
        let text = format!("took {WALL_MAX:?} by the wall clock, {} ms of it its own", slices.used);
        return Err(TimedOut::Wall(text).into());
    }
    let (runaway, turn) = (runaway.clone(), slices.turn.clone());
    let wait = async move {
        let permit = runaway.acquire_owned().await.expect("the semaphore is never closed");
        // One tick for everybody else, then one tick for this guest, which keeps the only place
        // meanwhile: any number of runaways together get half of the worker.
        tokio::time::sleep(TICK).await;
        *turn.lock().expect("nobody panics while holding it") = Some(permit);
    };
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(wait)))
}

#[derive(Debug, thiserror::Error)]
enum TimedOut {
    /// By the time that the guest itself ran.
    #[error("{0}")]
    Own(String),
    #[error("{0}")]
    Wall(String),
}

fn fault_of(error: &wasmtime::Error) -> Fault {
    match error.downcast_ref::<TimedOut>() {
        Some(TimedOut::Own(text)) => return Fault::Timeout(text.clone()),
        Some(TimedOut::Wall(text)) => return Fault::WallClock(text.clone()),
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
    if text.contains("fuel allocated for hostcalls") {
        return Fault::Result(format!("{} (its limit is `result_max`)", excerpt(&text)));
    }
    Fault::Trap(excerpt(text.strip_prefix("wasm trap: ").unwrap_or(&text)))
}

/// A guest's words for the log: not more than a line's worth, without control characters.
fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(CHARACTERS_MAX)
        .collect()
}

/// An instance at work. Dropped without [`Place::put_back`], the instance is gone.
struct Place<'a> {
    warm: &'a Rc<Warm>,
    instance: Option<Instance>,
}

impl Place<'_> {
    fn put_back(mut self) {
        let instance = self.instance.take().expect("put back once");
        if instance.calls >= CALLS_MAX {
            self.instance = Some(instance);
            return;
        }
        self.warm.idle.borrow_mut().push(instance);
        self.warm.returned.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.instance.take().is_some() {
            self.warm.alive.set(self.warm.alive.get() - 1);
            if self.warm.idle.borrow().is_empty() {
                self.warm.refill();
            }
        }
    }
}
