//! The life of the policies' versions: how one comes in, is looked at, decides, and makes way.
//!
//! `received → compiled → verified → active → previous → retired`, or `refused` at a step, or
//! `quarantined` by its faults. Lives on the control thread. Two things are done one at a time: looking
//! at a version, which may take long, and changing who decides, which does not wait for the other.

mod events;
mod record;
mod start;
mod store;
mod watch;

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};

use crate::config::{self, Config, Diagnostics, SourceMap};
use crate::policy::{
    ConfigError, Engine, Kind, LoadError, Source, Step, Version, short_name, verify,
};
use crate::snapshot::{Generation, Roster};
use crate::telemetry::rollout::{Cause, Rollouts};
use crate::worker::Command;
use events::{Details, What};
pub(crate) use events::{Event, Events};
pub(crate) use record::Origin;
use record::{Record, State};
pub(crate) use start::{begin, check, diagnostics_of};
use store::{History, Store};
pub(crate) use watch::watch;

/// Versions of one policy that are remembered.
const HISTORY_MAX: usize = 64;

/// How long workers may take to turn to other versions. They do it between two requests.
const SWITCH_TIME_MAX: Duration = Duration::from_secs(2);

/// The versions of both policies.
#[derive(Debug)]
pub(crate) struct Rollout {
    engine: Engine,
    services: Vec<String>,
    /// One for each worker.
    commands: RefCell<Vec<mpsc::Sender<Command>>>,
    generation: RefCell<Arc<Generation>>,
    /// In the order of [`Kind::ALL`].
    books: RefCell<[Book; 2]>,
    /// Held while a version is looked at.
    looking: Mutex<()>,
    /// Held while it changes who decides.
    switching: Mutex<()>,
    /// How many versions have become active, ever.
    activations: Cell<u64>,
    /// The store may have what no version is made of any more.
    has_litter: Cell<bool>,
    store: Option<Arc<Store>>,
    pub(crate) events: Events,
    pub(crate) counts: Arc<Rollouts>,
}

/// What is known of one policy.
#[derive(Debug)]
struct Book {
    /// What the configuration says of it, as it was last read.
    policy: config::Policy,
    /// The SHA-256 of the version that the configuration names.
    file: Option<String>,
    previous: Option<Arc<str>>,
    /// The oldest first.
    records: Vec<Record>,
}

/// A version that is to be looked at, and perhaps to decide.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    /// A self-test of its own, beside the configuration's.
    pub(crate) cases: Option<Json>,
    pub(crate) origin: Origin,
    pub(crate) by: Option<String>,
    pub(crate) activate: bool,
    /// The version that must be active for this to happen.
    pub(crate) if_match: Option<String>,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) version: Arc<str>,
    /// Whether the gateway has not known it before.
    pub(crate) new: bool,
    /// How long it took until all workers decided by it; none where it did so already, or was not to.
    pub(crate) switched_in: Option<Duration>,
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    NotThere(String),
    #[error("{0}")]
    Conflict(String),
    #[error("the active version is {active}, not the one that `If-Match` names: look at it again")]
    Stale { active: Arc<str> },
    #[error("{reason}")]
    Refused { version: Arc<str>, step: Step, reason: String, errors: Vec<ConfigError> },
    /// The gateway itself cannot.
    #[error("{0}")]
    Unable(String),
}

/// Work on files, which must not hold up this thread. A thread that panics ends the process.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("nobody cancels it")
}

impl Book {
    fn find(&self, version: &str) -> Option<&Record> {
        self.records.iter().find(|record| *record.version == *version)
    }

    fn find_mut(&mut self, version: &str) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| *record.version == *version)
    }

    /// The one whose name or SHA-256 begins like this, where that says enough.
    fn named(&self, begins: &str) -> Option<&Record> {
        let mut fitting = self
            .records
            .iter()
            .filter(|record| begins.len() >= 4 && record.sha256.starts_with(begins));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first)
    }

    /// The latest but this one that served well, among those that `is_there`.
    fn last_good(&self, active: &str, is_there: impl Fn(&Record) -> bool) -> Option<&Record> {
        let others = self.records.iter().filter(|it| *it.version != *active && it.served_well());
        others.filter(|record| is_there(record)).max_by_key(|record| record.activation)
    }

    fn history(&self, active: &str) -> History {
        let with_counts = |record: &Record| Record { counts: record.counts(), ..record.clone() };
        let records = self.records.iter().map(with_counts).collect();
        History::new(self.file.clone(), Some(active.into()), self.previous.clone(), records)
    }
}

impl Rollout {
    fn book(&self, kind: Kind) -> Ref<'_, Book> {
        Ref::map(self.books.borrow(), |books| &books[kind as usize])
    }

    fn with_book<T>(&self, kind: Kind, change: impl FnOnce(&mut Book) -> T) -> T {
        change(&mut self.books.borrow_mut()[kind as usize])
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.generation.borrow().clone()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The name of the version that decides.
    pub(crate) fn active(&self, kind: Kind) -> Arc<str> {
        self.generation.borrow().rosters[kind as usize].active.name().clone()
    }

    /// The configuration of the version that decides: what a push without one goes by.
    pub(crate) fn active_config(&self, kind: Kind) -> Arc<str> {
        self.generation.borrow().rosters[kind as usize].active.config().clone()
    }

    pub(crate) fn component_max(&self, kind: Kind) -> usize {
        self.book(kind).policy.limits.component_max
    }

    /// From now on these workers are told.
    pub(crate) fn serves_through(&self, commands: Vec<mpsc::Sender<Command>>) {
        *self.commands.borrow_mut() = commands;
    }

    /// Looks at a version, and has it decide where that is wanted. What fails any step never serves.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<Placed, Failure> {
        let _looking = self.looking.lock().await;
        let Proposal { kind, source, cases, origin, by, activate, if_match } = proposal;
        self.matches(kind, if_match.as_deref())?;
        let digests = source.digests();
        let version: Arc<str> = short_name(&digests.version).into();
        if *version == *self.active(kind) {
            return Ok(Placed { version, new: false, switched_in: None });
        }
        let (new, loaded) = self.with_book(kind, |book| {
            let known = book.records.iter().position(|record| record.version == version);
            let Some(at) = known else {
                book.records.push(Record::received(&source, &digests, origin, by.clone()));
                return (true, None);
            };
            // It is the newest again.
            let mut record = book.records.remove(at);
            (record.origin, record.by) = (origin, by.clone());
            record.received_at = record::now();
            let loaded = record.loaded.clone();
            book.records.push(record);
            (false, loaded)
        });
        let of = Details { by: by.as_deref(), ..Details::default() };
        self.events.tell(kind, &version, What::Received, &of);
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => self.look_at(kind, &version, &source, cases, &of).await?,
        };
        if let Some(store) = self.store.clone() {
            let kept = off_thread(move || store.keep(&source)).await;
            kept.map_err(|error| {
                Failure::Unable(format!("`server.state_dir` cannot keep the version: {error}"))
            })?;
        }
        if !activate {
            self.forget_older_verified(kind, &version);
            self.persist(kind).await;
            return Ok(Placed { version, new, switched_in: None });
        }
        let cause = match origin {
            Origin::Pushed => Cause::Push,
            Origin::File | Origin::Builtin => Cause::File,
        };
        let switched_in = Some(self.switch(kind, &loaded, cause, by, if_match.as_deref()).await?);
        Ok(Placed { version, new, switched_in })
    }

    /// Has a version that is known decide.
    pub(crate) async fn activate(
        &self,
        kind: Kind,
        begins: &str,
        by: Option<String>,
        if_match: Option<String>,
    ) -> Result<Placed, Failure> {
        let known = self.book(kind).named(begins).cloned();
        let Some(record) = known else {
            return Err(Failure::NotThere(format!(
                "there is no {} version {begins:?}: `orchestrator policy list` has their names",
                kind.name()
            )));
        };
        let version = record.version.clone();
        if *version == *self.active(kind) {
            self.matches(kind, if_match.as_deref())?;
            return Ok(Placed { version, new: false, switched_in: None });
        }
        let loaded = match record.loaded.clone() {
            Some(loaded) => loaded,
            None => self.load_again(kind, &record).await?,
        };
        let cause = Cause::Activate;
        let switched_in = Some(self.switch(kind, &loaded, cause, by, if_match.as_deref()).await?);
        Ok(Placed { version, new: false, switched_in })
    }

    /// Has the version before decide again, with its own configuration.
    pub(crate) async fn roll_back(
        &self,
        kind: Kind,
        by: Option<String>,
        if_match: Option<String>,
    ) -> Result<Placed, Failure> {
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        let Some(previous) = roster.previous else {
            return Err(Failure::Conflict(format!(
                "there is no {} version before the active one",
                kind.name()
            )));
        };
        let if_match = if_match.as_deref();
        let switched_in = Some(self.switch(kind, &previous, Cause::Rollback, by, if_match).await?);
        Ok(Placed { version: previous.name().clone(), new: false, switched_in })
    }

    fn matches(&self, kind: Kind, if_match: Option<&str>) -> Result<(), Failure> {
        let active = self.active(kind);
        match if_match {
            Some(wanted) if wanted != "*" && *wanted != *active => Err(Failure::Stale { active }),
            _ => Ok(()),
        }
    }

    /// Every step up to `verified`.
    async fn look_at(
        &self,
        kind: Kind,
        name: &str,
        source: &Source,
        cases: Option<Json>,
        of: &Details<'_>,
    ) -> Result<Arc<Version>, Failure> {
        let policy = self.book(kind).policy.clone();
        let looked = async {
            let beside = start::cases_beside(&policy.component)?;
            let loaded = Version::load(&self.engine, kind, source, &policy, &self.services).await?;
            self.events.tell(kind, name, What::Compiled, of);
            let loaded = Arc::new(loaded);
            // Cases beside a file are about that file.
            let is_the_files = self.book(kind).file.as_deref() == Some(&*source.sha256());
            let beside = beside.filter(|_| is_the_files);
            let all: Vec<&Json> = [Some(&policy.cases), cases.as_ref(), beside.as_ref()]
                .into_iter()
                .flatten()
                .collect();
            verify(&self.engine, &loaded, &all).await?;
            Ok::<_, LoadError>(loaded)
        };
        match looked.await {
            Ok(loaded) => {
                self.with_book(kind, |book| {
                    let record = book.find_mut(name).expect("it was noted when it came");
                    (record.step, record.reason) = (None, None);
                    record.state = State::Verified;
                    record.loaded = Some(loaded.clone());
                });
                self.events.tell(kind, name, What::Verified, of);
                Ok(loaded)
            }
            Err(error) => Err(self.refuse(kind, name, error, of.by).await),
        }
    }

    /// Notes that a version failed a step.
    async fn refuse(&self, kind: Kind, name: &str, error: LoadError, by: Option<&str>) -> Failure {
        let (step, reason) = (error.step(), error.to_string());
        self.counts.of(kind).refused(step, error.limit());
        self.with_book(kind, |book| {
            if let Some(record) = book.find_mut(name) {
                record.unload();
                record.fails(State::Refused, step, reason.clone());
            }
        });
        let details = Details { step: Some(step), reason: Some(&reason), by, ..Details::default() };
        self.events.tell(kind, name, What::Refused, &details);
        self.forget_oldest(kind);
        self.persist(kind).await;
        let errors = match error {
            LoadError::Config(errors) => errors,
            _ => Vec::new(),
        };
        Failure::Refused { version: name.into(), step, reason, errors }
    }

    /// A version that was let go of, from what the store has of it.
    async fn load_again(&self, kind: Kind, record: &Record) -> Result<Arc<Version>, Failure> {
        let _looking = self.looking.lock().await;
        let Some(store) = self.store.clone() else {
            return Err(Failure::NotThere(format!(
                "the component of {} was not kept: push it again, or set `server.state_dir`",
                record.version
            )));
        };
        let source = store.source(record).map_err(|error| {
            Failure::NotThere(format!(
                "the component of {} cannot be read: {error}; push it again",
                record.version
            ))
        })?;
        self.look_at(kind, &record.version, &source, None, &Details::default()).await
    }

    /// Has this version decide, everywhere, in one step. Returns how long the step took.
    async fn switch(
        &self,
        kind: Kind,
        version: &Arc<Version>,
        cause: Cause,
        by: Option<String>,
        if_match: Option<&str>,
    ) -> Result<Duration, Failure> {
        let _switching = self.switching.lock().await;
        // Somebody else may have come first.
        self.matches(kind, if_match)?;
        if self.book(kind).find(version.name()).is_none() {
            let text = format!("{} was forgotten meanwhile: push it again", version.name());
            return Err(Failure::Conflict(text));
        }
        if let Err(error) = self.set_up(version).await {
            // Those that have instances of it let go of them.
            let generation = self.generation();
            self.publish(generation).await?;
            return Err(self.refuse(kind, version.name(), error, by.as_deref()).await);
        }
        let before = self.generation.borrow().rosters[kind as usize].clone();
        let previous = (cause != Cause::Quarantine)
            .then(|| before.active.clone())
            .or(before.previous.clone())
            .filter(|it| !Arc::ptr_eq(it, version) && self.may_return(kind, it));
        self.with_book(kind, |book| {
            self.activations.set(self.activations.get() + 1);
            let record = book.find_mut(version.name()).expect("what is loaded has a record");
            record.activation = self.activations.get();
            record.activated_at = Some(record::now());
            record.loaded = Some(version.clone());
            (record.step, record.reason) = (None, None);
            record.state = State::Active;
            book.previous = previous.as_ref().map(|it| it.name().clone());
        });
        let roster = self.roster(kind, version.clone(), previous, &before);
        let mut generation = Generation::clone(&self.generation());
        generation.rosters[kind as usize] = roster;
        generation.number += 1;
        let number = generation.number;
        let began = Instant::now();
        self.publish(Arc::new(generation)).await?;
        let took = began.elapsed();

        let counts = self.counts.of(kind);
        counts.swapped(cause);
        self.settle(kind, version.name());
        let what = match cause {
            Cause::Rollback | Cause::Quarantine => What::RolledBack,
            Cause::Push | Cause::File | Cause::Activate => What::Activated,
        };
        let details = Details { by: by.as_deref(), generation: Some(number), ..Details::default() };
        self.events.tell(kind, version.name(), what, &details);
        self.persist(kind).await;
        Ok(took)
    }

    fn may_return(&self, kind: Kind, version: &Version) -> bool {
        self.book(kind).find(version.name()).is_some_and(|it| it.state != State::Quarantined)
    }

    /// Who stands beside `active`, of those that workers have instances of.
    fn roster(
        &self,
        kind: Kind,
        active: Arc<Version>,
        previous: Option<Arc<Version>>,
        before: &Roster,
    ) -> Roster {
        let book = self.book(kind);
        let there = |name: &str| before.resident().find(|it| **it.name() == *name).cloned();
        let last_good = book.last_good(active.name(), |it| there(&it.version).is_some());
        let last_good = last_good.and_then(|record| there(&record.version));
        Roster { active, last_good, previous }
    }

    /// All workers make instances of it, each on its own.
    async fn set_up(&self, version: &Arc<Version>) -> Result<(), LoadError> {
        let gone = || LoadError::Worker("the gateway is draining".into());
        let mut answers = Vec::new();
        let commands = self.commands.borrow().clone();
        for worker in &commands {
            let (done, is_done) = oneshot::channel();
            let command = Command::SetUp { version: version.clone(), done };
            worker.send(command).await.map_err(|_| gone())?;
            answers.push(is_done);
        }
        for answer in answers {
            answer.await.map_err(|_| gone())??;
        }
        Ok(())
    }

    /// Tells all workers who decides, and waits until they do so.
    async fn publish(&self, generation: Arc<Generation>) -> Result<(), Failure> {
        let commands = self.commands.borrow().clone();
        *self.generation.borrow_mut() = generation.clone();
        self.counts.generation.store(generation.number, Relaxed);
        for (kind, roster) in Kind::ALL.into_iter().zip(&generation.rosters) {
            self.counts.of(kind).active.store(Arc::new(roster.active.name().clone()));
        }
        let all = async {
            let mut answers = Vec::new();
            for worker in &commands {
                let (done, is_done) = oneshot::channel();
                let command = Command::Serve { generation: generation.clone(), done };
                // One that is gone drains, and needs no new versions.
                if worker.send(command).await.is_ok() {
                    answers.push(is_done);
                }
            }
            for answer in answers {
                let _ = answer.await; // As above.
            }
        };
        tokio::time::timeout(SWITCH_TIME_MAX, all)
            .await
            .map_err(|_| Failure::Unable("a worker is too busy to turn to another version".into()))
    }

    /// Brings the records in line with who decides now.
    fn settle(&self, kind: Kind, active: &str) {
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        let is_there = |name: &str| roster.resident().any(|it| **it.name() == *name);
        let retired: Vec<Arc<str>> = self.with_book(kind, |book| {
            let previous = book.previous.clone();
            let mut retired = Vec::new();
            for record in &mut book.records {
                let was = record.state;
                record.state = match was {
                    State::Active | State::Previous if *record.version == *active => State::Active,
                    State::Active | State::Previous | State::Retired
                        if previous.as_deref() == Some(&*record.version) =>
                    {
                        State::Previous
                    }
                    State::Active | State::Previous if *record.version != *active => {
                        retired.push(record.version.clone());
                        State::Retired
                    }
                    other => other,
                };
                if !is_there(&record.version) && record.state != State::Verified {
                    record.unload();
                }
            }
            retired
        });
        for version in retired {
            self.events.tell(kind, &version, What::Retired, &Details::default());
        }
        self.forget_oldest(kind);
    }

    /// Of those that wait to be activated only the latest is kept as code.
    fn forget_older_verified(&self, kind: Kind, latest: &str) {
        self.with_book(kind, |book| {
            for record in &mut book.records {
                if record.state == State::Verified && *record.version != *latest {
                    record.unload();
                }
            }
        });
        self.forget_oldest(kind);
    }

    fn forget_oldest(&self, kind: Kind) {
        self.with_book(kind, |book| {
            while book.records.len() > HISTORY_MAX {
                let oldest = book.records.iter().position(|it| it.loaded.is_none());
                let Some(oldest) = oldest else { break };
                book.records.remove(oldest);
                self.has_litter.set(true);
            }
        });
    }

    /// Writes the history of a policy. Where that fails, the gateway goes on: what it serves is right,
    /// but a restart would not know of it.
    async fn persist(&self, kind: Kind) {
        let Some(store) = self.store.clone() else { return };
        let history = self.book(kind).history(&self.active(kind));
        // What both are made of: they may share a component.
        let kept: Option<Vec<Record>> = self
            .has_litter
            .take()
            .then(|| self.books.borrow().iter().flat_map(|book| book.records.clone()).collect());
        let written = off_thread(move || {
            store.write(kind, &history)?;
            kept.map_or(Ok(()), |kept| store.prune(kept.iter()))
        });
        if let Err(error) = written.await {
            let policy = kind.name();
            tracing::error!(policy, %error, "the history cannot be written to `server.state_dir`");
        }
    }

    /// Writes what both policies have decided so far.
    pub(crate) async fn persist_all(&self) {
        for kind in Kind::ALL {
            self.persist(kind).await;
        }
    }

    /// Waits for versions that make too many faults, and puts the last good one in their place.
    pub(crate) async fn guard(self: Rc<Self>, too_many_faults: Arc<Notify>) {
        loop {
            too_many_faults.notified().await;
            for kind in Kind::ALL {
                self.quarantine(kind).await;
            }
        }
    }

    async fn quarantine(self: &Rc<Self>, kind: Kind) {
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        let crossed: Vec<_> =
            roster.resident().filter(|it| it.stats().take_crossed()).cloned().collect();
        for bad in crossed {
            let limits = bad.limits();
            let last = bad.stats().last_fault();
            let reason = format!(
                "{} faults within {} (`fault_threshold`, `fault_window`); the last: {}",
                limits.fault_threshold.unwrap_or_default(),
                humantime::format_duration(limits.fault_window),
                last.as_deref().map_or("", String::as_str)
            );
            let is_active = Arc::ptr_eq(&bad, &roster.active);
            if is_active && roster.last_good.is_none() {
                let (policy, version) = (kind.name(), &**bad.name());
                tracing::error!(policy, version, reason, "no last good version can take its place");
                continue;
            }
            self.with_book(kind, |book| {
                if let Some(record) = book.find_mut(bad.name()) {
                    record.fails(State::Quarantined, Step::Decisions, reason.clone());
                }
                book.previous.take_if(|previous| **previous == **bad.name());
            });
            self.counts.of(kind).quarantined.fetch_add(1, Relaxed);
            let details = Details {
                step: Some(Step::Decisions),
                reason: Some(&reason),
                ..Details::default()
            };
            self.events.tell(kind, bad.name(), What::Quarantined, &details);
            match (is_active, &roster.last_good) {
                (true, Some(last_good)) => {
                    // It is resident: this cannot fail but while draining.
                    let _ = self.switch(kind, last_good, Cause::Quarantine, None, None).await;
                }
                _ => self.rearrange(kind).await,
            }
            // Another may have to be loaded, and the next to be quarantined must not wait for that.
            let rollout = self.clone();
            tokio::task::spawn_local(async move { rollout.complete(kind).await });
        }
    }

    /// The same version decides; who stands beside it may have changed.
    async fn rearrange(&self, kind: Kind) {
        let _switching = self.switching.lock().await;
        let before = self.generation.borrow().rosters[kind as usize].clone();
        let previous = before.previous.clone().filter(|it| self.may_return(kind, it));
        let roster = self.roster(kind, before.active.clone(), previous, &before);
        let mut generation = Generation::clone(&self.generation());
        generation.rosters[kind as usize] = roster;
        let _ = self.publish(Arc::new(generation)).await; // The next change tells it.
        self.settle(kind, before.active.name());
        self.persist(kind).await;
    }

    /// Loads those that are to stand beside the active version and are not there: after a start, and
    /// when the last good one has gone.
    pub(crate) async fn complete(&self, kind: Kind) {
        let active = self.active(kind);
        let (previous, last_good) = self.with_book(kind, |book| {
            let previous = book.previous.as_deref().and_then(|it| book.find(it)).cloned();
            (previous, book.last_good(&active, |_| true).cloned())
        });
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        let is_there = |name: &str| roster.resident().find(|it| **it.name() == *name).cloned();
        let mut loaded = Vec::new();
        for record in [&previous, &last_good] {
            let Some(record) = record else {
                loaded.push(None);
                continue;
            };
            let version = match is_there(&record.version) {
                Some(version) => Some(version),
                None => self.bring_back(kind, record).await,
            };
            loaded.push(version);
        }
        let _switching = self.switching.lock().await;
        // Somebody may have been faster.
        if *self.active(kind) != *active {
            return;
        }
        let mut generation = Generation::clone(&self.generation());
        let now = &mut generation.rosters[kind as usize];
        let last_good = loaded.pop().flatten();
        let previous = loaded.pop().flatten();
        let as_before = |a: &Option<Arc<Version>>, b: &Option<Arc<Version>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if as_before(&now.previous, &previous) && as_before(&now.last_good, &last_good) {
            return;
        }
        (now.previous, now.last_good) = (previous, last_good);
        let _ = self.publish(Arc::new(generation)).await; // As above.
        self.settle(kind, &active);
    }

    async fn bring_back(&self, kind: Kind, record: &Record) -> Option<Arc<Version>> {
        self.store.as_ref()?;
        let state = record.state;
        let loaded = self.load_again(kind, record).await;
        let set_up = match loaded {
            Ok(version) => match self.set_up(&version).await {
                Ok(()) => Ok(version),
                Err(error) => Err(error.to_string()),
            },
            Err(failure) => Err(failure.to_string()),
        };
        self.with_book(kind, |book| {
            let Some(record) = book.find_mut(&record.version) else { return };
            match &set_up {
                Ok(_) => record.state = state,
                // It has served, but it cannot any more, with this gateway and these services.
                Err(_) => record.activation = 0,
            }
        });
        if let Err(reason) = &set_up {
            let (policy, version) = (kind.name(), &*record.version);
            tracing::warn!(policy, version, reason, "an earlier version is of no use any more");
        }
        set_up.ok()
    }

    /// Takes over what the configuration names, where that has changed. With `asked`, also what was
    /// refused before.
    pub(crate) async fn reload(&self, new: Option<&(Config, SourceMap)>, asked: bool) {
        for kind in Kind::ALL {
            let policy = self.with_book(kind, |book| {
                if let Some((config, _)) = new {
                    let named = config.policy(kind);
                    book.policy.component = named.component.clone();
                    book.policy.config = named.config.clone();
                    book.policy.cases = named.cases.clone();
                }
                book.policy.clone()
            });
            let component = policy.component.clone();
            let named = off_thread(move || Source::named(&policy)).await;
            let source = match named {
                Ok(source) => source,
                Err(error) => {
                    let policy = kind.name();
                    tracing::error!(policy, %error, "what the configuration names is not there");
                    continue;
                }
            };
            let sha256 = source.sha256();
            let again = self.with_book(kind, |book| {
                let same = book.file.as_deref() == Some(&*sha256);
                let refused = |it: &Record| it.sha256 == sha256 && it.state == State::Refused;
                let again = !same || asked && book.records.iter().any(refused);
                book.file = Some(sha256);
                again
            });
            if !again {
                continue;
            }
            let origin = match component {
                config::Component::File(_) => Origin::File,
                _ => Origin::Builtin,
            };
            let proposed = self
                .propose(Proposal {
                    kind,
                    source,
                    cases: None,
                    origin,
                    by: None,
                    activate: true,
                    if_match: None,
                })
                .await;
            self.persist(kind).await;
            if let Err(Failure::Refused { errors, .. }) = &proposed
                && let Some((_, source)) = new
                && !errors.is_empty()
            {
                let errors = diagnostics_of(source, kind, LoadError::Config(errors.clone()));
                if let Some(wrong) = Diagnostics::of(errors) {
                    tracing::error!(policy = kind.name(), "nothing has changed:\n{wrong}");
                }
            }
        }
    }

    /// Everything about one policy, for the admin API.
    pub(crate) fn shown(&self, kind: Kind) -> Json {
        let generation = self.generation();
        let roster = &generation.rosters[kind as usize];
        let book = self.book(kind);
        let name = |version: &Option<Arc<Version>>| version.as_ref().map(|it| it.name().clone());
        let file = book.file.as_deref().map(|sha256| &sha256[..12.min(sha256.len())]);
        json!({
            "kind": kind.name(),
            "active": roster.active.name(),
            "previous": name(&roster.previous),
            "last_good": name(&roster.last_good),
            "file": file,
            "differs_from_file": file.is_some_and(|file| *file != **roster.active.name()),
            "generation": generation.number,
            "versions": book.records.iter().rev().map(Self::shown_record).collect::<Vec<_>>(),
        })
    }

    /// One version, for the admin API.
    pub(crate) fn shown_version(&self, kind: Kind, version: &str) -> Option<Json> {
        self.book(kind).find(version).map(Self::shown_record)
    }

    fn shown_record(record: &Record) -> Json {
        let counts = record.counts();
        json!({
            "version": record.version,
            "sha256": record.sha256,
            "component_sha256": record.component_sha256,
            "config_sha256": record.config_sha256,
            "state": record.state,
            "step": record.step,
            "reason": record.reason,
            "origin": record.origin,
            "by": record.by,
            "received_at": record.received_at,
            "activated_at": record.activated_at,
            "size": record.size,
            "resident": record.loaded.is_some(),
            "decisions": counts.decisions,
            "faults": counts.faults,
            "decision_us": counts.decision_us,
        })
    }
}
