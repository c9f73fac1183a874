//! Which versions of the policies decide, and a worker's instances of them.
//!
//! The control thread says so with a [`Generation`]; each worker makes a [`Snapshot`] of it, which a
//! request keeps from its beginning to its response's head. What no snapshot holds any more is gone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::Config;
use crate::cors::Cors;
use crate::policy::{Engine, LoadError, StateOf, Version, Warm};
use crate::telemetry::record::Versions;
use crate::upstream::{LocalServices, Services};

/// Which versions decide, for all workers. One step further for each change of a version that decides.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// In the order of [`Kind::ALL`](crate::policy::Kind::ALL).
    pub(crate) rosters: [Roster; 2],
}

/// The versions of one policy that workers have instances of.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    pub(crate) active: Arc<Version>,
    /// Decides where the active one fails.
    pub(crate) last_good: Option<Arc<Version>>,
    /// Decides nothing; a rollback finds it ready.
    pub(crate) previous: Option<Arc<Version>>,
}

impl Roster {
    /// Those that the roster has instances of: one may be there twice.
    pub(crate) fn resident(&self) -> impl Iterator<Item = &Arc<Version>> {
        [Some(&self.active), self.last_good.as_ref(), self.previous.as_ref()].into_iter().flatten()
    }
}

/// What a request keeps from its beginning to its response's head: a configuration, the services
/// and the policies' versions.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) config: Arc<Config>,
    pub(crate) services: LocalServices,
    pub(crate) routing: Deciders,
    pub(crate) retry: Deciders,
    /// The active versions' names.
    pub(crate) versions: Rc<Versions>,
    pub(crate) cors: Rc<Cors>,
    /// Whether a judge may ask how services stood on arrival, which is long before it is asked.
    pub(crate) notes_states: bool,
}

/// Who decides, and who does where that one fails.
#[derive(Debug)]
pub(crate) struct Deciders {
    pub(crate) active: Rc<Warm>,
    pub(crate) last_good: Option<Rc<Warm>>,
}

/// Where a worker makes its instances, and those that it has.
#[derive(Debug)]
pub(crate) struct Residents {
    engine: Engine,
    config: Arc<Config>,
    services: LocalServices,
    cors: Rc<Cors>,
    /// The worker's single place for a decision that overran its tick.
    runaway: Arc<Semaphore>,
    state_of: Shown<StateOf>,
    all: RefCell<Vec<Rc<Warm>>>,
}

struct Shown<T>(T);

impl<T> std::fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Residents {
    pub(crate) fn new(engine: Engine, config: Arc<Config>, services: Arc<Services>) -> Residents {
        let shared = services.clone();
        Residents {
            engine,
            cors: Rc::new(Cors::new(&config.cors)),
            config,
            services: LocalServices::new(services),
            runaway: Arc::new(Semaphore::new(1)),
            state_of: Shown(Arc::new(move |service| shared.state(service))),
            all: RefCell::default(),
        }
    }

    pub(crate) fn services(&self) -> &LocalServices {
        &self.services
    }

    /// Makes instances of a version, so that a later snapshot finds them.
    pub(crate) async fn set_up(&self, version: Arc<Version>) -> Result<(), LoadError> {
        if self.find(&version).is_some() {
            return Ok(());
        }
        let state_of = self.state_of.0.clone();
        let warm = Warm::new(&self.engine, version, self.runaway.clone(), state_of).await?;
        self.all.borrow_mut().push(warm);
        Ok(())
    }

    /// A snapshot of a generation all of whose versions were set up. Of all others only those
    /// instances stay that requests under way still need.
    pub(crate) fn snapshot(&self, generation: &Generation) -> Rc<Snapshot> {
        let set_up = |version: &Arc<Version>| self.find(version).expect("it was set up");
        let deciders = |roster: &Roster| Deciders {
            active: set_up(&roster.active),
            last_good: roster.last_good.as_ref().map(set_up),
        };
        let [routing, retry] = &generation.rosters;
        let versions =
            Versions { routing: routing.active.name().clone(), retry: retry.active.name().clone() };
        let judges = [Some(&retry.active), retry.last_good.as_ref()];
        let snapshot = Rc::new(Snapshot {
            config: self.config.clone(),
            services: self.services.clone(),
            routing: deciders(routing),
            retry: deciders(retry),
            versions: Rc::new(versions),
            cors: self.cors.clone(),
            notes_states: judges.into_iter().flatten().any(|it| it.wants_services()),
        });
        self.all.borrow_mut().retain(|warm| {
            let resident = generation.rosters.iter().flat_map(Roster::resident);
            let stays = resident.into_iter().any(|it| Arc::ptr_eq(it, warm.version()));
            if !stays {
                warm.retire();
            }
            stays
        });
        snapshot
    }

    fn find(&self, version: &Arc<Version>) -> Option<Rc<Warm>> {
        let all = self.all.borrow();
        all.iter().find(|warm| Arc::ptr_eq(warm.version(), version)).cloned()
    }
}
