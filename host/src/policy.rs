//! Policies: WebAssembly components that decide. Nothing outside this module names `wasmtime`.
//!
//! [`Engine`] compiles, [`Version::load`] turns a component and its configuration into something
//! that can decide, [`Warm`] keeps a worker's configured instances and makes the calls.

mod bindings;
mod cache;
mod cases;
mod compile;
mod contract;
mod engine;
mod facts;
mod gate;
mod inspect;
mod instance;
mod overrun;
mod stats;
mod verify;
mod versions;
mod warm;
mod wasi;

pub use compile::{VERB as COMPILE_VERB, compile_in_this_process};
pub(crate) use engine::THIS_PROGRAM;
pub use engine::{Engine, Sizing};
pub use facts::{
    Answer, Choice, Circuit, FailedAttempt, Health, Outcome, Pace, RequestFacts, RetryAnswer,
    ServiceState, StateOf,
};
pub use inspect::{Inspection, Need, Unit, inspect};
use overrun::excerpt;
pub use stats::{Stats, Summary};
pub use verify::verify;
pub(crate) use versions::file_size;
pub use versions::{
    CasesOf, ConfigError, Digests, LoadError, Source, Step, Version, hex, short_name,
};
pub use warm::Warm;

/// What a policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Where a request goes.
    Routing,
    /// Whether a failed attempt is made again.
    Retry,
}

impl Kind {
    /// Both, in the order in which a request meets them.
    pub const ALL: [Kind; 2] = [Kind::Routing, Kind::Retry];

    /// The word for it in logs, metrics and the configuration; also the exported interface's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Routing => "routing",
            Kind::Retry => "retry",
        }
    }
}

/// Why a policy gave no usable decision. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// It panicked, ran out of memory, called what it may not.
    #[error("trap: {0}")]
    Trap(String),
    /// It ran longer than `decision_timeout`.
    #[error("timeout: {0}")]
    Timeout(String),
    /// It was not over when the wall clock's cap was reached, which may be the machine's fault.
    #[error("wall clock: {text}")]
    WallClock {
        text: String,
        /// The ticks that it ran itself.
        own_ticks: u32,
    },
    /// It wanted more memory than `memory_max`.
    #[error("memory: {0}")]
    Memory(String),
    /// It wanted more elements in a table than `table_elements_max`.
    #[error("table: {0}")]
    Table(String),
    /// Its calls went deeper than `stack_max`.
    #[error("stack: {0}")]
    Stack(String),
    /// It handed over more than `result_max`.
    #[error("result: {0}")]
    Result(String),
    /// It returned an answer that the host does not accept.
    #[error("invalid answer: {0}")]
    Invalid(String),
    /// Its own word that it cannot decide.
    #[error("cannot decide: {0}")]
    CannotDecide(String),
    /// There was none that was not busy, and none came free in time.
    #[error("no instance: {text}")]
    NoInstance {
        text: String,
        /// None was at work: the version itself takes too long to make one, or cannot.
        its_own: bool,
    },
}

impl Fault {
    /// For an answer that is not accepted. What the guest gave is part of the text, and may be long.
    pub(crate) fn invalid(text: &str) -> Fault {
        Fault::Invalid(excerpt(text))
    }

    /// Whether it counts against the version: what may be the machine's fault does not. Where many
    /// decisions overrun at once they share their ticks, and the wall clock ends all of them.
    pub(crate) fn is_its_own(&self) -> bool {
        match self {
            Fault::WallClock { own_ticks, .. } => *own_ticks > 1,
            Fault::NoInstance { its_own, .. } => *its_own,
            _ => true,
        }
    }
}
