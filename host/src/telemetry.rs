//! What the gateway tells about its work: metrics and the access log.

pub(crate) mod access;
pub mod metrics;
pub(crate) mod record;
