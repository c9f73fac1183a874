//! Write routing and retry policies for the Orchestrator gateway.
//!
//! A policy is a WebAssembly component. The gateway hands it a request (or an attempt that
//! failed), the policy answers, the gateway checks the answer and acts on it. In Rust that is a
//! type with one of two traits, and one line that exports it:
//!
//! ```
//! use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};
//!
//! /// Sends beta testers to the service `next`, all others to `stable`.
//! pub struct Beta;
//!
//! impl RoutingPolicy for Beta {
//!     fn configure(_: &Setup) -> Result<Self, Vec<ConfigError>> {
//!         Ok(Beta)
//!     }
//!
//!     fn route(&self, request: &Request) -> Decision<'_> {
//!         match request.header("x-beta") {
//!             Some(value) if value.text() == Some("yes") => Decision::forward("next"),
//!             _ => Decision::forward("stable"),
//!         }
//!     }
//! }
//!
//! orchestrator_policy::export_routing!(Beta);
//!
//! // On the desk, without WebAssembly:
//! let policy = Beta::configure(&Setup::builder().services(["stable", "next"]).build()).unwrap();
//! let request = Request::builder().path("/").header("x-beta", "yes").build();
//! assert_eq!(policy.route(&request), Decision::forward("next"));
//! ```
//!
//! **An answer depends on the configuration and the request only.** The gateway may ask any
//! instance, in any order, and refuses a policy whose answers show a memory. So take time from
//! [`Request::now_ms`], chance from [`Request::random`], and maps whose order you can see from
//! [`collections`].
//!
//! **A call costs.** Each method of [`Request`] and [`Failure`] is a call into the gateway: ask for
//! what you need, once.
//!
//! What is generated for the wire (`wit/policy.wit`) is in `wire.rs` and exists on wasm32 only.

#![warn(missing_docs)]

pub mod collections;
pub mod config;
mod decision;
mod failure;
mod header;
mod request;
mod setup;
mod verdict;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wire;

pub use decision::{Action, Decision, HeaderEdit, IntoBytes};
pub use failure::{Failure, Outcome};
pub use header::{HeaderValue, belongs_to_gateway};
pub use request::{Circuit, Health, Request, ServiceState};
pub use setup::{ConfigError, Setup, SetupBuilder};
pub use verdict::Verdict;

#[cfg(not(target_arch = "wasm32"))]
pub use {failure::FailureBuilder, request::RequestBuilder};

/// The example in the guide for authors compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Guide;

/// Decides where requests go.
pub trait RoutingPolicy: Sized {
    /// Reads the configuration, once, before any request: all that can be worked out beforehand
    /// belongs here.
    ///
    /// # Errors
    ///
    /// All that is wrong with the configuration, not only the first; the gateway then refuses this
    /// version of the policy and goes on with the one it has.
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>>;

    /// Decides about one request. A panic costs the instance, and the gateway asks the last good
    /// version of the policy instead; without one, which is so in gateway 0.1, the client gets 503.
    fn route(&self, request: &Request) -> Decision<'_>;
}

/// Decides whether and when a failed attempt is made again.
pub trait RetryPolicy: Sized {
    /// Reads the configuration, once: see [`RoutingPolicy::configure`].
    ///
    /// # Errors
    ///
    /// All that is wrong with the configuration.
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>>;

    /// Judges one failed attempt of a request. The gateway asks only where another attempt is
    /// possible and safe.
    fn judge(&self, request: &Request, failure: &Failure) -> Verdict;
}

/// Makes a [`RoutingPolicy`] the policy of this crate's component. Once in a crate, which must be
/// a `cdylib`. Off wasm32 it only checks that the type is a routing policy.
#[macro_export]
macro_rules! export_routing {
    ($policy:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Setup) -> Result<$policy, Vec<$crate::ConfigError>> =
            <$policy as $crate::RoutingPolicy>::configure;

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "exported symbols are `unsafe(export_name)`")]
        const _: () = {
            use $crate::wire;

            ::std::thread_local! {
                static POLICY: wire::Slot<$policy> = const { wire::Slot::new() };
            }

            struct Component;

            impl wire::lifecycle::Guest for Component {
                fn configure() -> Result<(), Vec<wire::lifecycle::ConfigError>> {
                    POLICY.with(|slot| {
                        wire::configure(slot, <$policy as $crate::RoutingPolicy>::configure)
                    })
                }
            }

            impl wire::routing::Guest for Component {
                fn route() -> Result<(), String> {
                    POLICY.with(wire::route)
                }
            }

            use wire::{common, route_half};
    wire::common::export!(Component with_types_in common);
    wire::route_half::export!(Component with_types_in route_half);
        };
    };
}

/// Makes a [`RetryPolicy`] the policy of this crate's component. Once in a crate, which must be a
/// `cdylib`. Off wasm32 it only checks that the type is a retry policy.
#[macro_export]
macro_rules! export_retry {
    ($policy:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Setup) -> Result<$policy, Vec<$crate::ConfigError>> =
            <$policy as $crate::RetryPolicy>::configure;

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "exported symbols are `unsafe(export_name)`")]
        const _: () = {
            use $crate::wire;

            ::std::thread_local! {
                static POLICY: wire::Slot<$policy> = const { wire::Slot::new() };
            }

            struct Component;

            impl wire::lifecycle::Guest for Component {
                fn configure() -> Result<(), Vec<wire::lifecycle::ConfigError>> {
                    POLICY.with(|slot| {
                        wire::configure(slot, <$policy as $crate::RetryPolicy>::configure)
                    })
                }
            }

            impl wire::retry::Guest for Component {
                fn judge() -> Result<(), String> {
                    POLICY.with(wire::judge)
                }
            }

            use wire::{common, retry_half};
    wire::common::export!(Component with_types_in common);
    wire::retry_half::export!(Component with_types_in retry_half);
        };
    };
}
