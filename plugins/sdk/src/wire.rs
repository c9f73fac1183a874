//! Between the plain types and the wire. Hidden: only the export macros come here.
//!
//! Each world is put together from two halves, so that what both worlds share is generated once:
//! a component gets the exports of the halves that its macro names, and of no other.

#![allow(missing_docs, missing_debug_implementations, reason = "generated code, not for authors")]
#![allow(unsafe_code, unreachable_pub, reason = "generated code")]

use std::cell::OnceCell;
use std::time::Duration;

use crate::{
    Action, Circuit, ConfigError, Decision, Failure, Health, Outcome, Request, RetryPolicy,
    RoutingPolicy, ServiceState, Setup, Verdict,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A custom section of the component, by which `orchestrator policy inspect` knows what made it.
#[used]
#[unsafe(link_section = "orchestrator-policy-sdk")]
static MADE_BY: [u8; VERSION.len()] =
    *VERSION.as_bytes().first_chunk().expect("it is as long as itself");

pub mod common {
    wit_bindgen::generate!({
        inline: "
            package orchestrator:sdk;
            world common {
                import orchestrator:policy/setup@0.1.0;
                import orchestrator:policy/exchange@0.1.0;
                export orchestrator:policy/lifecycle@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
    });
}

pub mod route_half {
    wit_bindgen::generate!({
        inline: "
            package orchestrator:sdk;
            world route-half {
                import orchestrator:policy/answer@0.1.0;
                export orchestrator:policy/routing@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
    });
}

pub mod retry_half {
    wit_bindgen::generate!({
        inline: "
            package orchestrator:sdk;
            world retry-half {
                import orchestrator:policy/failure@0.1.0;
                import orchestrator:policy/retry-answer@0.1.0;
                export orchestrator:policy/retry@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
    });
}

use common::orchestrator::policy::{exchange, setup};
use retry_half::orchestrator::policy::{failure, retry_answer};
use route_half::orchestrator::policy::answer;

pub use common::exports::orchestrator::policy::lifecycle;
pub use retry_half::exports::orchestrator::policy::retry;
pub use route_half::exports::orchestrator::policy::routing;

/// Where an instance keeps its configured policy.
pub type Slot<P> = OnceCell<P>;

const NOT_CONFIGURED: &str = "a decision was asked for before `configure`";

pub fn configure<P>(
    slot: &Slot<P>,
    build: fn(&Setup) -> Result<P, Vec<ConfigError>>,
) -> Result<(), Vec<lifecycle::ConfigError>> {
    let setup = Setup::builder().config(setup::config()).services(setup::services()).build();
    let policy =
        build(&setup).map_err(|errors| errors.into_iter().map(Into::into).collect::<Vec<_>>())?;
    slot.set(policy)
        .map_err(|_| vec![ConfigError::new("", "this instance is configured already").into()])
}

pub fn route<P: RoutingPolicy>(slot: &Slot<P>) -> Result<(), String> {
    let policy = slot.get().ok_or(NOT_CONFIGURED)?;
    answer(policy.route(&Request::of_this_call()))
}

pub fn judge<P: RetryPolicy>(slot: &Slot<P>) -> Result<(), String> {
    let policy = slot.get().ok_or(NOT_CONFIGURED)?;
    match policy.judge(&Request::of_this_call(), &Failure::of_this_call()) {
        Verdict::Stop => {}
        Verdict::Again { delay, elsewhere } => {
            retry_answer::again(ms(delay));
            if elsewhere {
                retry_answer::elsewhere();
            }
        }
        Verdict::CannotDecide(reason) => return Err(reason.into_owned()),
    }
    Ok(())
}

fn answer(decision: Decision<'_>) -> Result<(), String> {
    match decision.action {
        Action::Forward(service) => answer::forward(&service),
        Action::Respond(status) => answer::respond(status),
        Action::Decline => {}
        Action::CannotDecide(reason) => return Err(reason.into_owned()),
    }
    if let Some(path) = decision.path {
        answer::set_path(&path);
    }
    if let Some(body) = decision.body {
        answer::set_body(&body);
    }
    if let Some(timeout) = decision.timeout {
        answer::set_timeout_ms(ms(timeout));
    }
    if let Some(timeout) = decision.attempt_timeout {
        answer::set_attempt_timeout_ms(ms(timeout));
    }
    if let Some(bytes) = decision.request_body_max {
        answer::set_request_body_max(bytes);
    }
    for edit in decision.request_headers {
        answer::set_request_header(&edit.name, edit.value.as_deref());
    }
    for edit in decision.response_headers {
        answer::set_response_header(&edit.name, edit.value.as_deref());
    }
    if let Some(key) = decision.affinity {
        answer::set_affinity(&key);
    }
    if let Some(name) = decision.route_name {
        answer::set_route_name(&name);
    }
    Ok(())
}

/// Whole milliseconds, rounded up: a timeout of 0.5 ms must not become 0, which is invalid.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub(crate) struct RequestFacts;

impl RequestFacts {
    pub(crate) fn method(&self) -> String {
        exchange::method()
    }

    pub(crate) fn scheme(&self) -> String {
        exchange::scheme()
    }

    pub(crate) fn authority(&self) -> String {
        exchange::authority()
    }

    pub(crate) fn path(&self) -> String {
        exchange::path()
    }

    pub(crate) fn query(&self) -> Option<String> {
        exchange::query()
    }

    pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
        exchange::header(name)
    }

    pub(crate) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        exchange::header_values(name)
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        exchange::headers()
    }

    pub(crate) fn client(&self) -> String {
        exchange::client()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        exchange::now_ms()
    }

    pub(crate) fn random(&self) -> u64 {
        exchange::random()
    }

    pub(crate) fn service(&self, name: &str) -> Option<ServiceState> {
        exchange::service(name).map(Into::into)
    }
}

#[derive(Debug)]
pub(crate) struct FailureFacts;

impl FailureFacts {
    pub(crate) fn service(&self) -> String {
        failure::service()
    }

    pub(crate) fn number(&self) -> u32 {
        failure::number()
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        failure::elapsed_ms()
    }

    pub(crate) fn remaining_ms(&self) -> u64 {
        failure::remaining_ms()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        failure::outcome().into()
    }

    pub(crate) fn sent(&self) -> bool {
        failure::sent()
    }

    pub(crate) fn idempotent(&self) -> bool {
        failure::idempotent()
    }

    pub(crate) fn replayable(&self) -> bool {
        failure::replayable()
    }

    pub(crate) fn others_left(&self) -> u32 {
        failure::others_left()
    }

    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        failure::retry_after_ms()
    }

    pub(crate) fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        failure::response_header(name)
    }
}

impl From<exchange::ServiceState> for ServiceState {
    fn from(state: exchange::ServiceState) -> Self {
        ServiceState {
            circuit: match state.circuit {
                exchange::Circuit::Closed => Circuit::Closed,
                exchange::Circuit::Open => Circuit::Open,
                exchange::Circuit::HalfOpen => Circuit::HalfOpen,
            },
            health: match state.health {
                exchange::Health::Healthy => Health::Healthy,
                exchange::Health::Degraded => Health::Degraded,
                exchange::Health::Unhealthy => Health::Unhealthy,
                exchange::Health::Unknown => Health::Unknown,
            },
        }
    }
}

impl From<failure::AttemptOutcome> for Outcome {
    fn from(outcome: failure::AttemptOutcome) -> Self {
        match outcome {
            failure::AttemptOutcome::ConnectFailed => Outcome::ConnectFailed,
            failure::AttemptOutcome::ConnectionLost => Outcome::ConnectionLost,
            failure::AttemptOutcome::Timeout => Outcome::Timeout,
            failure::AttemptOutcome::Status(status) => Outcome::Status(status),
            failure::AttemptOutcome::Other(word) => Outcome::Other(word),
        }
    }
}

impl From<ConfigError> for lifecycle::ConfigError {
    fn from(error: ConfigError) -> Self {
        lifecycle::ConfigError {
            pointer: error.pointer,
            message: error.message,
            suggestion: error.suggestion,
        }
    }
}
