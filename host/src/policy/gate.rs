//! Who is decided about next by a version whose decisions take long.
//!
//! A decision is over within microseconds, or takes much of its first slice and may be interrupted at the end
//! of it: nobody knows before which of the two it is. Where many of the second sort arrive at once, each would
//! have its slice before anything else of the worker goes on. So, once one was long, decisions begin one by
//! one for a while, with a look at the sockets in between; and more and more of them, while none is. First
//! those from connections whose last decision was one of the first sort; of them the newest and the oldest in
//! turn, so that a request that came before or behind a burst waits for few of it and not for all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Fault;
use super::engine::EPOCH;

/// One is long that ran for so long itself: a worker may make sixty of them between two looks at the sockets.
pub(super) const LONG: Duration = EPOCH;

/// So many decisions in a row that are not long, and they begin as they come again.
const CALM_AFTER: u32 = 100;

/// So many are timed once one seems to have been long.
const TIMED: u32 = 8;

/// So many times as many begin between two looks at the sockets as before the last, where none was long. Each
/// look costs what all who are ready do: of a thousand connections, a fifth of `wall_timeout`.
const MORE: usize = 4;

/// That of a worker's instances of one version.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) strain: Arc<Strain>,
    /// The oldest in front; first those that nothing speaks against.
    waiting: [RefCell<VecDeque<oneshot::Sender<Pass>>>; 2],
    dispatching: Cell<bool>,
}

/// Leave to begin. Dropped when the decision does so: only then comes the next one's turn, so that all do
/// not wait for an instance in the order in which they came.
#[derive(Debug)]
pub(super) struct Pass(
    #[expect(dead_code, reason = "its end is what it is for")] oneshot::Sender<()>,
);

/// Whether decisions are long. Only its worker touches it.
#[derive(Debug, Default)]
pub(super) struct Strain {
    /// Counts down from [`CALM_AFTER`] when one was.
    calm_in: AtomicU32,
    /// One was since the last look at the sockets.
    is_fresh: AtomicBool,
    /// Counts down from [`TIMED`] when one seems to have been.
    timed: AtomicU32,
}

impl Strain {
    /// Notes that one ran for so long itself.
    pub(super) fn ran(&self, time: Duration) {
        if time >= LONG {
            self.calm_in.store(CALM_AFTER, Relaxed);
            self.is_fresh.store(true, Relaxed);
        }
    }

    /// Notes that one took [`LONG`] by the wall clock, with all that kept it waiting.
    pub(super) fn seems_long(&self) {
        self.timed.store(TIMED, Relaxed);
    }

    /// Whether one was long of late.
    pub(super) fn is_felt(&self) -> bool {
        self.calm_in.load(Relaxed) > 0
    }

    /// Whether the decision that begins is to be timed, which costs as much as a small one.
    pub(super) fn times(&self) -> bool {
        let timed = self.timed.load(Relaxed);
        if timed > 0 {
            self.timed.store(timed - 1, Relaxed);
        }
        timed > 0 || self.is_felt()
    }

    /// Notes that another decision begins.
    fn count_down(&self) {
        self.calm_in.store(self.calm_in.load(Relaxed) - 1, Relaxed);
    }

    /// Whether one was long since this was last asked.
    fn take_fresh(&self) -> bool {
        self.is_fresh.swap(false, Relaxed)
    }
}

impl Gate {
    /// Returns when a decision may begin, about a `suspect` request after all others. Costs one load while none
    /// is long. A suspect one may not where its patience ends while `others_overrun`.
    pub(super) async fn pass(
        self: &Rc<Self>,
        suspect: bool,
        patience: Duration,
        others_overrun: impl Fn() -> bool,
    ) -> Result<Option<Pass>, Fault> {
        match self.strain.is_felt() {
            false => Ok(None),
            true => Box::pin(self.wait(suspect, patience, others_overrun)).await,
        }
    }

    async fn wait(
        self: &Rc<Self>,
        suspect: bool,
        patience: Duration,
        others_overrun: impl Fn() -> bool,
    ) -> Result<Option<Pass>, Fault> {
        self.strain.count_down();
        let (go, may_go) = oneshot::channel();
        self.waiting[usize::from(suspect)].borrow_mut().push_back(go);
        if !self.dispatching.replace(true) {
            tokio::task::spawn_local(self.clone().dispatch());
        }
        match tokio::time::timeout(patience, may_go).await {
            Ok(pass) => Ok(pass.ok()),
            // That the worker has much to do, too, has kept it waiting, and nothing speaks against it.
            Err(_) if !suspect || !others_overrun() => Ok(None),
            Err(_) => {
                let text = format!(
                    "others overran their ticks for {patience:?} (its limit is `wall_timeout`)"
                );
                Err(Fault::NoInstance { text, its_own: false })
            }
        }
    }

    /// Lets them begin, until nobody waits.
    async fn dispatch(self: Rc<Self>) {
        let mut newest = false;
        let mut together = 1;
        let mut begun = Vec::new();
        loop {
            while begun.len() < together {
                newest = !newest;
                // Suspect ones only where none other waits, and one by one.
                let waiting = &self.waiting[..1 + usize::from(begun.is_empty())];
                let next = waiting.iter().find_map(|waiting| match newest {
                    true => waiting.borrow_mut().pop_back(),
                    false => waiting.borrow_mut().pop_front(),
                });
                let Some(next) = next else { break };
                let (begins, has_begun) = oneshot::channel();
                if next.send(Pass(begins)).is_ok() {
                    begun.push(has_begun);
                }
            }
            if begun.is_empty() {
                break;
            }
            self.strain.take_fresh();
            for has_begun in begun.drain(..) {
                let _ = has_begun.await; // Nobody sends: its end is the word.
            }
            // They run, and the worker looks at its sockets, before this goes on.
            tokio::task::yield_now().await;
            together = match self.strain.take_fresh() {
                true => 1,
                false => together.saturating_mul(MORE),
            };
        }
        self.dispatching.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_seemed_long_has_the_next_ones_timed_and_only_one_that_ran_long_has_them_wait() {
        let strain = Strain::default();
        assert!(!strain.times());
        // The machine, or others of the worker, may have kept it.
        strain.seems_long();
        strain.ran(LONG / 2);
        assert!(!strain.is_felt());
        assert!((0..TIMED).all(|_| strain.times()));
        assert!(!strain.times());

        strain.ran(LONG);
        assert!(strain.take_fresh() && !strain.take_fresh());
        for _ in 0..CALM_AFTER {
            assert!(strain.is_felt() && strain.times());
            strain.count_down();
        }
        assert!(!strain.is_felt() && !strain.times());
    }
}
