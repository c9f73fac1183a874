//! The harness of the end-to-end tests: the built gateway as a process of its own, upstreams that
//! do what a test tells them, and a client that sees every byte, all over real sockets.
//!
//! Neither side shares a line with the gateway: what hyper gets wrong on both ends at once would
//! go unseen otherwise. So the little HTTP/1.1 that tests need stands in [`wire`].
//!
//! Nothing here sleeps in order to synchronise. A test waits for what it needs to see, under a
//! deadline ([`wait`]).

#![allow(
    clippy::unwrap_used,
    reason = "a harness has no caller to hand an error to: the test fails here, with a backtrace"
)]

pub mod by_hand;
pub mod client;
pub mod gateway;
pub mod log;
pub mod metrics;
pub mod operator;
pub mod upstream;
pub mod wait;
pub mod wire;

pub use by_hand::by_hand;
pub use client::{Client, Reply, Request};
pub use gateway::{
    EVERYTHING_TO_WRITER, Gateway, component, run, service, toml_path, with_defaults,
};
pub use operator::Push;
pub use upstream::{Answer, Gate, Received, Upstream};
pub use wait::{DEADLINE, eventually, within};
