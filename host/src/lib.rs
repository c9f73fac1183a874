//! An API gateway whose routing and retry policies are WebAssembly components.

pub mod config;
pub mod policy;
