//! Versions that make too many faults, and those that are to stand beside the active one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{MutexGuard, Notify};

use super::book::Book;
use super::events::{Details, What};
use super::record::{Record, State};
use super::{Failure, Rollout};
use crate::policy::{Kind, Step, Version};
use crate::snapshot::Generation;
use crate::telemetry::rollout::Cause;

/// How often the counts of the versions are written, while they change.
const PERSIST_EVERY: Duration = Duration::from_secs(60);

impl Rollout {
    /// Waits for versions that make too many faults, and puts the last good one in their place.
    pub(crate) async fn guard(self: Rc<Self>, too_many_faults: Arc<Notify>) {
        let mut written = 0;
        loop {
            let rung = tokio::time::timeout(PERSIST_EVERY, too_many_faults.notified()).await;
            for kind in Kind::ALL.into_iter().filter(|_| rung.is_ok()) {
                self.quarantine(kind, &too_many_faults).await;
            }
            // What was decided meanwhile would be lost with a process that is killed.
            let decided = Kind::ALL.map(|kind| self.decisions(kind)).iter().sum();
            if rung.is_err() && decided != written {
                written = decided;
                self.persist_all().await;
            }
        }
    }

    fn decisions(&self, kind: Kind) -> u64 {
        let roster = &self.generation.borrow().rosters[kind as usize];
        roster.resident().map(|version| version.stats().summary().decisions()).sum()
    }

    async fn quarantine(self: &Rc<Self>, kind: Kind, too_many_faults: &Arc<Notify>) {
        let switching = self.switching.lock().await;
        // Only now: meanwhile an operator may have put another in its place.
        let roster = self.generation.borrow().rosters[kind as usize].clone();
        let crossed: Vec<_> =
            roster.resident().filter(|it| it.stats().take_crossed()).cloned().collect();
        let (active, beside): (Vec<_>, Vec<_>) =
            crossed.into_iter().partition(|it| Arc::ptr_eq(it, &roster.active));
        // What decided where the active one failed may have failed as well: it must not take its place.
        for bad in &beside {
            self.put_away(kind, bad);
        }
        if let Some(bad) = active.first() {
            match self.roster(kind, bad.clone(), None, &roster).last_good {
                Some(last_good) => {
                    self.put_away(kind, bad);
                    let cause = Cause::Quarantine;
                    // It is resident: this cannot fail but while draining.
                    let _ = self.switch_held(&switching, kind, &last_good, cause, None).await;
                }
                None => {
                    let (policy, version, reason) = (kind.name(), &**bad.name(), reason(bad));
                    tracing::error!(
                        policy,
                        version,
                        reason,
                        "no last good version can take its place"
                    );
                }
            }
        }
        if !beside.is_empty() {
            self.rearrange(&switching, kind).await;
        }
        drop(switching);
        if active.is_empty() && beside.is_empty() {
            return;
        }
        // Another may have to be loaded: neither for that nor for the disk must the next wait.
        let (rollout, too_many_faults) = (self.clone(), too_many_faults.clone());
        tokio::task::spawn_local(async move {
            rollout.persist(kind).await;
            rollout.complete(kind).await;
            let roster = rollout.generation.borrow().rosters[kind as usize].clone();
            let still_decides = active.first().filter(|bad| Arc::ptr_eq(bad, &roster.active));
            if let (Some(bad), Some(_)) = (still_decides, &roster.last_good) {
                bad.stats().cross();
                too_many_faults.notify_one();
            }
        });
    }

    /// Notes that a version makes too many faults.
    fn put_away(&self, kind: Kind, bad: &Version) {
        let reason = reason(bad);
        self.with_book(kind, |book| {
            if let Some(record) = book.find_mut(bad.name()) {
                record.fails(State::Quarantined, Step::Decisions, reason.clone());
            }
            book.previous.take_if(|previous| **previous == **bad.name());
        });
        self.counts.of(kind).quarantined.fetch_add(1, Relaxed);
        let details =
            Details { step: Some(Step::Decisions), reason: Some(&reason), ..Details::default() };
        self.events.tell(kind, bad.name(), What::Quarantined, &details);
    }

    /// The same version decides; who stands beside it may have changed.
    async fn rearrange(&self, _switching: &MutexGuard<'_, ()>, kind: Kind) {
        let before = self.generation.borrow().rosters[kind as usize].clone();
        let previous = before.previous.clone().filter(|it| self.may_return(kind, it));
        let roster = self.roster(kind, before.active.clone(), previous, &before);
        let mut generation = Generation::clone(&self.generation());
        generation.rosters[kind as usize] = roster;
        self.publish(Arc::new(generation)).await;
        self.settle(kind, before.active.name());
    }

    /// Loads those that are to stand beside the active version and are not there: after a start, and
    /// when the last good one has gone.
    pub(crate) async fn complete(&self, kind: Kind) {
        let active = self.active(kind);
        let beside = |book: &Book| {
            let previous = book.previous.as_deref().and_then(|it| book.find(it)).cloned();
            [previous, book.last_good(&active, |_| true).cloned()]
        };
        let wanted = beside(&self.book(kind));
        for record in wanted.into_iter().flatten().filter(|record| record.loaded.is_none()) {
            self.bring_back(kind, &record).await;
        }
        let _switching = self.switching.lock().await;
        // Somebody may have been faster.
        if *self.active(kind) != *active {
            return;
        }
        let mut found = Vec::new();
        let wanted = beside(&self.book(kind));
        for record in wanted {
            let Some(version) = record.and_then(|record| record.loaded) else {
                found.push(None);
                continue;
            };
            let set_up = self.set_up(&version).await;
            found.push(set_up.is_ok().then_some(version));
        }
        let mut generation = Generation::clone(&self.generation());
        let now = &mut generation.rosters[kind as usize];
        now.last_good = found.pop().flatten();
        now.previous = found.pop().flatten();
        self.publish(Arc::new(generation)).await;
        self.settle(kind, &active);
    }

    /// Makes code of an earlier version again.
    async fn bring_back(&self, kind: Kind, record: &Record) {
        if self.store.is_none() {
            return;
        }
        let state = record.state;
        let loaded = self.load_again(kind, record).await;
        let (policy, version) = (kind.name(), &*record.version);
        self.with_book(kind, |book| {
            let Some(record) = book.find_mut(version) else { return };
            match &loaded {
                // Unless it decides by now.
                Ok(_) if record.state == State::Verified => record.state = state,
                Ok(_) => {}
                // That says nothing about it: the next time it may be there.
                Err(Failure::Unable(_)) => {}
                // It has served, but cannot any more, with this gateway and these services.
                Err(_) => record.activation = 0,
            }
        });
        if let Err(failure) = &loaded {
            tracing::warn!(policy, version, %failure, "an earlier version cannot be loaded");
        }
    }
}

/// Why a version that reached its threshold is put away.
fn reason(bad: &Version) -> String {
    let limits = bad.limits();
    format!(
        "{} faults within {} (`fault_threshold`, `fault_window`); the last: {}",
        limits.fault_threshold.unwrap_or_default(),
        humantime::format_duration(limits.fault_window),
        bad.stats().last_fault().as_deref().map_or("", String::as_str)
    )
}
