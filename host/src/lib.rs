//! An API gateway whose routing and retry policies are WebAssembly components.
//!
//! The map is `host/ARCHITECTURE.md`; the modules below stand in the order in which a request meets
//! them.

pub mod config;
pub mod gateway;

mod http1;
mod io;
mod snapshot;
mod worker;

mod admit;
mod body;
mod cors;
mod exchange;
mod expect;
mod forward;
mod headers;
mod judge;
mod local;
mod path;
mod respond;
mod route;
mod upgrade;

pub mod admin;
pub mod breaker;
mod health;
pub mod policy;
mod private;
mod rollout;
pub mod telemetry;
pub mod upstream;
