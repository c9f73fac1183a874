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
    CasesOf, Engine, Kind, LoadError, Sizing, Source, Step, THIS_PROGRAM, Version, short_name,
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
            Some(Arc::new(store))
        }
    };
    let engine = engine(config)?;
    let services = service_names(config);
    let mut books = Vec::new();
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let opening =
            Opening { engine: &engine, store: store.as_deref(), kind, services: &services };
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
        activations: Cell::new(activations),
        has_litter: Cell::new(true),
        store,
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
    let engine = engine(config)?;
    let services = service_names(config);
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let opening = Opening { engine: &engine, store: None, kind, services: &services };
        let policy = config.policy(kind);
        let checked = async { opening.load(&named(policy).await?, policy, true).await };
        if let Err(error) = checked.await {
            wrong.extend(diagnostics_of(source, kind, error));
        }
    }
    Diagnostics::of(wrong).map_or(Ok(()), |wrong| Err(StartError::Refused(wrong)))
}

fn engine(config: &Config) -> Result<Engine, StartError> {
    let limits = Kind::ALL.map(|kind| &config.policy(kind).limits);
    let sizing = Sizing::of(config.server.workers, limits);
    let engine = Engine::new(sizing, PathBuf::from(THIS_PROGRAM))
        .map_err(|error| StartError::Engine(format!("{error:#}")))?;
    let compiled = config.server.state_dir.as_ref().map(|folder| folder.join("compiled"));
    match config.server.cache_dir.clone().or(compiled) {
        None => Ok(engine),
        Some(folder) => engine
            .with_cache(&folder)
            .map_err(|error| StartError::Cache { folder: folder.clone(), error }),
    }
}

fn service_names(config: &Config) -> Vec<String> {
    config.services.iter().map(|service| service.name.clone()).collect()
}

async fn named(policy: &config::Policy) -> Result<Source, LoadError> {
    let policy = policy.clone();
    off_thread(move || Source::named(&policy)).await
}

/// The self-test beside a component's file: `routing.cases.json` beside `routing.wasm`.
pub(super) fn cases_beside(component: &Component) -> Result<Option<Json>, LoadError> {
    let Component::File(path) = component else { return Ok(None) };
    let path = path.with_extension("cases.json");
    let wrong = |error: &dyn std::fmt::Display| {
        LoadError::SelfTest(format!("the cases in {}: {error}", path.display()))
    };
    match std::fs::read(&path) {
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
        let named = named(&policy).await;
        let digest = named.as_ref().ok().map(Source::sha256);
        let (mut active, mut book) = (
            history.as_ref().and_then(|history| history.active.clone()),
            Book { policy, file: None, previous: None, records: Vec::new() },
        );
        if let Some(history) = history {
            book.file = history.file;
            book.previous = history.previous;
            book.records = history.versions;
        }
        active.take_if(|active| book.find(active).is_none());
        let unchanged = match (&book.file, &digest) {
            (Some(before), Some(now)) => before == now,
            // What cannot be read has not become something else.
            (Some(_), None) => true,
            (None, _) => false,
        };
        let Some(active) = active else {
            return self.take(book, named?, digest).await;
        };
        if !unchanged {
            let source = named.as_ref().expect("what has changed was read");
            match self.load(source, &book.policy, true).await {
                Ok(version) => {
                    self.note(&mut book, source, version.clone());
                    book.previous = Some(active).filter(|it| **it != **version.name());
                    book.file = digest;
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
                    let mut record = Record::received(source, self.origin(&book), None);
                    record.fails(State::Refused, error.step(), error.to_string());
                    book.records.retain(|known| known.version != record.version);
                    book.records.push(record);
                    book.file = digest.clone();
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
                    tracing::error!(policy, version, error, "cannot be restored");
                    let record = book.find_mut(&candidate).expect("as above");
                    record.fails(State::Refused, Step::Activate, error);
                    record.activation = 0;
                }
            }
        }
        self.take(book, named?, digest).await
    }

    /// What the configuration names decides.
    async fn take(
        &self,
        mut book: Book,
        source: Source,
        digest: Option<String>,
    ) -> Result<(Book, Arc<Version>), LoadError> {
        let version = self.load(&source, &book.policy, true).await?;
        self.note(&mut book, &source, version.clone());
        book.file = digest;
        settle(&mut book, version.name());
        Ok((book, version))
    }

    async fn restore(
        &self,
        record: &Record,
        policy: &config::Policy,
    ) -> Result<Arc<Version>, String> {
        let store = self.store.expect("the history came from there");
        let source = store.source(record).map_err(|error| error.to_string())?;
        self.load(&source, policy, false).await.map_err(|error| error.to_string())
    }

    async fn load(
        &self,
        source: &Source,
        policy: &config::Policy,
        is_the_files: bool,
    ) -> Result<Arc<Version>, LoadError> {
        let loaded = Version::load(self.engine, self.kind, source, policy, self.services).await?;
        let loaded = Arc::new(loaded);
        let beside = match is_the_files {
            true => cases_beside(&policy.component)?,
            false => None,
        };
        let mut cases = vec![(CasesOf::Configuration, &policy.cases)];
        cases.extend(beside.as_ref().map(|cases| (CasesOf::Component, cases)));
        verify(self.engine, &loaded, &cases).await?;
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
            // Nobody looks at it any more.
            State::Received | State::Compiled => State::Refused,
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
