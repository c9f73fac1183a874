//! Who decides next on a worker whose decisions overrun their ticks.
//!
//! A decision is over within microseconds or is interrupted at the end of its first tick: nobody knows
//! before which of the two it is. Where many of the second sort arrive at once, each would take its first
//! tick before anything else of the worker goes on. So, once one has overrun, decisions begin one by one
//! for a while, with a look at the sockets in between, and the newest first: a request that has just
//! arrived waits for one tick of somebody else's and not for all.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::Fault;

/// So many decisions in a row that do not overrun, and they begin as they come again.
const CALM_AFTER: u32 = 1000;

/// One for each worker, shared by its policies.
#[derive(Debug)]
pub struct Gate {
    /// The single place for a decision that runs a further tick.
    pub(super) place: Arc<Semaphore>,
    pub(super) strain: Arc<Strain>,
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
    dispatching: Cell<bool>,
}

/// Counts down from [`CALM_AFTER`] when a decision has overrun. Only its worker touches it.
#[derive(Debug, Default)]
pub(super) struct Strain(AtomicU32);

impl Strain {
    pub(super) fn overran(&self) {
        self.0.store(CALM_AFTER, Relaxed);
    }

    /// Whether one has overrun of late.
    pub(super) fn is_felt(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// Notes that another decision begins.
    fn count_down(&self) {
        self.0.store(self.0.load(Relaxed) - 1, Relaxed);
    }
}

impl Gate {
    /// Shared by the tasks of one worker.
    pub fn new() -> Rc<Gate> {
        Rc::new(Gate {
            place: Arc::new(Semaphore::new(1)),
            strain: Arc::default(),
            waiting: RefCell::default(),
            dispatching: Cell::new(false),
        })
    }

    /// Returns when a decision may begin. Costs one load while none overruns.
    pub(super) async fn pass(self: &Rc<Self>, patience: Duration) -> Result<(), Fault> {
        if !self.strain.is_felt() {
            return Ok(());
        }
        self.strain.count_down();
        let (go, may_go) = oneshot::channel();
        self.waiting.borrow_mut().push(go);
        if !self.dispatching.replace(true) {
            tokio::task::spawn_local(self.clone().dispatch());
        }
        match tokio::time::timeout(patience, may_go).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Fault::NoInstance(format!(
                "others overran their ticks for {patience:?} (its limit is `wall_timeout`)"
            ))),
        }
    }

    /// Lets them begin, until nobody waits.
    async fn dispatch(self: Rc<Self>) {
        loop {
            let Some(newest) = self.waiting.borrow_mut().pop() else { break };
            if newest.send(()).is_ok() {
                // It runs now, and the worker looks at its sockets, before this goes on.
                tokio::task::yield_now().await;
            }
        }
        self.dispatching.set(false);
    }
}
