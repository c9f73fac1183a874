//! Every step of every version, for those who follow them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::broadcast;

use super::record::now;
use crate::policy::{Kind, Step};

/// Events that are remembered for those who come back, and that a slow follower may be behind.
const REMEMBERED: usize = 256;

/// What happened to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Received,
    Compiled,
    Verified,
    Activated,
    Refused,
    Quarantined,
    RolledBack,
    Retired,
}

impl What {
    pub(crate) fn word(self) -> &'static str {
        match self {
            What::Received => "received",
            What::Compiled => "compiled",
            What::Verified => "verified",
            What::Activated => "activated",
            What::Refused => "refused",
            What::Quarantined => "quarantined",
            What::RolledBack => "rolled_back",
            What::Retired => "retired",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) what: What,
    /// JSON.
    pub(crate) data: String,
}

/// What an event says, beside what happened.
#[derive(Debug, Default)]
pub(super) struct Details<'a> {
    pub(super) step: Option<Step>,
    pub(super) reason: Option<&'a str>,
    pub(super) by: Option<&'a str>,
    pub(super) generation: Option<u64>,
}

#[derive(Serialize)]
struct Data<'a> {
    at: String,
    kind: &'static str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Events {
    next: Cell<u64>,
    remembered: RefCell<VecDeque<Arc<Event>>>,
    followers: broadcast::Sender<Arc<Event>>,
}

/// What a follower gets.
#[derive(Debug)]
pub(crate) struct Following {
    /// What lies behind its last event is not remembered, or not all of it.
    pub(crate) has_lost: bool,
    pub(crate) missed: Vec<Arc<Event>>,
    pub(crate) to_come: broadcast::Receiver<Arc<Event>>,
}

/// More than a gateway tells of on the average.
const IDS_PER_SECOND: u64 = 1000;

impl Events {
    pub(super) fn new() -> Events {
        let (followers, _) = broadcast::channel(REMEMBERED);
        // Larger than those of any process before, so that a follower's last one tells what it has missed.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = Cell::new(now.as_secs() * IDS_PER_SECOND);
        Events { next, remembered: RefCell::default(), followers }
    }

    /// Tells the log and all followers.
    pub(super) fn tell(&self, kind: Kind, version: &str, what: What, details: &Details<'_>) {
        let Details { step, reason, by, generation } = *details;
        let policy = kind.name();
        let step_word = step.map(Step::word);
        match what {
            What::Refused | What::Quarantined => {
                tracing::error!(policy, version, step = step_word, reason, by, "{}", what.word());
            }
            What::Activated | What::RolledBack => {
                tracing::info!(policy, version, reason, by, generation, "{}", what.word());
            }
            _ => tracing::debug!(policy, version, by, "{}", what.word()),
        }
        let data = Data { at: now(), kind: policy, version, step, reason, by, generation };
        let data = serde_json::to_string(&data).expect("there is nothing in it that JSON has not");
        let id = self.next.replace(self.next.get() + 1);
        let event = Arc::new(Event { id, what, data });
        let mut remembered = self.remembered.borrow_mut();
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(event.clone());
        let _ = self.followers.send(event); // Nobody need follow.
    }

    /// What has happened behind the event `after`, and all that will. None: from now on; 0: all that is
    /// remembered.
    pub(crate) fn follow(&self, after: Option<u64>) -> Following {
        let remembered = self.remembered.borrow();
        let oldest = remembered.front().map_or(self.next.get(), |event| event.id);
        let missed = after.map_or_else(Vec::new, |after| {
            remembered.iter().filter(|event| event.id > after).cloned().collect()
        });
        Following {
            has_lost: after.is_some_and(|after| (1..oldest - 1).contains(&after)),
            missed,
            to_come: self.followers.subscribe(),
        }
    }
}
