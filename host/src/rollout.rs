//! The life of the policies' versions: how one comes in, is looked at, decides, and makes way.
//!
//! `received → compiled → verified → active → previous → retired`, or `refused` at a step, or
//! `quarantined` by its faults. Lives on the control thread. Two things are done one at a time: looking
//! at a version, which may take long, and changing who decides, which does not wait for the other.

mod book;
mod events;
mod guard;
mod look;
mod record;
mod reload;
mod start;
mod store;
mod switch;
mod watch;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::{Mutex, MutexGuard, mpsc};

use crate::policy::{
    CasesOf, ConfigError, Engine, Kind, LoadError, Source, Step, Version, short_name, verify,
};
use crate::snapshot::Generation;
use crate::telemetry::rollout::{Cause, Rollouts};
use crate::worker::Command;
use book::Book;
use events::{Details, What};
pub(crate) use events::{Event, Events, Following};
pub(crate) use record::Origin;
use record::Record;
pub(crate) use start::{begin, check, diagnostics_of};
use store::Store;
pub use watch::Stamp;
pub(crate) use watch::{files_of, watch};

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
    /// Held while what the configuration names is compared with what is known.
    reloading: Mutex<()>,
    /// How many versions have become active, ever.
    activations: Cell<u64>,
    /// The store may have what no version is made of any more.
    has_litter: Cell<bool>,
    /// Who reads or writes it keeps it until that is done, even where nobody waits for it any more.
    store: Option<Arc<Mutex<Store>>>,
    pub(crate) events: Events,
    pub(crate) counts: Arc<Rollouts>,
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

/// Which cases a version is asked before it is verified.
#[derive(Debug)]
enum Asked {
    /// Those of the configuration and those beside the file, and these that came with it.
    All(Option<Json>),
    Nothing,
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

impl Failure {
    fn refused(version: Arc<str>, error: LoadError) -> Failure {
        let (step, reason) = (error.step(), error.to_string());
        let errors = match error {
            LoadError::Config(errors) => errors,
            _ => Vec::new(),
        };
        Failure::Refused { version, step, reason, errors }
    }

    fn forgotten(version: &str) -> Failure {
        Failure::Conflict(format!("{version} was forgotten meanwhile: push it again"))
    }
}

/// Work on files, which must not hold up this thread. A thread that panics ends the process.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("nobody cancels it")
}

impl Rollout {
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

    /// While this is held, nobody changes who decides.
    pub(crate) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.switching.lock().await
    }

    /// From now on these workers are told, which began with the present generation.
    pub(crate) fn serves_through(
        &self,
        commands: Vec<mpsc::Sender<Command>>,
        _: MutexGuard<'_, ()>,
    ) {
        *self.commands.borrow_mut() = commands;
    }

    /// Looks at a version, and has it decide where that is wanted. What fails any step never serves.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<Placed, Failure> {
        let _looking = self.looking.lock().await;
        let Proposal { kind, source, cases, origin, by, activate, if_match } = proposal;
        self.matches(kind, if_match.as_deref())?;
        let version: Arc<str> = short_name(&source.digests().version).into();
        if *version == *self.active(kind) {
            let active = self.generation.borrow().rosters[kind as usize].active.clone();
            self.try_out(kind, &active, cases.as_ref()).await?;
            return Ok(Placed { version, new: false, switched_in: None });
        }
        let (new, loaded) = self.with_book(kind, |book| {
            let known = book.records.iter().position(|record| record.version == version);
            let Some(at) = known else {
                book.records.push(Record::received(&source, origin, by.clone()));
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
            Some(loaded) => {
                self.try_out(kind, &loaded, cases.as_ref()).await?;
                loaded
            }
            None => self.look_at(kind, &version, &source, Asked::All(cases), &of).await?,
        };
        if let Some(store) = self.store.clone() {
            let store = store.lock_owned().await;
            let kept = off_thread(move || store.keep(&source)).await;
            if let Err(error) = kept {
                self.let_go(kind, &version, new);
                let text = format!("`server.state_dir` cannot keep the version: {error}");
                let error = LoadError::unable(Step::Activate, text);
                return Err(self.unable(kind, &version, &error, of.by));
            }
        }
        self.forget_older_verified(kind, &version);
        if !activate {
            self.persist(kind).await;
            return Ok(Placed { version, new, switched_in: None });
        }
        let cause = match origin {
            Origin::Pushed => Cause::Push,
            Origin::File | Origin::Builtin => Cause::File,
        };
        let switched_in = self.switch(kind, &loaded, cause, by, if_match.as_deref()).await?;
        Ok(Placed { version, new, switched_in })
    }

    /// The cases that come with a version that was looked at before. What it is does not change by them.
    async fn try_out(
        &self,
        kind: Kind,
        version: &Arc<Version>,
        cases: Option<&Json>,
    ) -> Result<(), Failure> {
        let Some(cases) = cases else { return Ok(()) };
        let own = self.book(kind).policy.cases.clone();
        let all = [(CasesOf::Configuration, &own), (CasesOf::Push, cases)];
        let tried = verify(&self.engine, version, &all).await;
        tried.map_err(|error| {
            self.counts.of(kind).refused(error.step(), error.limit());
            Failure::refused(version.name().clone(), error)
        })
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
        let record = known.map_err(|why| {
            let kind = kind.name();
            let begins: String = begins.chars().take(64).collect();
            Failure::NotThere(format!(
                "{why} {kind} version {begins:?}: `orchestrator policy list` has their names"
            ))
        })?;
        let version = record.version.clone();
        if *version == *self.active(kind) {
            self.matches(kind, if_match.as_deref())?;
            return Ok(Placed { version, new: false, switched_in: None });
        }
        let loaded = self.load_again(kind, &record).await?;
        let cause = Cause::Activate;
        let switched_in = self.switch(kind, &loaded, cause, by, if_match.as_deref()).await?;
        Ok(Placed { version, new: false, switched_in })
    }

    /// Has the version before decide again, with its own configuration.
    pub(crate) async fn roll_back(
        &self,
        kind: Kind,
        by: Option<String>,
        if_match: Option<String>,
    ) -> Result<Placed, Failure> {
        // Of several who do this at once, each goes back from what the one before has left.
        let switching = self.switching.lock().await;
        let if_match = if_match.as_deref();
        self.matches(kind, if_match)?;
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        let Some(previous) = roster.previous else {
            return Err(Failure::Conflict(format!(
                "there is no {} version before the active one",
                kind.name()
            )));
        };
        let cause = Cause::Rollback;
        let switched = self.switch_held(&switching, kind, &previous, cause, by).await;
        drop(switching);
        self.persist(kind).await;
        Ok(Placed { version: previous.name().clone(), new: false, switched_in: switched? })
    }

    fn matches(&self, kind: Kind, if_match: Option<&str>) -> Result<(), Failure> {
        let active = self.active(kind);
        match if_match {
            Some(wanted) if *wanted != *active => Err(Failure::Stale { active }),
            _ => Ok(()),
        }
    }
}
