//! Another version decides: everywhere, in one step, and with others beside it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{MutexGuard, oneshot};

use super::events::{Details, What};
use super::record::{self, State};
use super::{Failure, Rollout};
use crate::policy::{Kind, LoadError, Step, Version};
use crate::snapshot::{Generation, Roster};
use crate::telemetry::rollout::Cause;
use crate::worker::Command;

/// Workers turn to other versions between two requests. Who takes longer is named in the log.
const SWITCH_TIME_LONG: Duration = Duration::from_secs(2);

impl Rollout {
    /// Has this version decide, everywhere, in one step, and writes that down. Returns how long the step took;
    /// none where it decides already.
    pub(super) async fn switch(
        &self,
        kind: Kind,
        version: &Arc<Version>,
        cause: Cause,
        by: Option<String>,
        if_match: Option<&str>,
    ) -> Result<Option<Duration>, Failure> {
        let switching = self.switching.lock().await;
        // Somebody else may have come first.
        self.matches(kind, if_match)?;
        let switched = self.switch_held(&switching, kind, version, cause, by).await;
        // The next need not wait for the disk.
        drop(switching);
        self.persist(kind).await;
        switched
    }

    /// The same, while nobody else may, and without writing it down.
    pub(super) async fn switch_held(
        &self,
        _switching: &MutexGuard<'_, ()>,
        kind: Kind,
        version: &Arc<Version>,
        cause: Cause,
        by: Option<String>,
    ) -> Result<Option<Duration>, Failure> {
        if *self.active(kind) == **version.name() {
            return Ok(None);
        }
        if let Err(error) = self.set_up(version).await {
            // Those that have instances of it let go of them.
            let generation = self.generation();
            self.publish(generation).await;
            return Err(match error {
                // It is nothing that the version has done.
                error if error.may_be_the_machines(self.has_served(kind, version.name())) => {
                    self.unable(kind, version.name(), &error, by.as_deref())
                }
                error => self.refuse(kind, version.name(), error, by.as_deref()),
            });
        }
        if self.book(kind).find(version.name()).is_none() {
            let generation = self.generation();
            self.publish(generation).await;
            return Err(Failure::forgotten(version.name()));
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
        self.publish(Arc::new(generation)).await;
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
        Ok(Some(took))
    }

    pub(super) fn may_return(&self, kind: Kind, version: &Version) -> bool {
        self.book(kind).find(version.name()).is_some_and(|it| it.state != State::Quarantined)
    }

    /// Who stands beside `active`, of those that workers have instances of.
    pub(super) fn roster(
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
    pub(super) async fn set_up(&self, version: &Arc<Version>) -> Result<(), LoadError> {
        let gone = || LoadError::unable(Step::Activate, "the gateway is draining");
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
    pub(super) async fn publish(&self, generation: Arc<Generation>) {
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
        let mut all = pin!(all);
        while tokio::time::timeout(SWITCH_TIME_LONG, all.as_mut()).await.is_err() {
            tracing::error!("a worker is too busy to turn to another version");
        }
    }
}
