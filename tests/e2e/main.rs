//! What the gateway promises, seen from outside: its own process, real sockets, real components.
//! Each module is a chapter; beside each promise stands the failure that belongs to it.

#![allow(
    clippy::unwrap_used,
    reason = "a test has no caller to hand an error to: it fails here, with a backtrace"
)]

mod architecture;
mod balancing;
mod bodies;
mod breaker;
mod cache;
mod configuration;
mod cors;
mod default_retry;
mod default_routes;
mod demo;
mod departures;
mod desync;
mod expectations;
mod harness;
mod lifecycle;
mod limits;
mod messages;
mod monitor;
mod outages;
mod pages;
mod paths;
mod policies;
mod policy_cli;
mod proxying;
mod retry;
mod routing;
mod services;
mod telemetry;
mod upgrades;
mod versions;
