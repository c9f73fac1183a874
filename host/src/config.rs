//! The configuration: TOML in, a validated [`Config`] out, or every error at its line.
//!
//! This file is the reference: each field says what its key does, in which unit, its default and
//! its limits. A key that a file leaves out has the value of the built-in configuration
//! ([`Config::builtin`]); a key that is not listed here is unknown, and so refused.
//!
//! **A new key** is a field of the struct whose documentation begins with the key's section; where a
//! section has one key of several, each is a variant of such an enum. The field's documentation says what the key does; its last paragraph is of this form:
//!
//! ```text
//! A duration. Default: `30s`. Limits: `1ms` to `1h`.
//! ```
//!
//! First what the value is: `A duration`, `A size`, `A number` (a whole one), `A fraction`, `True or
//! false`, `A list of up to 100`, `Up to 128 bytes`, or other words; `… or `off``. Then `Required.` or
//! the default: as in TOML but for the quotes, or in words where it is not a fixed one (`Default:
//! that of `[health]`.`). Limits where there are some. `tests/reference.rs` holds all of that against
//! the reader, and `host/CONFIG.md` is made from it by
//! `UPDATE=1 cargo test --release -p orchestrator --lib config::tests::reference`.
//!
//! A field serializes as its key's value in TOML: durations and `off` do of themselves, a size needs
//! `#[serde(serialize_with = "show::size")]`. `tests/shown.rs` says so where it does not.
//!
//! Behind it, in the order in which a file passes: `load` reads it and puts the parts together,
//! `reader` walks the TOML, `sections`, `admin`, `services`, `policies` and `policy_limits` know the
//! keys, `value` and `web` their values, and `diagnostic` and `source` say what is wrong and where.
//! `show` is the way back, from a [`Config`] to TOML, and `differences` compares two by it.

mod admin;
mod diagnostic;
mod differences;
mod load;
mod policies;
mod policy_limits;
mod reader;
mod sections;
mod services;
mod show;
mod source;
mod value;
mod web;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::policy::Kind;

pub use self::diagnostic::{Diagnostic, Diagnostics};
pub use self::load::CONFIG_BYTES_MAX;
pub use self::services::ENDPOINTS_MAX;
pub use self::source::{Origin, SourceMap};

/// One validated configuration. A value of this type keeps every promise its fields document.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin]`
    pub admin: Admin,
    /// `[proxy]`
    pub proxy: Proxy,
    /// `[limits]`
    pub limits: Limits,
    /// `[health]`
    pub health: Health,
    /// `[breaker]`
    pub breaker: Breaker,
    /// `[cors]`
    pub cors: Cors,
    /// `[log]`
    pub log: Log,
    /// `[services.<name>]`, in the order of the file.
    pub services: Vec<Service>,
    /// `[policy.routing]`
    pub routing: Policy,
    /// `[policy.retry]`
    pub retry: Policy,
}

impl Config {
    /// `[policy.routing]` or `[policy.retry]`.
    pub fn policy(&self, kind: Kind) -> &Policy {
        match kind {
            Kind::Routing => &self.routing,
            Kind::Retry => &self.retry,
        }
    }
}

/// `[server]`: the listener that clients speak to.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// The address and port that clients connect to; port 0 takes any free one.
    ///
    /// An IP address with a port. Default: `127.0.0.1:8003`.
    pub listen: SocketAddr,
    /// Threads that serve requests; `0`: one for each core.
    ///
    /// A number. Default: `0`. Limits: `0` to `256`.
    pub workers: usize,
    /// Whether the gateway answers its own pages (`/`, `/health`, `/docs`, …) itself.
    ///
    /// True or false. Default: `true`.
    pub pages: bool,
    /// What the paths of the gateway's own pages begin with: empty, or it begins with `/` and does
    /// not end with one, such as `/_gateway`.
    ///
    /// Up to 128 bytes; segments of `A-Z a-z 0-9 - . _ ~`. Default: `""`.
    pub pages_prefix: String,
    /// Which peers are proxies of our own, whose `Forwarded`, `X-Forwarded-…` and `X-Request-Id`
    /// count: networks such as `10.0.0.0/8` and `fd00::/8`, or single addresses. What all other
    /// peers say there is replaced.
    ///
    /// A list of up to 1000. Default: `[]`.
    #[serde(serialize_with = "show::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether paths are refused (400) that only some servers read as they are written: those with
    /// `;`, or with `/`, `;` or `%` percent-encoded. For rules about paths in front of services that
    /// decode `%2F` before they route, or cut off what follows a `;`.
    ///
    /// True or false. Default: `false`.
    pub strict_paths: bool,
    /// Where compiled policies are kept, so that the next start need not compile them: a path with a
    /// `/` in it; a relative one counts from the folder of the configuration file. Made where it is
    /// not there; nobody but the gateway's user may have access. Gateways can share it, and it can be
    /// emptied at any time; it has 64 files at most.
    ///
    /// A path or `off`. Default: `off`.
    #[serde(serialize_with = "show::path_or_off")]
    pub cache_dir: Option<PathBuf>,
    /// Where the history of the policies' versions is kept: a path with a `/` in it; a relative one
    /// counts from the folder of the configuration file. Made where it is not there; nobody but the
    /// gateway's user may have access. Compiled policies are kept in its folder `compiled`, unless
    /// `cache_dir` names another.
    ///
    /// A path or `off`. Default: `off`.
    #[serde(serialize_with = "show::path_or_off")]
    pub state_dir: Option<PathBuf>,
    /// Whether files are taken over when they change: the policies' components, the cases beside them,
    /// and of the configuration file what `[policy.routing]` and `[policy.retry]` say about `component`,
    /// `config` and `cases`. All other keys need a restart.
    ///
    /// True or false. Default: `true`.
    pub watch: bool,
    /// How long the gateway goes on accepting connections once it is told to stop, with `/readyz` down
    /// already: the time that a load balancer in front needs to see that.
    ///
    /// A duration. Default: `0s`. Limits: `0s` to `10m`.
    pub drain_delay: Duration,
    /// How long requests in flight may take to end once the gateway accepts no more.
    ///
    /// A duration. Default: `30s`. Limits: `0s` to `1h`.
    pub drain_timeout: Duration,
}

/// `[admin]`: the listener that operators speak to.
#[derive(Debug, Clone, Serialize)]
pub struct Admin {
    /// Where `/metrics`, `/livez`, `/readyz` and the admin API are: an address and a port, never those
    /// of `server.listen`, unless the port is 0; or, as in `unix:/run/orchestrator.sock`, the path of a
    /// socket that the gateway makes for its own user alone, and removes when it ends. A relative path
    /// counts from the folder of the configuration file; as an absolute one it has up to 107 bytes.
    ///
    /// An IP address with a port, or a path behind `unix:`. Default: `127.0.0.1:8004`.
    pub listen: AdminListen,
    /// Who may change policies by the admin API: a table `[admin.tokens.<name>]` for each, with a name
    /// of 1 to 64 of `A-Z a-z 0-9 _ -`; up to 100. Without any, the API only answers questions.
    ///
    /// A table. Default: none.
    #[serde(serialize_with = "show::tokens")]
    pub tokens: Vec<AdminToken>,
}

/// Where the admin listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A unix socket; an absolute path.
    Unix(PathBuf),
}

/// One who may change policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Whom the gateway names when something was changed with it. Unique.
    pub name: String,
    pub source: TokenSource,
}

/// `[admin.tokens.<name>]`: where the token of `<name>` is, which itself never stands in the
/// configuration. It has exactly one of these keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The file whose first line is the token; a relative path counts from the folder of the
    /// configuration file.
    ///
    /// A path. Default: none; `env` is there then.
    File(PathBuf),
    /// The environment variable that has the token: up to 128 letters, digits and `_`, no digit in
    /// front.
    ///
    /// A word. Default: none; `file` is there then.
    Env(String),
}

/// `[proxy]`: how long a request may take, and how often it may be tried.
#[derive(Debug, Clone, Serialize)]
pub struct Proxy {
    /// From the whole request's arrival to the head of its response: all attempts and the delays
    /// between them.
    ///
    /// A duration. Default: `30s`. Limits: `1ms` to `1h`.
    pub request_timeout: Duration,
    /// One attempt; what makes a timeout worth a retry. `off`: an attempt may use up the request's
    /// time. Never longer than `request_timeout`.
    ///
    /// A duration or `off`. Default: `off`. Limits: `1ms` to `1h`.
    pub attempt_timeout: Option<Duration>,
    /// How long a body, in either direction, may stand still.
    ///
    /// A duration. Default: `30s`. Limits: `1ms` to `1day`.
    pub idle_timeout: Duration,
    /// How long a tunnel (a WebSocket, or what else the two sides have agreed on by `Upgrade`) may live
    /// without a byte in either direction.
    ///
    /// A duration. Default: `5m`. Limits: `1ms` to `1day`.
    pub tunnel_idle_timeout: Duration,
    /// How long connecting to an endpoint may take.
    ///
    /// A duration. Default: `5s`. Limits: `1ms` to `5m`.
    pub connect_timeout: Duration,
    /// How much of a request's body is kept, so that a further attempt can send it again; a request
    /// with a larger one is not tried again once its body was begun.
    ///
    /// A size. Default: `64KiB`. Limits: `0B` to `16MiB`.
    #[serde(serialize_with = "show::size")]
    pub replay_body_max: usize,
    /// Attempts for one request, the first included, whatever the retry policy asks for.
    ///
    /// A number. Default: `10`. Limits: `1` to `100`.
    pub retry_attempts_max: u32,
    /// The longest delay before an attempt, whatever the retry policy asks for.
    ///
    /// A duration. Default: `30s`. Limits: `0s` to `1h`.
    pub retry_delay_max: Duration,
    /// The retry budget of each service: retries as a part of its requests.
    ///
    /// A fraction. Default: `0.2`. Limits: `0` to `10`.
    pub retry_budget_ratio: f64,
    /// Retries per second that each service's budget always allows.
    ///
    /// A number. Default: `10`. Limits: `0` to `100000`.
    pub retry_budget_min_per_s: u32,
}

/// `[limits]`: what one client may take up.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// Clients' connections that are open at one time, over all workers.
    ///
    /// A number. Default: `10000`. Limits: `1` to `1000000`.
    pub connections: usize,
    /// A request's or response's head, in bytes.
    ///
    /// A size. Default: `64KiB`. Limits: `8KiB` to `1MiB`.
    #[serde(serialize_with = "show::size")]
    pub header_bytes: usize,
    /// Fields in a request's or response's head.
    ///
    /// A number. Default: `100`. Limits: `10` to `1000`.
    pub header_count: usize,
    /// From the first byte of a request's head to its last. Of a head that begins in one piece with the
    /// request before it, `keep_alive_timeout` is what bounds the rest.
    ///
    /// A duration. Default: `10s`. Limits: `1ms` to `10m`.
    pub header_timeout: Duration,
    /// How long a client's connection may wait for its next request.
    ///
    /// A duration. Default: `75s`. Limits: `1ms` to `1h`.
    pub keep_alive_timeout: Duration,
    /// The slowest that a client may send its request's body, or read its response's, over 10 s in
    /// which the gateway waits for it: in bytes per second.
    ///
    /// A rate or `off`. Default: `240B/s`. Limits: `1B/s` to `1GiB/s`.
    #[serde(serialize_with = "show::rate_or_off")]
    pub body_rate_min: Option<u64>,
    /// A request's body: more is answered 413. A route may have a lower limit, not a higher one.
    ///
    /// A size or `off`. Default: `off`. Limits: `0B` to `1TiB`.
    #[serde(serialize_with = "show::size_or_off")]
    pub body_bytes: Option<u64>,
}

/// `[health]`: how the services are checked.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// From one check of an endpoint to the next. Without checks, traffic alone opens and closes circuits,
    /// and a service that has no open one is `unknown`.
    ///
    /// A duration or `off`. Default: `30s`. Limits: `10ms` to `1day`.
    pub interval: Option<Duration>,
    /// How long one check may take.
    ///
    /// A duration. Default: `5s`. Limits: `1ms` to `5m`.
    pub timeout: Duration,
    /// What is asked for: begins with `/`, may have a query. 2xx is healthy; with any other answer three
    /// checks in a row open the endpoint's circuit (`breaker.failure_threshold`).
    ///
    /// Up to 1024 visible ASCII characters. Default: `/health`.
    pub path: String,
    /// Checks of an endpoint that are remembered; its uptime is counted over these.
    ///
    /// A number. Default: `100`. Limits: `1` to `10000`.
    pub history: usize,
}

/// `[breaker]`: when an endpoint's circuit opens and closes.
#[derive(Debug, Clone, Serialize)]
pub struct Breaker {
    /// Faults in a row that open an endpoint's circuit.
    ///
    /// A number. Default: `3`. Limits: `1` to `1000`.
    pub failure_threshold: u32,
    /// How long an open circuit admits nothing.
    ///
    /// A duration. Default: `60s`. Limits: `1ms` to `1h`.
    pub open_for: Duration,
    /// Successes in a row that close a half-open circuit.
    ///
    /// A number. Default: `2`. Limits: `1` to `1000`.
    pub success_threshold: u32,
    /// The shortest timeout that counts as a fault of the endpoint; a shorter one, which a policy
    /// may ask for, opens nobody's circuit.
    ///
    /// A duration. Default: `1s`. Limits: `0s` to `1h`.
    pub timeout_floor: Duration,
}

/// `[cors]`: what browsers may do with the answers.
#[derive(Debug, Clone, Serialize)]
pub struct Cors {
    /// Whose pages may read the answers: exact origins such as `https://example.com`, `null`, or
    /// the one entry `*` for everybody. Empty: the gateway leaves CORS to the services.
    ///
    /// A list of up to 1000. Default: `["*"]`.
    pub allow_origins: Vec<String>,
    /// The methods that a preflight is granted; `*` grants every method.
    ///
    /// A list of up to 100. Default: `["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]`.
    pub allow_methods: Vec<String>,
    /// The request headers that a preflight is granted; `*` grants every header.
    ///
    /// A list of up to 100. Default: `["*"]`.
    pub allow_headers: Vec<String>,
    /// The response headers that pages may read beyond those every page may read; `*`: every
    /// header.
    ///
    /// A list of up to 100. Default: `[]`.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer to a preflight.
    ///
    /// A duration. Default: `10m`. Limits: `0s` to `1day`.
    pub max_age: Duration,
    /// Whether pages may send cookies and credentials. Never true together with a `*` anywhere in
    /// this table: browsers do not take it as "all" then.
    ///
    /// True or false. Default: `false`.
    pub allow_credentials: bool,
}

/// `[log]`: what is written where.
#[derive(Debug, Clone, Serialize)]
pub struct Log {
    /// The least important level that is logged: `error`, `warn`, `info`, `debug`, `trace`.
    ///
    /// A word. Default: `info`.
    #[serde(serialize_with = "show::level")]
    pub level: tracing::Level,
    /// Where the access log goes, one JSON object a line: `stdout`, `off`, or a path, which has a
    /// `/` in it; a relative one counts from the folder of the configuration file.
    ///
    /// A word or a path. Default: `stdout`.
    pub access: AccessLog,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// To the end of this file.
    File(PathBuf),
}

/// `[services.<name>]`: what stands behind the gateway. At least one, at most 1000; the built-in
/// services belong to the built-in configuration only.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    /// 1 to 64 of `A-Z a-z 0-9 _ -`; unique.
    #[serde(skip)]
    pub name: String,
    /// The service's addresses, each `http://host[:port]` with nothing behind it; no two alike. One
    /// that is to get another share than the others is a table, `{ url = "http://…", weight = 3 }`,
    /// with a weight from 1 to 1000; that of the others is 1.
    ///
    /// A list of 1 to 256. Required.
    pub endpoints: Vec<Endpoint>,
    /// Which endpoint gets an attempt. `p2c`: of two drawn by lot, the less busy one, where recent
    /// failures count as work. `round_robin`: one after the other. `random`: by lot.
    /// `consistent_hash`: requests with one key on one endpoint, until it has 1.25 times its share of
    /// what is under way (eight are never too many); the key is the affinity that the routing policy
    /// sets, else the client's address. All of them keep to the endpoints' weights.
    ///
    /// A word. Default: `p2c`.
    pub balance: Balance,
    /// An endpoint whose circuit has closed again, or that `resolve = "all"` found while the gateway
    /// ran, comes to its whole share in this time, beginning with a tenth of it.
    ///
    /// A duration or `off`. Default: `off`. Limits: `1ms` to `1h`.
    pub slow_start: Option<Duration>,
    /// The part of several endpoints whose circuits are closed, below which open circuits are
    /// passed over: few endpoints would not bear the load of all, and it is better to try those that
    /// failed than to overwhelm the rest. `0`: open circuits always count, and a service all of whose
    /// circuits are open refuses at once. A service with one endpoint always does.
    ///
    /// A fraction. Default: `0.25`. Limits: `0` to `1`.
    pub panic_threshold: f64,
    /// The `Host` header that the service gets: the `endpoint`'s own address, or the one that the
    /// `client` asked for (where it asked for none, the endpoint's).
    ///
    /// A word. Default: `endpoint`.
    pub host: HostHeader,
    /// What a name with several addresses is: `one` endpoint, of which the first address that answers
    /// is taken; or an endpoint for each of `all` addresses, with a circuit and checks of its own, up
    /// to 256 for the service. Names are looked up anew every 30 s either way.
    ///
    /// A word. Default: `one`.
    pub resolve: Resolve,
    /// As `proxy.request_timeout`, for this service; longer or shorter. A routing policy may ask for
    /// less.
    ///
    /// A duration. Default: that of `[proxy]`. Limits: `1ms` to `1h`.
    pub request_timeout: Duration,
    /// As `proxy.attempt_timeout`, for this service. A routing policy may set its own.
    ///
    /// A duration or `off`. Default: that of `[proxy]`. Limits: `1ms` to `1h`.
    pub attempt_timeout: Option<Duration>,
    /// As `proxy.idle_timeout`, for bodies from and to this service.
    ///
    /// A duration. Default: that of `[proxy]`. Limits: `1ms` to `1day`.
    pub idle_timeout: Duration,
    /// As `proxy.connect_timeout`, for this service.
    ///
    /// A duration. Default: that of `[proxy]`. Limits: `1ms` to `5m`.
    pub connect_timeout: Duration,
    /// `[services.<name>.health]` has the keys of `[health]`, for this service.
    ///
    /// A table. Default: what `[health]` says, key by key.
    pub health: Health,
    /// `[services.<name>.breaker]` has the keys of `[breaker]`, for this service.
    ///
    /// A table. Default: what `[breaker]` says, key by key.
    pub breaker: Breaker,
}

/// `services.<name>.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// `p2c`
    P2c,
    /// `round_robin`
    RoundRobin,
    /// `random`
    Random,
    /// `consistent_hash`
    ConsistentHash,
}

/// `services.<name>.host`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// `endpoint`
    Endpoint,
    /// `client`
    Client,
}

/// `services.<name>.resolve`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolve {
    /// `one`
    One,
    /// `all`
    All,
}

/// One entry of `services.<name>.endpoints`: an address, or a table with `url` and `weight`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As written, for people: `http://localhost:8000`.
    pub url: String,
    /// A DNS name in lower case or an IP address (without brackets).
    pub host: String,
    /// 1 to 65535; 80 where the address names none.
    pub port: u16,
    /// What goes into the `Host` header: `localhost:8000`; the port is left out where it is 80.
    pub authority: String,
    /// 1 to 1000: its share of the service's requests, beside the weights of the others.
    pub weight: u32,
}

/// `[policy.routing]` and `[policy.retry]`: which service a request goes to, and whether and when a
/// failed attempt is tried again. The first must be there. Without the second, and where it has
/// `builtin:retry` and no `config`, the built-in configuration's counts.
#[derive(Debug, Clone, Serialize)]
pub struct Policy {
    /// `builtin:routing` or `builtin:retry`, or the path of a `.wasm` file, which exists; a relative
    /// path counts from the folder of the configuration file.
    ///
    /// A path. Default: the built-in policy of this kind.
    pub component: Component,
    /// Only in `[policy.routing]`: what becomes of a request whose decision failed while no last
    /// good version is there. So far it can only be `reject`: 503.
    ///
    /// A word. Default: `reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// What a decision is made by: a `warm` instance, which has decided before; or a `fresh` one for each
    /// decision, for policies that are not to remember anything. A fresh one costs the time of
    /// instantiating it and of its `configure`.
    ///
    /// A word. Default: `warm`.
    pub instances: Instances,
    /// The keys of `[policy_limits]`, which may stand in a policy's own table too and count for that
    /// policy alone then.
    #[serde(flatten)]
    pub limits: PolicyLimits,
    /// The policy's own configuration, opaque to the host: always an object, `{}` when there is
    /// none. Dates and times become strings.
    ///
    /// A table. Default: empty; that of the built-in configuration for `builtin:retry`.
    #[serde(skip)]
    pub config: serde_json::Value,
    /// The policy's self-test: a table `[[policy.routing.cases]]` or `[[policy.retry.cases]]` for each
    /// decision that must come out as it says there. A version that decides otherwise is refused. More
    /// of them may stand in a file beside the component: `routing.cases.json` beside `routing.wasm`.
    ///
    /// A list of up to 1000. Default: `[]`.
    #[serde(skip)]
    pub cases: serde_json::Value,
}

/// `policy.*.instances`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instances {
    /// `warm`
    Warm,
    /// `fresh`
    Fresh,
}

/// What becomes of a request that nobody could decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is answered 503.
    Reject,
}

/// Where a policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// `builtin:routing`
    BuiltinRouting,
    /// `builtin:retry`
    BuiltinRetry,
    /// A file; a relative path in the configuration has been joined to its folder.
    File(PathBuf),
}

/// `[policy_limits]`: for each policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyLimits {
    /// How long one decision may run, counted in the ticks of 1 ms that the policy itself ran.
    ///
    /// A duration. Default: `10ms`. Limits: `1ms` to `1s`.
    pub decision_timeout: Duration,
    /// How long one decision may take by the wall clock, whoever ran in that time. It may be the machine's
    /// fault, and is counted apart. For an instance, and for its turn, it waits as long beforehand.
    ///
    /// A duration. Default: `100ms`. Limits: `1ms` to `10s`.
    pub wall_timeout: Duration,
    /// How long the start functions of an instance and its `configure` may run together, counted in the
    /// ticks of 1 ms that they themselves ran.
    ///
    /// A duration. Default: `2s`. Limits: `1ms` to `1m`.
    pub configure_timeout: Duration,
    /// The instances of one version that a worker has at the most. A decision holds one only while it
    /// runs, so that more than one is needed just when decisions overrun their first tick; at most half
    /// of them may do so at once. Address space for all of them is reserved at the start, 4 GiB each, so that the larger
    /// of the two policies' values counts for both.
    ///
    /// A number. Default: `16`. Limits: `1` to `64`.
    pub instances_max: u32,
    /// The memory of one instance, in bytes. Python and JavaScript need about 16 MiB.
    ///
    /// A size. Default: `8MiB`. Limits: `64KiB` to `256MiB`.
    #[serde(serialize_with = "show::size")]
    pub memory_max: usize,
    /// All that one decision hands over to the host, in bytes, summed over its calls.
    ///
    /// A size. Default: `64KiB`. Limits: `1KiB` to `16MiB`.
    #[serde(serialize_with = "show::size")]
    pub result_max: usize,
    /// The stack of one call, in bytes. Both policies run in one engine: the larger of their two
    /// values counts for both.
    ///
    /// A size. Default: `512KiB`. Limits: `64KiB` to `1MiB`.
    #[serde(serialize_with = "show::size")]
    pub stack_max: usize,
    /// The elements of each table of an instance.
    ///
    /// A number. Default: `20000`. Limits: `100` to `1000000`.
    pub table_elements_max: usize,
    /// The tables of one instance.
    ///
    /// A number. Default: `8`. Limits: `1` to `64`.
    pub tables_max: u32,
    /// The core modules that make up one instance. A policy made by an SDK has three or four.
    ///
    /// A number. Default: `16`. Limits: `1` to `128`.
    pub core_instances_max: u32,
    /// Lines that a policy writes to its standard output and error, and that get into the log, per
    /// second and worker. What is beyond is dropped and counted.
    ///
    /// A number. Default: `10`. Limits: `0` to `10000`.
    pub log_lines_per_s: u32,
    /// A component, in bytes.
    ///
    /// A size. Default: `64MiB`. Limits: `1KiB` to `256MiB`.
    #[serde(serialize_with = "show::size")]
    pub component_max: usize,
    /// The address space of the process that compiles a component, in bytes.
    ///
    /// A size. Default: `512MiB`. Limits: `128MiB` to `16GiB`.
    #[serde(serialize_with = "show::size")]
    pub compile_memory_max: u64,
    /// How long compiling a component may keep a processor busy, whatever its size …
    ///
    /// A duration. Default: `2s`. Limits: `100ms` to `10m`.
    pub compile_cpu: Duration,
    /// … and how much longer for each MiB of the component.
    ///
    /// A duration. Default: `1s`. Limits: `0s` to `1m`.
    pub compile_cpu_per_mib: Duration,
    /// How long compiling a component may take by the wall clock.
    ///
    /// A duration. Default: `1m`. Limits: `100ms` to `1h`.
    pub compile_timeout: Duration,
    /// How long trying a version out may take by the wall clock: its cases, in every order.
    ///
    /// A duration. Default: `1m`. Limits: `100ms` to `1h`.
    pub self_test_timeout: Duration,
    /// Faults of the active version within `fault_window` that have it quarantined. Those that may be
    /// the machine's do not count: reaching `wall_timeout`, and finding no instance where it does not
    /// itself take too long to make one. `off`: whatever it does, it stays active.
    ///
    /// A number or `off`. Default: `5`. Limits: `1` to `1000000`.
    pub fault_threshold: Option<u32>,
    /// The time within which the faults of a version are counted together.
    ///
    /// A duration. Default: `10s`. Limits: `1s` to `1h`.
    pub fault_window: Duration,
}

impl std::fmt::Display for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AccessLog::Stdout => f.write_str("stdout"),
            AccessLog::Off => f.write_str("off"),
            AccessLog::File(path) => path.display().fmt(f),
        }
    }
}

impl std::fmt::Display for AdminListen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdminListen::Tcp(address) => address.fmt(f),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
