//! Who is decided about next by a version whose decisions overrun their ticks.
//!
//! A decision is over within microseconds or is interrupted at the end of its first slice: nobody knows
//! before which of the two it is. Where many of the second sort arrive at once, each would take its first
//! slice before anything else of the worker goes on. So, once one has overrun, decisions begin one by one
//! for a while, with a look at the sockets in between; and more and more of them, while none overruns. First
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

/// So many decisions in a row that do not overrun, and they begin as they come again.
const CALM_AFTER: u32 = 100;

/// So many times as many begin between two looks at the sockets as before the last, where none overran. Each
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

/// Whether decisions overrun. Only its worker touches it.
#[derive(Debug, Default)]
pub(super) struct Strain {
    /// Counts down from [`CALM_AFTER`] when one has overrun.
    calm_in: AtomicU32,
    /// One has since the last look at the sockets.
    is_fresh: AtomicBool,
}

impl Strain {
    pub(super) fn overran(&self) {
        self.calm_in.store(CALM_AFTER, Relaxed);
        self.is_fresh.store(true, Relaxed);
    }

    /// Whether one has overrun of late.
    pub(super) fn is_felt(&self) -> bool {
        self.calm_in.load(Relaxed) > 0
    }

    /// Notes that another decision begins.
    fn count_down(&self) {
        self.calm_in.store(self.calm_in.load(Relaxed) - 1, Relaxed);
    }

    /// Whether one has overrun since this was last asked.
    fn take_fresh(&self) -> bool {
        self.is_fresh.swap(false, Relaxed)
    }
}

impl Gate {
    /// Returns when a decision may begin, about a `suspect` request after all others. Costs one load while none
    /// overruns. A suspect one may not where its patience ends while `others_overrun`.
    pub(super) async fn pass(
        self: &Rc<Self>,
        suspect: bool,
        patience: Duration,
        others_overrun: impl Fn() -> bool,
    ) -> Result<Option<Pass>, Fault> {
        if !self.strain.is_felt() {
            return Ok(None);
        }
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
