pub mod breaker;
pub mod config;
pub mod cors;
pub mod headers;
pub mod telemetry;
pub mod upstream;
