//! What the gateway tells about itself: a line for each request, and counters.
//!
//! `record.rs` collects what happens to one request and hands it to the other two when it has ended.

pub(crate) mod access;
mod labels;
pub mod metrics;
pub(crate) mod record;
pub mod rollout;
