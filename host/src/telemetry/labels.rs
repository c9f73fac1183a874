//! What happened, in the words of the metrics and the access log.

use std::io::ErrorKind;

use crate::forward::{Ended, Failure};
use crate::http1;
use crate::policy::{Fault, Outcome};
use crate::respond::Refusal;
use crate::telemetry::metrics::{AttemptResult, FaultReason, RetryReason, ServiceLimit, Why};

impl From<&Failure> for Why {
    fn from(failure: &Failure) -> Why {
        match failure {
            Failure::Connect(_) => Why::ConnectFailed,
            Failure::Lost(_) | Failure::Invalid(_) => Why::ConnectionLost,
            Failure::AttemptTimeout(_) => Why::AttemptTimeout,
            Failure::RequestTimeout { .. } => Why::RequestTimeout,
            Failure::BodyStalled(_) => Why::BodyStalled,
            Failure::ClientStalled(_) => Why::ClientStalled,
            Failure::ClientSlow => Why::ClientSlow,
            Failure::ClientBroke(_) => Why::ClientBroke,
            Failure::BodyTooLarge => Why::BodyTooLarge,
        }
    }
}

/// The limit whose reaching made an attempt fail.
pub(super) fn limit(failure: &Failure) -> Option<ServiceLimit> {
    Some(match failure {
        // One that is not the system's own is `forward.rs`'s.
        Failure::Connect(error)
            if error.kind() == ErrorKind::TimedOut && error.raw_os_error().is_none() =>
        {
            ServiceLimit::ConnectTimeout
        }
        Failure::Lost(http1::Error::HeadTooLarge | http1::Error::TooManyFields) => {
            ServiceLimit::ResponseHead
        }
        Failure::AttemptTimeout(_) => ServiceLimit::AttemptTimeout,
        Failure::RequestTimeout { .. } => ServiceLimit::RequestTimeout,
        Failure::BodyStalled(_) => ServiceLimit::ServiceTookNothing,
        Failure::ClientStalled(_) => ServiceLimit::ClientSentNothing,
        // Counted with the request: it may come to them before an attempt, or after it.
        Failure::BodyTooLarge | Failure::ClientSlow => return None,
        Failure::Connect(_) | Failure::Lost(_) | Failure::Invalid(_) | Failure::ClientBroke(_) => {
            return None;
        }
    })
}

impl From<&Ended> for AttemptResult {
    fn from(ended: &Ended) -> AttemptResult {
        let failure = match ended {
            Ended::Response(_) => return AttemptResult::Response,
            Ended::Failed(failure) => failure,
        };
        match failure {
            Failure::Connect(_) => AttemptResult::ConnectFailed,
            Failure::Lost(_) | Failure::Invalid(_) => AttemptResult::ConnectionLost,
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
            Fault::WallClock { .. } => FaultReason::WallClock,
            Fault::Memory(_) => FaultReason::Memory,
            Fault::Table(_) => FaultReason::Table,
            Fault::Stack(_) => FaultReason::Stack,
            Fault::Result(_) => FaultReason::Result,
            Fault::Invalid(_) => FaultReason::Invalid,
            Fault::CannotDecide(_) => FaultReason::CannotDecide,
            Fault::NoInstance { .. } => FaultReason::NoInstance,
        }
    }
}

/// The `why` of a request that the gateway answered itself; none for its own pages.
pub(super) fn why(refusal: &Refusal) -> Option<Why> {
    Some(match refusal {
        Refusal::BadRequest(_) => Why::BadRequest,
        Refusal::BodyTooLarge => Why::BodyTooLarge,
        Refusal::NoRoute => Why::NoRoute,
        Refusal::PageMethod | Refusal::NoPage(_) => return None,
        Refusal::PolicyFault => Why::PolicyFault,
        Refusal::NoHealth => Why::NoHealth,
        Refusal::CircuitOpen { .. } => Why::CircuitOpen,
        Refusal::Failed { failure, .. } => failure.into(),
    })
}
