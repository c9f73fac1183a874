//! A case as it is written.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde_json::Value as Json;

use crate::policy::facts::{Circuit, Health, ServiceState};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) request: WrittenRequest,
    #[serde(default)]
    pub(super) services: BTreeMap<String, WrittenState>,
    pub(super) failure: Option<WrittenFailure>,
    pub(super) decision: Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) client: IpAddr,
    pub(super) scheme: String,
}

impl Default for WrittenRequest {
    fn default() -> Self {
        WrittenRequest {
            method: "GET".into(),
            path: "/".into(),
            headers: BTreeMap::new(),
            client: Ipv4Addr::LOCALHOST.into(),
            scheme: "http".into(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenState {
    pub(super) circuit: Option<CircuitWord>,
    pub(super) health: Option<HealthWord>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CircuitWord {
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HealthWord {
    Healthy,
    Degraded,
    Unhealthy,
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFailure {
    pub(super) service: Option<String>,
    #[serde(default = "one")]
    pub(super) number: u32,
    pub(super) outcome: WrittenOutcome,
    #[serde(default)]
    pub(super) sent: bool,
    #[serde(default)]
    pub(super) others_left: u32,
    #[serde(default)]
    pub(super) elapsed_ms: u64,
    #[serde(default = "half_a_minute")]
    pub(super) remaining_ms: u64,
    pub(super) retry_after_ms: Option<u64>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn half_a_minute() -> u64 {
    30_000
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum WrittenOutcome {
    Status(u16),
    Word(OutcomeWord),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OutcomeWord {
    ConnectFailed,
    ConnectionLost,
    Timeout,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Routing {
    pub(super) forward: Option<String>,
    pub(super) respond: Option<u16>,
    pub(super) path: Option<String>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) attempt_timeout_ms: Option<u64>,
    pub(super) request_body_max: Option<u64>,
    pub(super) route: Option<String>,
    pub(super) affinity: Option<String>,
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) request_headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(super) response_headers: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) again_after_ms: Option<Milliseconds>,
    pub(super) elsewhere: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Milliseconds {
    Exactly(u64),
    Between { min: u64, max: u64 },
}

impl WrittenState {
    pub(super) fn read(&self) -> ServiceState {
        ServiceState {
            circuit: match self.circuit.unwrap_or(CircuitWord::Closed) {
                CircuitWord::Closed => Circuit::Closed,
                CircuitWord::Open => Circuit::Open,
                CircuitWord::HalfOpen => Circuit::HalfOpen,
            },
            health: match self.health.unwrap_or(HealthWord::Healthy) {
                HealthWord::Healthy => Health::Healthy,
                HealthWord::Degraded => Health::Degraded,
                HealthWord::Unhealthy => Health::Unhealthy,
                HealthWord::Unknown => Health::Unknown,
            },
        }
    }
}
