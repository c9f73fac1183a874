//! Policies: WebAssembly components that decide. Nothing outside this module names `wasmtime`.
//!
//! [`Engine`] compiles, [`Version::load`] turns a component and its configuration into something
//! that can decide, [`Warm`] keeps a worker's configured instances and makes the calls.

mod bindings;
mod cache;
mod engine;
mod facts;
mod instance;
mod versions;
mod wasi;

pub use engine::{Engine, Sizing};
pub use facts::{
    Answer, Choice, Circuit, FailedAttempt, Health, Outcome, RequestFacts, RetryAnswer,
    ServiceState, StateOf,
};
pub use instance::{Warm, try_configure};
pub use versions::{ConfigError, LoadError, Version};

/// What a policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Where a request goes.
    Routing,
    /// Whether a failed attempt is made again.
    Retry,
}

impl Kind {
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
    #[error("wall clock: {0}")]
    WallClock(String),
    /// It wanted more memory than `memory_max`.
    #[error("memory: {0}")]
    Memory(String),
    /// It handed over more than `result_max`.
    #[error("result: {0}")]
    Result(String),
    /// It returned an answer that the host does not accept.
    #[error("invalid answer: {0}")]
    Invalid(String),
    /// Its own word that it cannot decide.
    #[error("cannot decide: {0}")]
    CannotDecide(String),
    /// Every instance was busy, and none came free in time.
    #[error("no instance: {0}")]
    NoInstance(String),
}
