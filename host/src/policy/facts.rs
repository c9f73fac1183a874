//! What goes into a decision and what comes out of it, as plain data: no `wasmtime` here.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, request};

/// A request as the policies see it: as it arrived, for every call that is made for it.
#[derive(Debug)]
pub struct RequestFacts {
    /// Method, path, query and headers, before the host edits any of them.
    pub head: request::Parts,
    /// The client's address; that of a trusted proxy's client where one speaks for it.
    pub client: IpAddr,
    /// How that client spoke: `http` or `https`.
    pub scheme: &'static str,
    /// When the request arrived, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Where the request's random streams begin.
    pub seed: u64,
    /// How the policy's last decision for this request's connection went; after a call, how that one did.
    pub pace: Pace,
    /// How services stood on arrival, in the configuration's order, as far as that is noted: each
    /// once it was asked for, so that every further call has the same answer. Routing asks at once;
    /// for a judge that may ask, which comes later, the host notes all of them beforehand.
    pub services: Vec<Option<ServiceState>>,
}

/// How a decision went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// It took no time to speak of, or nobody looked at a clock.
    #[default]
    Quick,
    /// It took much of a tick.
    Long,
    /// It met the end of its first slice.
    Overran,
}

/// How a service stands now, by its place in the configuration.
pub type StateOf = Arc<dyn Fn(usize) -> ServiceState + Send + Sync>;

/// The attempt that failed, for a judge.
#[derive(Debug)]
pub struct FailedAttempt {
    /// The service's place in the configuration.
    pub service: usize,
    /// 1 for the first attempt.
    pub number: u32,
    pub elapsed_ms: u64,
    pub remaining_ms: u64,
    pub outcome: Outcome,
    pub sent: bool,
    pub idempotent: bool,
    pub replayable: bool,
    pub others_left: u32,
    pub retry_after_ms: Option<u64>,
    /// The response's headers; none where there was no response.
    pub headers: Option<HeaderMap>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    ConnectFailed,
    ConnectionLost,
    Timeout,
    Status(u16),
}

/// A service's circuit and health on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceState {
    pub circuit: Circuit,
    pub health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Degraded,
    Unhealthy,
    Unknown,
}

/// A routing policy's answer, as handed over: nothing in it was checked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// None: the policy declined.
    pub choice: Option<Choice>,
    pub body: Option<Vec<u8>>,
    pub path: Option<String>,
    pub timeout_ms: Option<u64>,
    pub attempt_timeout_ms: Option<u64>,
    /// In bytes.
    pub request_body_max: Option<u64>,
    pub request_headers: Vec<(String, Option<Vec<u8>>)>,
    pub response_headers: Vec<(String, Option<Vec<u8>>)>,
    pub affinity: Option<Vec<u8>>,
    pub route_name: Option<String>,
}

impl Answer {
    /// The names of the parts that are not the same in both.
    pub(super) fn differences(&self, other: &Answer) -> Vec<&'static str> {
        let Answer {
            choice,
            body,
            path,
            timeout_ms,
            attempt_timeout_ms,
            request_body_max,
            request_headers,
            response_headers,
            affinity,
            route_name,
        } = self;
        let same = [
            ("choice", *choice == other.choice),
            ("body", *body == other.body),
            ("path", *path == other.path),
            ("timeout", *timeout_ms == other.timeout_ms),
            ("attempt timeout", *attempt_timeout_ms == other.attempt_timeout_ms),
            ("limit of the body", *request_body_max == other.request_body_max),
            ("request header", *request_headers == other.request_headers),
            ("response header", *response_headers == other.response_headers),
            ("affinity", *affinity == other.affinity),
            ("route's name", *route_name == other.route_name),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// To the service of this name.
    Forward(String),
    /// The client is answered with this status.
    Respond(u16),
}

/// What a policy answered, of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    Routed(Answer),
    Judged(RetryAnswer),
}

/// A retry policy's answer, unclamped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RetryAnswer {
    /// None: stop.
    pub again_after_ms: Option<u64>,
    pub elsewhere: bool,
}
