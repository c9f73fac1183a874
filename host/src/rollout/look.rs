//! Is a version good, step by step? And where it is not: what is said of it, and what stays.

use std::sync::Arc;

use super::events::{Details, What};
use super::record::{Record, State};
use super::start::cases_beside;
use super::{Asked, Failure, Rollout, off_thread};
use crate::policy::{CasesOf, Kind, LoadError, Source, Version, verify};

impl Rollout {
    /// Every step up to `verified`.
    pub(super) async fn look_at(
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

    pub(super) fn has_served(&self, kind: Kind, name: &str) -> bool {
        self.book(kind).find(name).is_some_and(Record::served_well)
    }

    /// Tells of what the gateway could not do. What is known of the version stays as it is.
    pub(super) fn unable(
        &self,
        kind: Kind,
        name: &str,
        error: &LoadError,
        by: Option<&str>,
    ) -> Failure {
        let (step, reason) = (error.step(), error.to_string());
        self.counts.of(kind).refused(step, error.limit());
        let details = Details { step: Some(step), reason: Some(&reason), by, ..Details::default() };
        self.events.tell(kind, name, What::Refused, &details);
        Failure::Unable(reason)
    }

    /// Notes that a version failed a step.
    pub(super) fn refuse(
        &self,
        kind: Kind,
        name: &str,
        error: LoadError,
        by: Option<&str>,
    ) -> Failure {
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
    pub(super) async fn load_again(
        &self,
        kind: Kind,
        record: &Record,
    ) -> Result<Arc<Version>, Failure> {
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
    pub(super) fn let_go(&self, kind: Kind, name: &str, new: bool) {
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
}
