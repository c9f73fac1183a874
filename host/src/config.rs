//! The configuration: TOML in, a validated [`Config`] out, or every error at its line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One validated configuration. A value of this type keeps every promise its fields document.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub proxy: Proxy,
    pub limits: Limits,
    pub health: Health,
    pub breaker: Breaker,
    pub cors: Cors,
    pub log: Log,
    /// In the order of the file; names are unique, at least one.
    pub services: Vec<Service>,
    pub routing: Policy,
    pub retry: Policy,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub listen: SocketAddr,
    /// At least 1: `0` in the file became the number of cores.
    pub workers: usize,
    pub pages: bool,
    /// Empty, or begins with `/` and does not end with one.
    pub pages_prefix: String,
    pub drain_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone)]
pub struct Proxy {
    pub request_timeout: Duration,
    pub attempt_timeout: Option<Duration>,
    pub idle_timeout: Duration,
    pub connect_timeout: Duration,
    pub retry_attempts_max: u32,
    pub retry_delay_max: Duration,
    pub retry_budget_ratio: f64,
    pub retry_budget_min_per_s: u32,
}

#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    pub header_bytes: usize,
    pub header_count: usize,
    pub header_timeout: Duration,
    pub keep_alive_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct Health {
    pub interval: Duration,
    pub timeout: Duration,
    /// Begins with `/`.
    pub path: String,
    pub history: usize,
}

#[derive(Debug, Clone)]
pub struct Breaker {
    pub failure_threshold: u32,
    pub open_for: Duration,
    pub success_threshold: u32,
    pub timeout_floor: Duration,
}

#[derive(Debug, Clone)]
pub struct Cors {
    /// Exact origins, or the one entry `*`. Empty: the gateway leaves CORS to the services.
    pub allow_origins: Vec<String>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Duration,
    /// Never true together with the origin `*`.
    pub allow_credentials: bool,
}

#[derive(Debug, Clone)]
pub struct Log {
    /// A `tracing` level: error, warn, info, debug, trace.
    pub level: tracing::Level,
    pub access: AccessLog,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    Stdout,
    Off,
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
}

/// One address of a service: `http://host[:port]`, nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As written, for people: `http://localhost:8000`.
    pub url: String,
    /// A DNS name or an IP address (without brackets).
    pub host: String,
    pub port: u16,
    /// What goes into the `Host` header: `localhost:8000`; the port is left out where it is 80.
    pub authority: String,
}

#[derive(Debug, Clone)]
pub struct Policy {
    pub component: Component,
    pub limits: PolicyLimits,
    /// The policy's own configuration, opaque to the host: always an object.
    pub config: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// `builtin:routing`
    BuiltinRouting,
    /// `builtin:retry`
    BuiltinRetry,
    /// A file; a relative path counts from the folder of the configuration file.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLimits {
    pub decision_timeout: Duration,
    pub memory_max: usize,
    pub result_max: usize,
}
