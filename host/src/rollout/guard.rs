//! Versions that make too many faults, and those that are to stand beside the active one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Notify;

use super::Rollout;
use super::book::Book;
use super::events::{Details, What};
use super::record::{Record, State};
use crate::policy::{Kind, Step};
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
                self.quarantine(kind).await;
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
        self.publish(Arc::new(generation)).await;
        self.settle(kind, before.active.name());
        self.persist(kind).await;
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
        self.with_book(kind, |book| {
            let Some(record) = book.find_mut(&record.version) else { return };
            match &loaded {
                Ok(_) => record.state = state,
                // It has served, but cannot any more, with this gateway and these services.
                Err(_) => record.activation = 0,
            }
        });
        if let Err(failure) = &loaded {
            let (policy, version) = (kind.name(), &*record.version);
            tracing::warn!(policy, version, %failure, "an earlier version is of no use any more");
        }
    }
}
