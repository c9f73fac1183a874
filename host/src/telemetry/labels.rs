//! What happened, in the words of the metrics and the access log.

use crate::forward::{Attempt, Ended, Failure};
use crate::policy::{Fault, Outcome};
use crate::respond::Refusal;
use crate::telemetry::metrics::{AttemptResult, FaultReason, RetryReason};

impl From<&Attempt> for AttemptResult {
    fn from(attempt: &Attempt) -> AttemptResult {
        let failure = match &attempt.ended {
            Ended::Response(_) => return AttemptResult::Response,
            Ended::Failed(failure) => failure,
        };
        match failure {
            Failure::Connect(_) => AttemptResult::ConnectFailed,
            Failure::Lost(_) | Failure::Switched => AttemptResult::ConnectionLost,
            Failure::AttemptTimeout(_)
            | Failure::RequestTimeout { .. }
            | Failure::BodyStalled(_) => AttemptResult::Timeout,
            Failure::ClientStalled(_)
            | Failure::ClientSlow
            | Failure::ClientBroke(_)
            | Failure::BodyTooLarge => AttemptResult::Client,
        }
    }
}

impl From<Outcome> for RetryReason {
    fn from(outcome: Outcome) -> RetryReason {
        match outcome {
            Outcome::ConnectFailed => RetryReason::ConnectFailed,
            Outcome::ConnectionLost => RetryReason::ConnectionLost,
            Outcome::Timeout => RetryReason::Timeout,
            Outcome::Status(_) => RetryReason::Status,
        }
    }
}

impl From<&Fault> for FaultReason {
    fn from(fault: &Fault) -> FaultReason {
        match fault {
            Fault::Trap(_) => FaultReason::Trap,
            Fault::Timeout(_) => FaultReason::Timeout,
            Fault::WallClock(_) => FaultReason::WallClock,
            Fault::Invalid(_) => FaultReason::Invalid,
            Fault::CannotDecide(_) => FaultReason::CannotDecide,
            Fault::NoInstance(_) => FaultReason::NoInstance,
        }
    }
}

/// The `why` of a request that the gateway answered itself; none for its own pages.
pub(super) fn why(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::BadRequest(_) => "bad_request",
        Refusal::HeadTooLarge => "head_too_large",
        Refusal::BodyTooLarge => "body_too_large",
        Refusal::NoRoute => "no_route",
        Refusal::PageMethod | Refusal::NoPage(_) => return None,
        Refusal::PolicyFault => "policy_fault",
        Refusal::NoHealth => "no_health",
        Refusal::CircuitOpen { .. } => "circuit_open",
        Refusal::Failed { failure, .. } => match failure {
            Failure::Connect(_) => "connect_failed",
            Failure::Lost(_) | Failure::Switched => "connection_lost",
            Failure::AttemptTimeout(_) => "attempt_timeout",
            Failure::RequestTimeout { .. } => "request_timeout",
            Failure::BodyStalled(_) => "body_stalled",
            Failure::ClientStalled(_) => "client_stalled",
            Failure::ClientSlow => "client_slow",
            Failure::ClientBroke(_) => "client_broke",
            Failure::BodyTooLarge => "body_too_large",
        },
    })
}
