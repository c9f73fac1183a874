//! Which versions decide when a gateway starts: those of the state directory, until what the
//! configuration file names has itself changed.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::Mutex;

use super::record::{Record, State, now};
use super::store::Store;
use super::{Book, Events, Origin, Rollout, off_thread};
use crate::config::{self, Component, Config, Diagnostic, Diagnostics, SourceMap};
use crate::gateway::StartError;
use crate::policy::{
    CasesOf, Engine, Kind, LoadError, Sizing, Source, THIS_PROGRAM, Version, file_size, short_name,
    verify,
};
use crate::snapshot::{Generation, Roster};
use crate::telemetry::rollout::Rollouts;

/// Loads what decides first.
pub(crate) async fn begin(config: &Config, source: &SourceMap) -> Result<Rc<Rollout>, StartError> {
    let store = match &config.server.state_dir {
        None => None,
        Some(folder) => {
            let store = Store::open(folder)
                .map_err(|error| StartError::State { folder: folder.clone(), error })?;
            Some(store)
        }
    };
    let engine = engine(config, compiled_folder(config))?;
    let services = service_names(config);
    let mut books = Vec::new();
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let opening = Opening { engine: &engine, store: store.as_ref(), kind, services: &services };
        match opening.open(config.policy(kind).clone()).await {
            Ok(opened) => books.push(opened),
            Err(error) => wrong.extend(diagnostics_of(source, kind, error)),
        }
    }
    let Ok([(routing, routes), (retry, judges)]) = <[_; 2]>::try_from(books) else {
        return Err(StartError::Refused(Diagnostics::of(wrong).expect("one of them failed")));
    };
    let books = [routing, retry];
    let activations =
        books.iter().flat_map(|book| &book.records).map(|it| it.activation).max().unwrap_or(0);
    let alone = |active| Roster { active, last_good: None, previous: None };
    let generation = Generation { number: 1, rosters: [alone(routes), alone(judges)] };
    let counts = Rollouts::new(|kind| engine.output_dropped(kind).clone());
    let rollout = Rc::new(Rollout {
        engine,
        services,
        commands: RefCell::default(),
        generation: RefCell::new(Arc::new(generation.clone())),
        books: RefCell::new(books),
        looking: Mutex::new(()),
        switching: Mutex::new(()),
        reloading: Mutex::new(()),
        activations: Cell::new(activations),
        has_litter: Cell::new(true),
        store: store.map(|store| Arc::new(Mutex::new(store))),
        events: Events::new(),
        counts,
    });
    // There are no workers yet: this only notes who decides.
    rollout.publish(Arc::new(generation)).await;
    rollout.persist_all().await;
    Ok(rollout)
}

/// Whether the configuration's policies are good: everything short of deciding.
pub(crate) async fn check(config: &Config, source: &SourceMap) -> Result<(), StartError> {
    // Where there is no folder yet none is made: who checks may be another user than who serves.
    let engine = engine(config, compiled_folder(config).filter(|folder| folder.is_dir()))?;
    let services = service_names(config);
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let opening = Opening { engine: &engine, store: None, kind, services: &services };
        let policy = config.policy(kind);
        let checked = async {
            let (source, beside) = named(policy).await;
            opening.load(&source?, policy, beside?.as_ref()).await
        };
        if let Err(error) = checked.await {
            wrong.extend(diagnostics_of(source, kind, error));
        }
    }
    Diagnostics::of(wrong).map_or(Ok(()), |wrong| Err(StartError::Refused(wrong)))
}

/// Where what was compiled is kept.
fn compiled_folder(config: &Config) -> Option<PathBuf> {
    let beside = config.server.state_dir.as_ref().map(|folder| folder.join("compiled"));
    config.server.cache_dir.clone().or(beside)
}

fn engine(config: &Config, compiled: Option<PathBuf>) -> Result<Engine, StartError> {
    let limits = Kind::ALL.map(|kind| &config.policy(kind).limits);
    let sizing = Sizing::of(config.server.workers, limits);
    let engine = Engine::new(sizing, PathBuf::from(THIS_PROGRAM))
        .map_err(|error| StartError::Engine(format!("{error:#}")))?;
    match compiled {
        None => Ok(engine),
        Some(folder) => engine
            .with_cache(&folder)
            .map_err(|error| StartError::Cache { folder: folder.clone(), error }),
    }
}

fn service_names(config: &Config) -> Vec<String> {
    config.services.iter().map(|service| service.name.clone()).collect()
}

/// What the configuration names, and the cases beside it.
pub(super) async fn named(
    policy: &config::Policy,
) -> (Result<Source, LoadError>, Result<Option<Json>, LoadError>) {
    let policy = policy.clone();
    off_thread(move || (Source::named(&policy), cases_beside(&policy.component))).await
}

/// The self-test beside a component's file: `routing.cases.json` beside `routing.wasm`.
pub(super) fn cases_beside(component: &Component) -> Result<Option<Json>, LoadError> {
    let Component::File(path) = component else { return Ok(None) };
    let path = path.with_extension("cases.json");
    let wrong = |error: &dyn std::fmt::Display| {
        LoadError::SelfTest(format!("the cases in {}: {error}", path.display()))
    };
    match file_size(&path).and_then(|_| std::fs::read(&path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(&error)),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(&error)),
    }
}

/// What is needed to open the book of one policy.
struct Opening<'a> {
    engine: &'a Engine,
    store: Option<&'a Store>,
    kind: Kind,
    services: &'a [String],
}

impl Opening<'_> {
    /// The policy's book, and the version that decides.
    async fn open(&self, policy: config::Policy) -> Result<(Book, Arc<Version>), LoadError> {
        let history = self.store.and_then(|store| match store.history(self.kind) {
            Ok(history) => history,
            Err(error) => {
                let policy = self.kind.name();
                tracing::error!(policy, %error, "the history makes no sense: it is put aside");
                store.set_aside(self.kind);
                None
            }
        });
        let (named, beside) = named(&policy).await;
        let digest = named.as_ref().ok().map(Source::sha256);
        let (mut active, mut book) = (
            history.as_ref().and_then(|history| history.active.clone()),
            Book {
                policy,
                file: digest.clone(),
                file_looked_at: None,
                beside: None,
                previous: None,
                records: Vec::new(),
            },
        );
        if let Some(history) = history {
            book.file_looked_at = history.file;
            book.previous = history.previous;
            book.records = history.versions;
            // Nobody looks at them any more, and nobody was told of them.
            book.records.retain(|it| !matches!(it.state, State::Received | State::Compiled));
            let must_not_decide =
                |it: &&mut Record| matches!(it.state, State::Refused | State::Quarantined);
            book.records.iter_mut().filter(must_not_decide).for_each(|it| it.activation = 0);
        }
        // A file's cases that are no good refuse the file, and nothing else.
        book.beside = beside.as_ref().ok().cloned().flatten();
        active.take_if(|active| book.find(active).is_none());
        // And nobody has chosen another since.
        let chosen = active.as_ref().and_then(|it| book.find(it)?.activated_at.clone());
        let refused = |sha256: &String| {
            let mut all = book.records.iter();
            let found = all.find(|it| it.sha256 == *sha256 && it.state == State::Refused);
            found.is_some_and(|it| chosen.as_ref().is_none_or(|chosen| *chosen < it.received_at))
        };
        let unchanged = match (&book.file_looked_at, &digest) {
            // What it was refused for may be another now: a limit, a service.
            (Some(before), Some(now)) => before == now && !refused(now),
            // What cannot be read has not become something else.
            (Some(_), None) => true,
            (None, _) => false,
        };
        let Some(active) = active else {
            return self.take(book, named?, beside?).await;
        };
        if !unchanged {
            let source = named.as_ref().expect("what has changed was read");
            let loaded = match &beside {
                Ok(beside) => self.load(source, &book.policy, beside.as_ref()).await,
                Err(error) => Err(LoadError::SelfTest(error.to_string())),
            };
            match loaded {
                Ok(version) => {
                    self.note(&mut book, source, version.clone());
                    if active != *version.name() {
                        book.previous = Some(active);
                    }
                    settle(&mut book, version.name());
                    return Ok((book, version));
                }
                // A gateway that was restarted goes on with what served well.
                Err(error) => {
                    let (policy, version) =
                        (self.kind.name(), short_name(&source.digests().version));
                    tracing::error!(
                        policy, version, %error,
                        "what the configuration names is refused: the version before goes on"
                    );
                    let known = book.records.iter().position(|known| *known.version == version);
                    let known = known.map(|at| book.records.remove(at));
                    let has_served = known.as_ref().is_some_and(Record::served_well);
                    let is_its_own = !error.may_be_the_machines(has_served);
                    let decides = *active == *version;
                    // One that decides goes on to do so, whatever it is asked today.
                    if is_its_own && !decides {
                        let mut record = Record::received(source, self.origin(&book), None);
                        if let Some(known) = known {
                            record.counts = known.counts;
                            record.activated_at = known.activated_at;
                        }
                        record.fails(State::Refused, error.step(), error.to_string());
                        book.records.push(record);
                    } else {
                        book.records.extend(known);
                    }
                    if is_its_own {
                        book.file_looked_at = digest;
                    }
                }
            }
        }
        let mut candidates = vec![active.clone()];
        candidates.extend(book.previous.clone());
        let mut others: Vec<&Record> = book.records.iter().filter(|it| it.served_well()).collect();
        others.sort_by_key(|record| std::cmp::Reverse(record.activation));
        candidates.extend(others.into_iter().map(|record| record.version.clone()));
        for candidate in candidates {
            let Some(record) = book.find(&candidate) else { continue };
            match self.restore(record, &book.policy).await {
                Ok(version) => {
                    book.previous.take_if(|previous| **previous == *candidate);
                    let record = book.find_mut(&candidate).expect("it was just found");
                    record.loaded = Some(version.clone());
                    settle(&mut book, &candidate);
                    return Ok((book, version));
                }
                Err(error) => {
                    let (policy, version) = (self.kind.name(), &*candidate);
                    tracing::error!(policy, version, %error, "cannot be restored");
                    if !error.may_be_the_machines(true) {
                        let record = book.find_mut(&candidate).expect("as above");
                        record.fails(State::Refused, error.step(), error.to_string());
                    }
                }
            }
        }
        self.take(book, named?, beside?).await
    }

    /// What the configuration names decides.
    async fn take(
        &self,
        mut book: Book,
        source: Source,
        beside: Option<Json>,
    ) -> Result<(Book, Arc<Version>), LoadError> {
        let version = self.load(&source, &book.policy, beside.as_ref()).await?;
        self.note(&mut book, &source, version.clone());
        settle(&mut book, version.name());
        Ok((book, version))
    }

    /// A version that has passed its cases when it came in, and is asked none again: those of today may be
    /// for another.
    async fn restore(
        &self,
        record: &Record,
        policy: &config::Policy,
    ) -> Result<Arc<Version>, LoadError> {
        let store = self.store.expect("the history came from there");
        let source = store.source(record).map_err(|error| LoadError::Read {
            path: format!("{} in `server.state_dir`", record.component_sha256),
            error,
        })?;
        self.verified(&source, policy, &[]).await
    }

    /// What the configuration names, with the cases beside it.
    async fn load(
        &self,
        source: &Source,
        policy: &config::Policy,
        beside: Option<&Json>,
    ) -> Result<Arc<Version>, LoadError> {
        let mut cases = vec![(CasesOf::Configuration, &policy.cases)];
        cases.extend(beside.map(|cases| (CasesOf::Component, cases)));
        self.verified(source, policy, &cases).await
    }

    async fn verified(
        &self,
        source: &Source,
        policy: &config::Policy,
        cases: &[(CasesOf, &Json)],
    ) -> Result<Arc<Version>, LoadError> {
        let loaded = Version::load(self.engine, self.kind, source, policy, self.services).await?;
        let loaded = Arc::new(loaded);
        verify(self.engine, &loaded, cases).await?;
        Ok(loaded)
    }

    fn origin(&self, book: &Book) -> Origin {
        match book.policy.component {
            Component::File(_) => Origin::File,
            _ => Origin::Builtin,
        }
    }

    /// Notes a version of the configuration's that decides from now on.
    fn note(&self, book: &mut Book, source: &Source, version: Arc<Version>) {
        let mut record = Record::received(source, self.origin(book), None);
        if let Some(known) = book.find(version.name()) {
            record.counts = known.counts.clone();
        }
        book.records.retain(|known| known.version != record.version);
        let last = book.records.iter().map(|it| it.activation).max().unwrap_or(0);
        record.activation = last + 1;
        record.activated_at = Some(now());
        record.loaded = Some(version);
        book.file_looked_at = Some(record.sha256.clone());
        book.records.push(record);
        if let Some(store) = self.store
            && let Err(error) = store.keep(source)
        {
            let policy = self.kind.name();
            tracing::error!(policy, %error, "`server.state_dir` cannot keep the version");
        }
    }
}

/// Brings the states in line with who is active and previous.
fn settle(book: &mut Book, active: &str) {
    let previous = book.previous.clone();
    for record in &mut book.records {
        let is_previous = previous.as_deref() == Some(&*record.version);
        record.state = match record.state {
            _ if *record.version == *active => State::Active,
            _ if is_previous => State::Previous,
            State::Active | State::Previous => State::Retired,
            other => other,
        };
    }
}

/// A policy's refusal at the lines of the file that it is about.
pub(crate) fn diagnostics_of(source: &SourceMap, kind: Kind, error: LoadError) -> Vec<Diagnostic> {
    match error {
        LoadError::Config(errors) if !errors.is_empty() => errors
            .iter()
            .map(|error| {
                let suggestion = error.suggestion.as_deref();
                source.policy_error(kind, &error.pointer, &error.message, suggestion)
            })
            .collect(),
        LoadError::Case { of: CasesOf::Configuration, case, message } => {
            vec![source.case_error(kind, &format!("/{case}"), &message)]
        }
        other => vec![source.component_error(kind, &other.to_string())],
    }
}
