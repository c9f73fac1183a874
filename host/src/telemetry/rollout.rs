//! What is counted of the policies' versions. The control thread alone writes it.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::policy::{Kind, Step};

/// Why another version became the active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Push,
    File,
    Activate,
    Rollback,
    Quarantine,
}

impl Cause {
    pub const WORDS: &'static [&'static str] =
        &["push", "file", "activate", "rollback", "quarantine"];
}

/// The keys of limits that refuse a version.
pub(crate) const LIMITS: &[&str] = &[
    "component_max",
    "compile_memory_max",
    "compile_cpu",
    "compile_timeout",
    "self_test_timeout",
    "configure_timeout",
    "memory_max",
    "table_elements_max",
    "tables_max",
    "core_instances_max",
    "stack_max",
    "result_max",
];

/// The counts of one policy.
#[derive(Debug)]
pub struct Counts {
    /// The name of the version that is active.
    pub active: ArcSwap<Arc<str>>,
    /// By [`Cause`].
    pub swaps: [AtomicU64; Cause::WORDS.len()],
    /// By [`Step`].
    pub refused: [AtomicU64; Step::ALL.len()],
    /// By place in [`LIMITS`].
    pub limits: [AtomicU64; LIMITS.len()],
    pub quarantined: AtomicU64,
    /// Lines that it printed and that were not logged.
    pub output_dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
pub struct Rollouts {
    pub generation: AtomicU64,
    /// In the order of [`Kind::ALL`].
    pub policies: [Counts; 2],
}

impl Rollouts {
    pub fn new(output_dropped: impl Fn(Kind) -> Arc<AtomicU64>) -> Arc<Rollouts> {
        fn zeros<const N: usize>() -> [AtomicU64; N] {
            array::from_fn(|_| AtomicU64::new(0))
        }
        Arc::new(Rollouts {
            generation: AtomicU64::new(0),
            policies: Kind::ALL.map(|kind| Counts {
                active: ArcSwap::from_pointee("".into()),
                swaps: zeros(),
                refused: zeros(),
                limits: zeros(),
                quarantined: AtomicU64::new(0),
                output_dropped: output_dropped(kind),
            }),
        })
    }

    pub fn of(&self, kind: Kind) -> &Counts {
        &self.policies[kind as usize]
    }
}

impl Counts {
    pub fn swapped(&self, cause: Cause) {
        self.swaps[cause as usize].fetch_add(1, Relaxed);
    }

    /// A version was refused at this step, for the limit of this key where it was one.
    pub fn refused(&self, step: Step, limit: Option<&str>) {
        if let Some(at) = Step::ALL.iter().position(|known| *known == step) {
            self.refused[at].fetch_add(1, Relaxed);
        }
        let at = limit.and_then(|limit| LIMITS.iter().position(|known| *known == limit));
        if let Some(at) = at {
            self.limits[at].fetch_add(1, Relaxed);
        }
    }
}
