//! A worker's instances of one version: configured ahead of need, reused while they behave.
//!
//! A call takes an instance out and puts it back only when the guest returned; a trap, a deadline
//! or a caller that went away drops it. A task of the worker makes up for what is missing, so that
//! no request pays for an instance being built.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::bindings::Phase;
use super::engine::{Engine, TICK};
use super::facts::{Answer, Came, FailedAttempt, Pace, RequestFacts, RetryAnswer, StateOf};
use super::gate::{Gate, LONG};
use super::instance::Instance;
use super::overrun::overruns_max;
use super::stats::Tally;
use super::versions::{LoadError, Version};
use super::wasi::OutputLimit;
use super::{Fault, Kind};
use crate::config::Instances;

/// Instances that a worker keeps ready beside those at work.
const SPARE: usize = 2;

/// The same where each decision takes a new one.
const SPARE_FRESH: usize = 8;

/// An instance is replaced after so many calls, so that nothing in it grows for ever.
const CALLS_MAX: u32 = 1 << 20;

/// A worker's instances of one version.
pub struct Warm {
    pub(super) version: Arc<Version>,
    pub(super) engine: Engine,
    pub(super) state_of: StateOf,
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
    pub(super) runaway: Arc<Semaphore>,
    pub(super) gate: Rc<Gate>,
    /// Decisions of this version that overran their tick and are not over.
    pub(super) overruns: Arc<Semaphore>,
    /// What a decision takes, learnt from a sample of them.
    pub(super) usual: Cell<Duration>,
    pub(super) output: Arc<Mutex<OutputLimit>>,
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
            gate: Rc::default(),
            spare: Cell::new(spare),
            version,
            engine: engine.clone(),
            state_of,
            idle: RefCell::default(),
            alive: Cell::new(0),
            refilling: Cell::new(false),
            building: Cell::new(false),
            builds_too_long: Cell::new(false),
            returned: Notify::new(),
            runaway,
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

    /// Asks a routing policy, at `began`, or later where it had to wait: then that is moved. The request comes
    /// back with the answer, which nobody has checked yet.
    pub async fn route(
        self: &Rc<Self>,
        began: &mut Instant,
        request: Box<RequestFacts>,
    ) -> (Box<RequestFacts>, Result<Answer, Fault>) {
        debug_assert_eq!(self.version.kind, Kind::Routing);
        match self.call(began, Phase::Route(request), 0).await {
            (Phase::Route(request), Ok(Came::Routed(answer))) => (request, Ok(answer)),
            (Phase::Route(request), Err(fault)) => (request, Err(fault)),
            _ => unreachable!("a call gives back the phase that it was given"),
        }
    }

    /// Asks a retry policy about a failed attempt, at `began` as for [`Warm::route`]. What it was asked comes back
    /// with its answer.
    pub async fn judge(
        self: &Rc<Self>,
        began: &mut Instant,
        request: Box<RequestFacts>,
        failed: Box<FailedAttempt>,
    ) -> (Box<RequestFacts>, Box<FailedAttempt>, Result<RetryAnswer, Fault>) {
        debug_assert_eq!(self.version.kind, Kind::Retry);
        let number = u64::from(failed.number);
        match self.call(began, Phase::Judge(request, failed), number).await {
            (Phase::Judge(request, failed), Ok(Came::Judged(verdict))) => {
                (request, failed, Ok(verdict))
            }
            (Phase::Judge(request, failed), Err(fault)) => (request, failed, Err(fault)),
            _ => unreachable!("a call gives back the phase that it was given"),
        }
    }

    /// One call: `phase` goes into the store and comes back out of it, whatever happened.
    async fn call(
        self: &Rc<Self>,
        began: &mut Instant,
        phase: Phase,
        attempt: u64,
    ) -> (Phase, Result<Came, Fault>) {
        let last = match &phase {
            Phase::Route(request) | Phase::Judge(request, _) => request.pace,
            Phase::Idle | Phase::Configure => Pace::Quick,
        };
        let limits = &self.version.limits;
        let others_overrun = || self.overruns.available_permits() < overruns_max(limits);
        let mut waited = self.gate.strain.is_felt();
        let pass = match self.gate.pass(last, limits.wall_timeout, others_overrun).await {
            Ok(pass) => pass,
            Err(fault) => return (phase, Err(fault)),
        };
        let taken = match self.pop() {
            Some(instance) => Ok(Place { warm: self, instance: Some(instance) }),
            None => {
                waited = true;
                Box::pin(self.take_next()).await
            }
        };
        let mut place = match taken {
            Ok(place) => place,
            Err(fault) => return (phase, Err(fault)),
        };
        drop(pass);
        if waited {
            *began = Instant::now();
        }
        let instance = place.instance.as_mut().expect("taken with an instance");
        let (phase, returned) = instance.decide(self, *began, phase, attempt).await;
        if returned.is_reusable() {
            place.put_back();
        }
        (phase, returned.0)
    }

    /// The next instance that becomes idle within `wall_timeout`.
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
        let built = Instance::build(self).await;
        self.builds_too_long.set(match &built {
            // It gets one tick in two.
            Ok(instance) => 2 * TICK * instance.own_ticks() >= self.version.limits.wall_timeout,
            Err(LoadError::Configure(fault) | LoadError::Instantiate(fault)) => fault.is_its_own(),
            Err(_) => false,
        });
        built
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
