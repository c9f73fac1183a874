//! The life of the policies' versions: how one comes in, is looked at, decides, and makes way.
//!
//! `received → compiled → verified → active → previous → retired`, or `refused` at a step, or
//! `quarantined` by its faults. Lives on the control thread. Two things are done one at a time: looking
//! at a version, which may take long, and changing who decides, which does not wait for the other.

mod book;
mod events;
mod guard;
mod record;
mod start;
mod store;
mod switch;
mod watch;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::{Mutex, MutexGuard, mpsc};

use crate::config::{self, Config, Diagnostics, SourceMap};
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
use record::{Record, State};
use start::cases_beside;
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

    /// Every step up to `verified`.
    async fn look_at(
        &self,
        kind: Kind,
        name: &str,
        source: &Source,
        asked: Asked,
        of: &Details<'_>,
    ) -> Result<Arc<Version>, Failure> {
        let policy = self.book(kind).policy.clone();
        let looked = async {
            // Cases beside a file are about that file.
            let is_the_files = self.book(kind).file.as_deref() == Some(&*source.sha256());
            let is_the_files = is_the_files && !matches!(asked, Asked::Nothing);
            let component = policy.component.clone();
            let beside = match is_the_files {
                true => off_thread(move || cases_beside(&component)).await?,
                false => None,
            };
            let loaded = Version::load(&self.engine, kind, source, &policy, &self.services).await?;
            self.with_book(kind, |book| {
                // One that has a past keeps it for as long as nothing else is sure.
                let record = book.find_mut(name).filter(|it| it.state == State::Received);
                if let Some(record) = record {
                    record.state = State::Compiled;
                }
            });
            self.events.tell(kind, name, What::Compiled, of);
            let loaded = Arc::new(loaded);
            let mut all = Vec::new();
            if let Asked::All(cases) = &asked {
                all.push((CasesOf::Configuration, &policy.cases));
                all.extend(cases.as_ref().map(|cases| (CasesOf::Push, cases)));
            }
            all.extend(beside.as_ref().map(|cases| (CasesOf::Component, cases)));
            verify(&self.engine, &loaded, &all).await?;
            Ok::<_, LoadError>(loaded)
        };
        match looked.await {
            Ok(loaded) => {
                let is_known = self.with_book(kind, |book| {
                    let Some(record) = book.find_mut(name) else { return false };
                    (record.step, record.reason) = (None, None);
                    record.state = State::Verified;
                    record.loaded = Some(loaded.clone());
                    true
                });
                if !is_known {
                    return Err(Failure::forgotten(name));
                }
                self.events.tell(kind, name, What::Verified, of);
                Ok(loaded)
            }
            // What the gateway cannot says nothing about the version.
            Err(error) if error.may_be_the_machines(self.has_served(kind, name)) => {
                let new = |it: &Record| matches!(it.state, State::Received | State::Compiled);
                let new = self.book(kind).find(name).is_some_and(new);
                self.let_go(kind, name, new);
                Err(self.unable(kind, name, &error, of.by))
            }
            Err(error) => {
                let failure = self.refuse(kind, name, error, of.by);
                self.persist(kind).await;
                Err(failure)
            }
        }
    }

    fn has_served(&self, kind: Kind, name: &str) -> bool {
        self.book(kind).find(name).is_some_and(Record::served_well)
    }

    /// Tells of what the gateway could not do. What is known of the version stays as it is.
    fn unable(&self, kind: Kind, name: &str, error: &LoadError, by: Option<&str>) -> Failure {
        let (step, reason) = (error.step(), error.to_string());
        self.counts.of(kind).refused(step, error.limit());
        let details = Details { step: Some(step), reason: Some(&reason), by, ..Details::default() };
        self.events.tell(kind, name, What::Refused, &details);
        Failure::Unable(reason)
    }

    /// Notes that a version failed a step.
    fn refuse(&self, kind: Kind, name: &str, error: LoadError, by: Option<&str>) -> Failure {
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
        Failure::refused(name.into(), error)
    }

    /// The code of a version that is known: where it was let go of, from what the store has of it.
    async fn load_again(&self, kind: Kind, record: &Record) -> Result<Arc<Version>, Failure> {
        if let Some(loaded) = &record.loaded {
            return Ok(loaded.clone());
        }
        let _looking = self.looking.lock().await;
        // Who was before may have loaded it, or pushed it out of the history.
        let record = match self.book(kind).find(&record.version) {
            None => return Err(Failure::forgotten(&record.version)),
            Some(Record { loaded: Some(loaded), .. }) => return Ok(loaded.clone()),
            Some(record) => record.clone(),
        };
        let version = record.version.clone();
        let refused = match (record.step, &record.reason) {
            (Some(step), Some(reason)) if record.state == State::Refused => {
                let step = step.word();
                Some(format!("{version} was refused at the step {step}: {reason}"))
            }
            _ => None,
        };
        // The cases that came with it are known to nobody any more.
        if let Some(refused) = refused.as_ref().filter(|_| record.was_refused_by_cases()) {
            return Err(Failure::Conflict(format!(
                "{refused}; push it again to have it tried again"
            )));
        }
        let Some(store) = self.store.clone() else {
            return Err(Failure::NotThere(format!(
                "the component of {version} was not kept: push it again, or set `server.state_dir`"
            )));
        };
        let store = store.lock_owned().await;
        let of = record.clone();
        let source =
            off_thread(move || store.source(&of)).await.map_err(|error| match refused {
                Some(refused) => Failure::Conflict(format!("{refused}; it is not kept")),
                None => Failure::NotThere(format!(
                    "the component of {version} cannot be read: {error}; push it again"
                )),
            })?;
        // What has served is not asked the cases of today, which may be about another.
        let asked = match record.served_well() {
            true => Asked::Nothing,
            false => Asked::All(None),
        };
        self.look_at(kind, &version, &source, asked, &Details::default()).await
    }

    /// Lets go of what has come of a version that could not be taken in; a new one is not known, then.
    fn let_go(&self, kind: Kind, name: &str, new: bool) {
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        // One that decides meanwhile is not new any more.
        let is_resident = roster.resident().any(|it| **it.name() == *name);
        let new = new && !is_resident;
        self.with_book(kind, |book| {
            if let Some(record) = book.find_mut(name).filter(|_| !is_resident) {
                record.unload();
            }
            book.records.retain(|it| !new || *it.version != *name);
        });
        self.has_litter.set(true);
    }

    /// Takes over what the configuration names, where that has changed. With `asked`, also what was
    /// refused before.
    pub(crate) async fn reload(&self, new: Option<&(Config, SourceMap)>, asked: bool) {
        let _reloading = self.reloading.lock().await;
        for kind in Kind::ALL {
            let (policy, other_cases) = self.with_book(kind, |book| {
                let mut other_cases = false;
                if let Some((config, _)) = new {
                    let named = config.policy(kind);
                    other_cases = book.policy.cases != named.cases;
                    if other_cases {
                        tracing::info!(
                            policy = kind.name(),
                            "the configuration's cases have changed: the next version is tried by them"
                        );
                    }
                    book.policy.component = named.component.clone();
                    book.policy.config = named.config.clone();
                    book.policy.cases = named.cases.clone();
                }
                (book.policy.clone(), other_cases)
            });
            let (source, beside) = match start::named(&policy).await {
                (Ok(source), beside) => (source, beside),
                (Err(error), _) => {
                    let policy = kind.name();
                    tracing::error!(policy, %error, "what the configuration names is not there");
                    continue;
                }
            };
            let sha256 = source.sha256();
            let again = self.with_book(kind, |book| {
                let same = book.file_looked_at.as_deref() == Some(&*sha256);
                // Cases that are no good are told of when they are asked, and are others than none.
                let beside = beside.unwrap_or(Some(Json::Null));
                let others_beside = book.file.as_deref() == Some(&*sha256) && book.beside != beside;
                if others_beside {
                    tracing::info!(
                        policy = kind.name(),
                        "the cases beside the component have changed: the next version is tried by them"
                    );
                }
                book.file = Some(sha256.clone());
                book.beside = beside;
                let refused = book.records.iter().find(|it| it.sha256 == sha256);
                let refused = refused.filter(|it| it.state == State::Refused);
                let by_others =
                    |it: &Record| (other_cases || others_beside) && it.was_refused_by_cases();
                !same || refused.is_some_and(|it| asked || by_others(it))
            });
            if !again {
                continue;
            }
            let origin = match policy.component {
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
            if let Err(failure @ Failure::Unable(_)) = &proposed {
                let policy = kind.name();
                tracing::error!(policy, %failure, "what the configuration names waits: SIGHUP, a change of it or a start tries it again");
                continue;
            }
            self.with_book(kind, |book| book.file_looked_at = Some(sha256));
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
}
