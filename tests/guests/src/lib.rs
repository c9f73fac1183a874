//! Policies for tests: most are hostile, some helpful, all small.
//!
//! Each example of this crate is one guest, and its first line says what it does. A hostile guest
//! misbehaves only for requests below `/evil` and for those with a header `x-misbehave`; all other
//! requests it forwards to the first configured service (or, in `judge`, tries again at once), so
//! that a test can see other requests go on.

pub mod hostile;

use std::time::Duration;

use orchestrator_policy::{ConfigError, Request, Setup, Verdict};

/// True for the requests on which a hostile guest misbehaves.
pub fn misbehaves(request: &Request) -> bool {
    let path = request.path();
    path == "/evil" || path.starts_with("/evil/") || request.header("x-misbehave").is_some()
}

/// What follows `/evil/`: which of its tricks a guest is to play. Empty where nothing follows.
pub fn trick(request: &Request) -> String {
    request.path().strip_prefix("/evil/").unwrap_or_default().to_owned()
}

/// Where a guest forwards to when it behaves.
pub fn first_service(setup: &Setup) -> Result<String, Vec<ConfigError>> {
    setup.services().first().cloned().ok_or_else(|| vec![ConfigError::new("", "no services")])
}

/// How a retry guest judges when it behaves: two attempts.
pub fn judge_well(number: u32) -> Verdict {
    if number < 2 { Verdict::again(Duration::ZERO) } else { Verdict::stop() }
}

/// A routing policy that misbehaves by this function: `fn(&Request, service: &str) -> Decision`.
#[macro_export]
macro_rules! hostile_routing {
    ($misbehave:expr) => {
        /// Forwards to this service where it behaves.
        #[derive(Debug)]
        pub struct Guest(String);

        impl orchestrator_policy::RoutingPolicy for Guest {
            fn configure(
                setup: &orchestrator_policy::Setup,
            ) -> Result<Self, Vec<orchestrator_policy::ConfigError>> {
                $crate::first_service(setup).map(Guest)
            }

            fn route(
                &self,
                request: &orchestrator_policy::Request,
            ) -> orchestrator_policy::Decision<'_> {
                if $crate::misbehaves(request) {
                    $misbehave(request, &self.0)
                } else {
                    orchestrator_policy::Decision::forward(&self.0)
                }
            }
        }

        orchestrator_policy::export_routing!(Guest);
    };
}

/// A retry policy that misbehaves by this function: `fn(&Request, &Failure) -> Verdict`.
#[macro_export]
macro_rules! hostile_retry {
    ($misbehave:expr) => {
        /// Two attempts where it behaves.
        #[derive(Debug)]
        pub struct Guest;

        impl orchestrator_policy::RetryPolicy for Guest {
            fn configure(
                _: &orchestrator_policy::Setup,
            ) -> Result<Self, Vec<orchestrator_policy::ConfigError>> {
                Ok(Guest)
            }

            fn judge(
                &self,
                request: &orchestrator_policy::Request,
                failure: &orchestrator_policy::Failure,
            ) -> orchestrator_policy::Verdict {
                if $crate::misbehaves(request) {
                    $misbehave(request, failure)
                } else {
                    $crate::judge_well(failure.number())
                }
            }
        }

        orchestrator_policy::export_retry!(Guest);
    };
}
