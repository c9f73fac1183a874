//! The attempt that failed.
//!
//! On wasm32 each method asks the gateway; natively a [`FailureBuilder`] holds the facts.

use std::time::Duration;

use crate::HeaderValue;

#[cfg(not(target_arch = "wasm32"))]
use self::desk::Facts;
#[cfg(target_arch = "wasm32")]
use crate::wire::FailureFacts as Facts;

/// An attempt that failed and could be made again.
#[derive(Debug)]
pub struct Failure {
    facts: Facts,
}

impl Failure {
    /// The service that was tried.
    pub fn service(&self) -> String {
        self.facts.service()
    }

    /// Which attempt this was: 1 for the first.
    pub fn number(&self) -> u32 {
        self.facts.number()
    }

    /// The time since the request had arrived whole.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.facts.elapsed_ms())
    }

    /// The time that is left for the whole request.
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(self.facts.remaining_ms())
    }

    /// How the attempt ended.
    pub fn outcome(&self) -> Outcome {
        self.facts.outcome()
    }

    /// True when bytes of the request were written, so that it may have taken effect.
    pub fn sent(&self) -> bool {
        self.facts.sent()
    }

    /// True when the method is idempotent (RFC 9110 section 9.2.2).
    pub fn idempotent(&self) -> bool {
        self.facts.idempotent()
    }

    /// True when the gateway still has the whole request, body included.
    pub fn replayable(&self) -> bool {
        self.facts.replayable()
    }

    /// How many other endpoints of the service would admit an attempt now.
    pub fn others_left(&self) -> u32 {
        self.facts.others_left()
    }

    /// The response's `Retry-After`, from now; none where it is absent or cannot be read.
    pub fn retry_after(&self) -> Option<Duration> {
        self.facts.retry_after_ms().map(Duration::from_millis)
    }

    /// The values of a header of the response, joined by `, `; none where it is absent or there was
    /// no response.
    pub fn response_header(&self, name: &str) -> Option<HeaderValue> {
        self.facts.response_header(name).map(HeaderValue::from)
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn of_this_call() -> Self {
        Failure { facts: Facts }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No connection came about.
    ConnectFailed,
    /// The connection broke before the response head was complete.
    ConnectionLost,
    /// The attempt's time was over.
    Timeout,
    /// A response came, with this status, 400 or more.
    Status(u16),
    /// Something this version of the contract has no word for.
    Other(String),
}

#[cfg(not(target_arch = "wasm32"))]
pub use desk::FailureBuilder;

/// Failures made by hand, for tests on the desk.
#[cfg(not(target_arch = "wasm32"))]
mod desk {
    use std::time::Duration;

    use super::{Failure, Outcome};

    #[derive(Debug, Clone)]
    pub(super) struct Facts {
        service: String,
        number: u32,
        elapsed: Duration,
        remaining: Duration,
        outcome: Outcome,
        sent: bool,
        idempotent: bool,
        replayable: bool,
        others_left: u32,
        retry_after: Option<Duration>,
        response_headers: Vec<(String, Vec<u8>)>,
    }

    impl Facts {
        pub(super) fn service(&self) -> String {
            self.service.clone()
        }

        pub(super) fn number(&self) -> u32 {
            self.number
        }

        pub(super) fn elapsed_ms(&self) -> u64 {
            whole_ms(self.elapsed)
        }

        pub(super) fn remaining_ms(&self) -> u64 {
            whole_ms(self.remaining)
        }

        pub(super) fn outcome(&self) -> Outcome {
            self.outcome.clone()
        }

        pub(super) fn sent(&self) -> bool {
            self.sent
        }

        pub(super) fn idempotent(&self) -> bool {
            self.idempotent
        }

        pub(super) fn replayable(&self) -> bool {
            self.replayable
        }

        pub(super) fn others_left(&self) -> u32 {
            self.others_left
        }

        pub(super) fn retry_after_ms(&self) -> Option<u64> {
            self.retry_after.map(whole_ms)
        }

        pub(super) fn response_header(&self, name: &str) -> Option<Vec<u8>> {
            let of_name = |(n, _): &&(String, Vec<u8>)| n.eq_ignore_ascii_case(name);
            let values: Vec<_> =
                self.response_headers.iter().filter(of_name).map(|(_, v)| v.as_slice()).collect();
            (!values.is_empty()).then(|| values.join(&b", "[..]))
        }
    }

    /// The wire knows milliseconds only: a test must not see finer than a policy does.
    fn whole_ms(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    impl Failure {
        /// Starts a failure for a test: the first attempt at `service`, no connection, nothing sent,
        /// idempotent, replayable, no other endpoint, 30 s left.
        pub fn builder() -> FailureBuilder {
            FailureBuilder {
                facts: Facts {
                    service: "service".to_owned(),
                    number: 1,
                    elapsed: Duration::ZERO,
                    remaining: Duration::from_secs(30),
                    outcome: Outcome::ConnectFailed,
                    sent: false,
                    idempotent: true,
                    replayable: true,
                    others_left: 0,
                    retry_after: None,
                    response_headers: Vec::new(),
                },
            }
        }
    }

    /// Builds a [`Failure`]. Exists off wasm32 only.
    #[derive(Debug, Clone)]
    pub struct FailureBuilder {
        facts: Facts,
    }

    impl FailureBuilder {
        /// The service that was tried; else `service`.
        pub fn service(mut self, name: impl Into<String>) -> Self {
            self.facts.service = name.into();
            self
        }

        /// Which attempt this was; else 1.
        pub fn number(mut self, number: u32) -> Self {
            self.facts.number = number;
            self
        }

        /// The time since the request had arrived whole; else 0.
        pub fn elapsed(mut self, elapsed: Duration) -> Self {
            self.facts.elapsed = elapsed;
            self
        }

        /// The time that is left; else 30 s.
        pub fn remaining(mut self, remaining: Duration) -> Self {
            self.facts.remaining = remaining;
            self
        }

        /// How the attempt ended; else [`Outcome::ConnectFailed`].
        pub fn outcome(mut self, outcome: Outcome) -> Self {
            self.facts.outcome = outcome;
            self
        }

        /// Whether bytes of the request were written; else false.
        pub fn sent(mut self, sent: bool) -> Self {
            self.facts.sent = sent;
            self
        }

        /// Whether the method is idempotent; else true.
        pub fn idempotent(mut self, idempotent: bool) -> Self {
            self.facts.idempotent = idempotent;
            self
        }

        /// Whether the gateway still has the whole request; else true.
        pub fn replayable(mut self, replayable: bool) -> Self {
            self.facts.replayable = replayable;
            self
        }

        /// How many other endpoints would admit an attempt; else 0.
        pub fn others_left(mut self, others_left: u32) -> Self {
            self.facts.others_left = others_left;
            self
        }

        /// The response's `Retry-After`; else none.
        pub fn retry_after(mut self, retry_after: Duration) -> Self {
            self.facts.retry_after = Some(retry_after);
            self
        }

        /// One more header of the response.
        pub fn response_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
            self.facts.response_headers.push((name.to_owned(), value.as_ref().to_vec()));
            self
        }

        /// The failure.
        pub fn build(self) -> Failure {
            Failure { facts: self.facts }
        }
    }
}
