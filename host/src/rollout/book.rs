//! What is known of a policy's versions: kept in line with who decides, written down, and shown.

use std::cell::Ref;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::events::{Details, What};
use super::record::{Record, State};
use super::store::History;
use super::{Rollout, off_thread};
use crate::config;
use crate::policy::{Kind, Version};

/// Versions of one policy that are remembered.
const HISTORY_MAX: usize = 64;

/// Digits of a version's name that are enough, where no other begins like it.
const NAMED_BY_MIN: usize = 4;

/// What is known of one policy.
#[derive(Debug)]
pub(super) struct Book {
    /// What the configuration says of it, as it was last read.
    pub(super) policy: config::Policy,
    /// The SHA-256 of the version that the configuration names.
    pub(super) file: Option<String>,
    /// The same of the last that was looked at: a restart must not take another for known.
    pub(super) file_looked_at: Option<String>,
    /// The cases beside the file that the configuration names, as they were last read.
    pub(super) beside: Option<Json>,
    pub(super) previous: Option<Arc<str>>,
    /// The oldest first.
    pub(super) records: Vec<Record>,
}

impl Book {
    pub(super) fn find(&self, version: &str) -> Option<&Record> {
        self.records.iter().find(|record| *record.version == *version)
    }

    pub(super) fn find_mut(&mut self, version: &str) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| *record.version == *version)
    }

    /// The one whose name or SHA-256 begins like this; else in which way that is none, as the beginning of a
    /// sentence.
    pub(super) fn named(&self, begins: &str) -> Result<&Record, &'static str> {
        if begins.len() < NAMED_BY_MIN {
            return Err("at least four digits are needed to name a version: there is no");
        }
        let begins = begins.to_ascii_lowercase();
        let mut fitting = self.records.iter().filter(|record| record.sha256.starts_with(&begins));
        match (fitting.next(), fitting.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err("more than one begins like the"),
            (None, _) => Err("there is no"),
        }
    }

    /// The latest but this one that served well, among those that `is_there`.
    pub(super) fn last_good(
        &self,
        active: &str,
        is_there: impl Fn(&Record) -> bool,
    ) -> Option<&Record> {
        let others = self.records.iter().filter(|it| *it.version != *active && it.served_well());
        others.filter(|record| is_there(record)).max_by_key(|record| record.activation)
    }

    pub(super) fn history(&self, active: &str) -> History {
        let with_counts = |record: &Record| Record { counts: record.counts(), ..record.clone() };
        let records = self.records.iter().map(with_counts).collect();
        let file = self.file_looked_at.clone();
        History::new(file, Some(active.into()), self.previous.clone(), records)
    }
}

impl Rollout {
    pub(super) fn book(&self, kind: Kind) -> Ref<'_, Book> {
        Ref::map(self.books.borrow(), |books| &books[kind as usize])
    }

    pub(super) fn with_book<T>(&self, kind: Kind, change: impl FnOnce(&mut Book) -> T) -> T {
        change(&mut self.books.borrow_mut()[kind as usize])
    }

    /// Brings the records in line with who decides now.
    pub(super) fn settle(&self, kind: Kind, active: &str) {
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
    pub(super) fn forget_older_verified(&self, kind: Kind, latest: &str) {
        self.with_book(kind, |book| {
            for record in &mut book.records {
                if record.state == State::Verified && *record.version != *latest {
                    record.unload();
                }
            }
        });
        self.forget_oldest(kind);
    }

    pub(super) fn forget_oldest(&self, kind: Kind) {
        self.with_book(kind, |book| {
            while book.records.len() > HISTORY_MAX {
                // What was refused first: who pushes such things must not push out what has served.
                let is_refused = |it: &Record| it.loaded.is_none() && it.state == State::Refused;
                let oldest = book.records.iter().position(is_refused);
                let oldest =
                    oldest.or_else(|| book.records.iter().position(|it| it.loaded.is_none()));
                let Some(oldest) = oldest else { break };
                book.records.remove(oldest);
                self.has_litter.set(true);
            }
        });
    }

    /// Writes the history of a policy. Where that fails, the gateway goes on: what it serves is right,
    /// but a restart would not know of it.
    pub(super) async fn persist(&self, kind: Kind) {
        let Some(store) = self.store.clone() else { return };
        // What is written is what is so now that it is this one's turn: nothing newer has been written.
        let store = store.lock_owned().await;
        let history = self.book(kind).history(&self.active(kind));
        // What both are made of: they may share a component.
        let kept: Option<Vec<Record>> = self
            .has_litter
            .take()
            .then(|| self.books.borrow().iter().flat_map(|book| book.records.clone()).collect());
        let prunes = kept.is_some();
        let written = off_thread(move || {
            store.write(kind, &history)?;
            kept.map_or(Ok(()), |kept| store.prune(kept.iter()))
        });
        if let Err(error) = written.await {
            self.has_litter.set(self.has_litter.get() || prunes);
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
