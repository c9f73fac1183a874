//! What the gateway tells about its work: metrics and the access log.

pub mod access;
pub mod metrics;
