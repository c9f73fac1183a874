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
use wasmtime::{Store, StoreLimitsBuilder};

use super::bindings::{Host, Phase, Slices};
use super::engine::{EPOCHS_A_TICK, Engine, TICK};
use super::facts::{Answer, Came, FailedAttempt, Pace, RequestFacts, RetryAnswer, StateOf};
use super::gate::{Gate, LONG};
use super::overrun::{
    excerpt, fault_of, first_slice, overrun, overruns_max, refusal, thread_time, ticks,
};
use super::stats::Tally;
use super::versions::{ConfigError, LoadError, Step, Version};
use super::wasi::{self, CallSeed, OutputLimit};
use super::{Fault, Kind};
use crate::config::{Instances, PolicyLimits};

/// Instances that a worker keeps ready beside those at work.
const SPARE: usize = 2;

/// The same where each decision takes a new one.
const SPARE_FRESH: usize = 8;

/// An instance is replaced after so many calls, so that nothing in it grows for ever.
const CALLS_MAX: u32 = 1 << 20;

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
    /// One of those that are alive is.
    building: Cell<bool>,
    /// The last that was built, or was to be, ran for so long that nobody waits for another.
    builds_too_long: Cell<bool>,
    /// Rung when an instance became idle.
    returned: Notify,
    /// The worker's single place for a decision that overran its tick, shared by all its policies.
    runaway: Arc<Semaphore>,
    gate: Rc<Gate>,
    /// Decisions of this version that overran their tick and are not over.
    overruns: Arc<Semaphore>,
    /// What a decision takes, learnt from a sample of them.
    usual: Cell<Duration>,
    output: Arc<Mutex<OutputLimit>>,
    tally: Arc<Tally>,
    /// How many are kept ready.
    spare: Cell<usize>,
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
        for _ in 0..warm.spare.get() {
            let instance = warm.build().await?;
            warm.alive.set(warm.alive.get() + 1);
            warm.idle.borrow_mut().push(instance);
            // The same as in `refill`: the worker may be serving.
            tokio::task::yield_now().await;
        }
        Ok(warm)
    }

    pub(super) fn empty(
        engine: &Engine,
        version: Arc<Version>,
        runaway: Arc<Semaphore>,
        state_of: StateOf,
    ) -> Warm {
        let spare = match version.instances {
            Instances::Warm => SPARE,
            Instances::Fresh => SPARE_FRESH,
        };
        let output = OutputLimit::new(
            version.limits.log_lines_per_s,
            engine.output_dropped(version.kind).clone(),
        );
        Warm {
            tally: version.stats().tally(),
            overruns: Arc::new(Semaphore::new(overruns_max(&version.limits))),
            spare: Cell::new(spare),
            version,
            engine: engine.clone(),
            state_of,
            idle: RefCell::new(Vec::new()),
            alive: Cell::new(0),
            refilling: Cell::new(false),
            building: Cell::new(false),
            builds_too_long: Cell::new(false),
            returned: Notify::new(),
            runaway,
            gate: Rc::default(),
            output: Arc::new(Mutex::new(output)),
            usual: Cell::default(),
        }
    }

    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Only requests that began before still need it: one instance will do for them.
    pub(crate) fn retire(&self) {
        self.spare.set(1);
        let mut idle = self.idle.borrow_mut();
        let gone = idle.len().saturating_sub(1);
        idle.truncate(1);
        self.alive.set(self.alive.get() - gone as u32);
    }

    /// Notes a decision that has been made, or not. True where the version has now made too many
    /// faults.
    pub(crate) fn decided(&self, took: Duration, fault: Option<&Fault>) -> bool {
        self.tally.decided(took, fault);
        if took >= LONG && !self.engine.ticker.is_stopped() {
            self.gate.strain.seems_long();
        }
        let limits = &self.version.limits;
        match (fault, limits.fault_threshold) {
            (Some(fault), Some(threshold)) if fault.is_its_own() => {
                self.version.stats().faulted(fault, threshold, limits.fault_window)
            }
            _ => false,
        }
    }

    /// Asks a routing policy. The request comes back with the answer, which nobody has checked yet.
    pub async fn route(
        self: &Rc<Self>,
        request: Box<RequestFacts>,
    ) -> (Box<RequestFacts>, Result<Answer, Fault>) {
        debug_assert_eq!(self.version.kind, Kind::Routing);
        match self.call(Phase::Route(request), 0).await {
            (Phase::Route(request), Ok(Came::Routed(answer))) => (request, Ok(answer)),
            (Phase::Route(request), Err(fault)) => (request, Err(fault)),
            _ => unreachable!("a call gives back the phase that it was given"),
        }
    }

    /// Asks a retry policy about a failed attempt. What it was asked comes back with its answer.
    pub async fn judge(
        self: &Rc<Self>,
        request: Box<RequestFacts>,
        failed: Box<FailedAttempt>,
    ) -> (Box<RequestFacts>, Box<FailedAttempt>, Result<RetryAnswer, Fault>) {
        debug_assert_eq!(self.version.kind, Kind::Retry);
        let number = u64::from(failed.number);
        match self.call(Phase::Judge(request, failed), number).await {
            (Phase::Judge(request, failed), Ok(Came::Judged(verdict))) => {
                (request, failed, Ok(verdict))
            }
            (Phase::Judge(request, failed), Err(fault)) => (request, failed, Err(fault)),
            _ => unreachable!("a call gives back the phase that it was given"),
        }
    }

    /// One call: `phase` goes into the store and comes back out of it, whatever happened.
    async fn call(self: &Rc<Self>, phase: Phase, attempt: u64) -> (Phase, Result<Came, Fault>) {
        let last = match &phase {
            Phase::Route(request) | Phase::Judge(request, _) => request.pace,
            Phase::Idle | Phase::Configure => Pace::Quick,
        };
        let limits = &self.version.limits;
        let others_overrun = || self.overruns.available_permits() < overruns_max(limits);
        let pass = match self.gate.pass(last, limits.wall_timeout, others_overrun).await {
            Ok(pass) => pass,
            Err(fault) => return (phase, Err(fault)),
        };
        let mut place = match self.take().await {
            Ok(place) => place,
            Err(fault) => return (phase, Err(fault)),
        };
        drop(pass);
        let instance = place.instance.as_mut().expect("taken with an instance");
        let (phase, returned) = instance.decide(self, phase, attempt).await;
        if returned.is_reusable() {
            place.put_back();
        }
        (phase, returned.0)
    }

    /// An idle instance, or the next that becomes idle within `wall_timeout`.
    async fn take(self: &Rc<Self>) -> Result<Place<'_>, Fault> {
        match self.pop() {
            Some(instance) => Ok(Place { warm: self, instance: Some(instance) }),
            None => Box::pin(self.take_next()).await,
        }
    }

    async fn take_next(self: &Rc<Self>) -> Result<Place<'_>, Fault> {
        let patience = self.version.limits.wall_timeout;
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let returned = self.returned.notified();
            if let Some(instance) = self.pop() {
                return Ok(Place { warm: self, instance: Some(instance) });
            }
            if tokio::time::timeout_at(deadline, returned).await.is_err() {
                return Err(self.no_instance(patience));
            }
        }
    }

    /// Why none came free. Load and other versions can keep instances at work and make building one take
    /// longer, but they do not make it run for longer.
    fn no_instance(&self, patience: Duration) -> Fault {
        let alive = self.alive.get();
        let at_work = alive - u32::from(self.building.get());
        if at_work == 0 && self.builds_too_long.get() {
            let text = format!(
                "none could be made within {patience:?}: its `configure` takes too long (its limit is \
                 `wall_timeout`)"
            );
            return Fault::NoInstance { text, its_own: true };
        }
        let text = format!(
            "all {alive} instances of this worker were busy for {patience:?} (its limits are \
             `instances_max` and `wall_timeout`)"
        );
        Fault::NoInstance { text, its_own: false }
    }

    fn pop(self: &Rc<Self>) -> Option<Instance> {
        let instance = self.idle.borrow_mut().pop();
        // A new one for each decision is missing as soon as one is taken.
        let fresh = self.version.instances == Instances::Fresh;
        if fresh || self.idle.borrow().is_empty() {
            self.refill();
        }
        instance
    }

    /// Builds instances in a task of its own until enough are idle or no more may exist.
    fn refill(self: &Rc<Self>) {
        if self.refilling.replace(true) {
            return;
        }
        let warm = self.clone();
        tokio::task::spawn_local(async move {
            while warm.alive.get() < warm.version.limits.instances_max
                && warm.idle.borrow().len() < warm.spare.get()
            {
                warm.alive.set(warm.alive.get() + 1);
                warm.building.set(true);
                let built = warm.build().await;
                warm.building.set(false);
                match built {
                    Ok(instance) => {
                        warm.idle.borrow_mut().push(instance);
                        warm.returned.notify_one();
                        // Each may take most of a tick: the worker looks at its sockets in between.
                        tokio::task::yield_now().await;
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

    pub(super) async fn build(&self) -> Result<Instance, LoadError> {
        let built = self.build_one().await;
        self.builds_too_long.set(match &built {
            // It gets one tick in two.
            Ok(instance) => {
                let own_ticks = instance.store.data().slices.used / EPOCHS_A_TICK;
                2 * TICK * own_ticks >= self.version.limits.wall_timeout
            }
            Err(LoadError::Configure(fault) | LoadError::Instantiate(fault)) => fault.is_its_own(),
            Err(_) => false,
        });
        built
    }

    async fn build_one(&self) -> Result<Instance, LoadError> {
        let version = &*self.version;
        let limits = &version.limits;
        let seed = Arc::new(CallSeed::default());
        let host = Host {
            wasi: wasi::context(version.kind.name(), &seed, version.seed, &self.output),
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
            state_of: self.state_of.clone(),
            phase: Phase::Configure,
            answer: Answer::default(),
            verdict: RetryAnswer::default(),
            slices: Slices {
                used: 0,
                granted: EPOCHS_A_TICK,
                began: Some(thread_time()),
                max: ticks(limits.configure_timeout),
                wall_end: Some(Instant::now() + CONFIGURE_WALL_FACTOR * limits.configure_timeout),
                wall_max: CONFIGURE_WALL_FACTOR * limits.configure_timeout,
                turn: Arc::default(),
                overrun: None,
            },
            header_edits: 0,
            handed_over: 0,
            result_max: limits.result_max,
            random: 0,
            call_seed: seed,
        };
        let mut store = Store::new(&self.engine.wasmtime, host);
        store.limiter(|host| &mut host.limits);
        // One allowance for a single call of a host function; their sum is counted in `Host`. The
        // margin lets the host's own count come first, since its message names the limit.
        store.set_hostcall_fuel(limits.result_max.saturating_mul(2).max(64 << 10));
        store.set_max_component_handles(HANDLES_MAX);
        let (place, strain) = (self.runaway.clone(), self.gate.strain.clone());
        let overruns = self.overruns.clone();
        let ticker = self.engine.ticker.clone();
        store.epoch_deadline_callback(move |store| {
            overrun(store, &ticker, (&place, &strain), &overruns)
        });
        store.set_epoch_deadline(u64::from(EPOCHS_A_TICK) + 1);
        self.engine.ticker.want();

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
        let instance = version.pre.instantiate_async(&mut store).await.map_err(instantiated)?;
        let wrong = |function: &'static str| {
            move |error: wasmtime::Error| {
                LoadError::Contract(format!(
                    "the function `{function}` that it exports has another type: {error:#}"
                ))
            }
        };
        let configure: Configure = instance
            .get_typed_func(&mut store, version.configure)
            .map_err(wrong("lifecycle.configure"))?;
        let decides = match version.kind {
            Kind::Routing => "routing.route",
            Kind::Retry => "retry.judge",
        };
        let decide: Decide =
            instance.get_typed_func(&mut store, version.decide).map_err(wrong(decides))?;
        let (answer,) = configure.call_async(&mut store, ()).await.map_err(configured)?;
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
        let mut instance = Instance { store, decide, calls: 0 };
        instance.end(Pace::Quick);
        Ok(instance)
    }
}

/// What a call came to, and whether its instance is as good as before.
pub(super) struct Returned(pub(super) Result<Came, Fault>, bool);

impl Returned {
    pub(super) fn is_reusable(&self) -> bool {
        self.1
    }
}

impl Instance {
    /// One call: `phase` goes into the store and comes back out of it, whatever happened.
    pub(super) async fn decide(
        &mut self,
        warm: &Warm,
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
        let began = sampled.then(Instant::now);
        let returned = self.decide.call_async(&mut self.store, ()).await;
        let pace = match timed_from {
            _ if self.store.data().slices.used > 0 => Pace::Overran,
            Some(began) => strain.ran(thread_time().saturating_sub(began)),
            None => Pace::Quick,
        };
        if let Some(began) = began
            && self.store.data().slices.used == 0
        {
            let usual = warm.usual.get();
            warm.usual.set(usual - usual / 8 + began.elapsed() / 8);
        }
        let (phase, came) = self.end(pace);
        let returned = match returned {
            Ok((Ok(()),)) => Returned(Ok(came), true),
            Ok((Err(reason),)) => Returned(Err(Fault::CannotDecide(excerpt(&reason))), true),
            // Where a result cannot be read, the instance would be usable, but what it holds for the
            // host has not been given back.
            Err(error) => Returned(Err(fault_of(&error)), false),
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
        host.slices.wall_end = None;
        host.slices.wall_max = limits.wall_timeout;
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

/// An instance at work. Dropped without [`Place::put_back`], the instance is gone.
struct Place<'a> {
    warm: &'a Rc<Warm>,
    instance: Option<Instance>,
}

impl Place<'_> {
    fn put_back(mut self) {
        let instance = self.instance.take().expect("put back once");
        let used_up = match self.warm.version.instances {
            Instances::Warm => CALLS_MAX,
            Instances::Fresh => 1,
        };
        if instance.calls >= used_up {
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
