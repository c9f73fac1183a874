//! The gateway as a process of its own: the built binary, on free ports, with a test's configuration.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::{Client, Reply, Request};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::operator::{TOKEN, TOKEN_VARIABLE};
use crate::wait::{eventually, within};

/// What a test need not say, a line each. A test that sets a key, or one below it, replaces the line.
const DEFAULTS: &[(&str, &str)] = &[
    ("server.listen", r#""127.0.0.1:0""#),
    ("server.workers", "1"),
    ("admin.listen", r#""127.0.0.1:0""#),
    ("admin.tokens.tester.env", r#""ORCHESTRATOR_TOKEN_OF_TESTS""#),
    ("policy.retry.config.attempts", "3"),
    ("policy.retry.config.delay", r#""20ms""#),
];

/// A running gateway. Dropped, it is killed; and where the test fails, its log is shown.
#[derive(Debug)]
pub struct Gateway {
    pub listen: SocketAddr,
    /// Port 0 of no address where the admin listener is a unix socket.
    pub admin: SocketAddr,
    /// What it logs on stderr.
    pub log: Log,
    /// What it writes to stdout: the access log.
    pub access: Log,
    pid: Pid,
    child: Child,
    _folder: Option<TempDir>,
}

impl Gateway {
    /// Starts with these lines of TOML, each with its full key (`proxy.attempt_timeout = "1s"`),
    /// and waits until it is ready.
    pub async fn start(lines: impl AsRef<str>) -> Self {
        Self::start_exactly(&with_defaults(lines.as_ref())).await
    }

    /// The same in front of one service, `writer`, that gets every request: routes of the least
    /// kind, for tests of something else.
    pub async fn before<'a>(
        endpoints: impl IntoIterator<Item = &'a crate::Upstream>,
        lines: impl AsRef<str>,
    ) -> Self {
        let writer = service("writer", endpoints);
        Self::start(format!("{writer}\n{EVERYTHING_TO_WRITER}\n{}", lines.as_ref())).await
    }

    /// The same with exactly this configuration file.
    pub async fn start_exactly(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let at = folder.path().to_owned();
        Self::start_in(&at, config, Some(folder)).await
    }

    /// The same with a file in this folder, which outlives the gateway: for those that are started again.
    pub async fn start_at(folder: &Path, lines: &str) -> Self {
        Self::start_in(folder, &with_defaults(lines), None).await
    }

    async fn start_in(at: &Path, config: &str, folder: Option<TempDir>) -> Self {
        let file = at.join("orchestrator.toml");
        std::fs::write(&file, config).unwrap();
        let mut serve = command();
        serve.args(["serve", "--config"]).arg(&file);
        let wanted = format!("to be ready with the configuration\n{config}");
        let addresses = |log: &Log, _: &Log| {
            let lines = log.lines();
            let ready = lines.iter().find(|line| line.contains("ready"))?;
            let admin = match field(ready, "admin")? {
                admin if admin.starts_with("unix:") => address("0.0.0.0:0"),
                admin => address(admin),
            };
            Some((address(field(ready, "listen")?), admin))
        };
        Self::spawn(serve, &wanted, addresses, folder).await
    }

    /// `orchestrator demo`, as soon as it has said where everything is.
    pub async fn demo() -> Self {
        let mut demo = command();
        demo.arg("demo");
        let addresses = |_: &Log, out: &Log| {
            let lines = out.lines();
            // It has said everything when it comes to this.
            lines.iter().find(|line| line.contains("access log"))?;
            let of = |name| {
                let line = lines.iter().find(|line| line.trim().starts_with(name))?;
                let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"))?;
                Some(address(url))
            };
            Some((of("gateway")?, of("admin")?))
        };
        Self::spawn(demo, "to show the demo", addresses, None).await
    }

    async fn spawn(
        mut command: Command,
        wanted: &str,
        addresses: impl Fn(&Log, &Log) -> Option<(SocketAddr, SocketAddr)>,
        folder: Option<TempDir>,
    ) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let access = Log::of(child.stdout.take().unwrap());
        let (listen, admin) = eventually(format!("the gateway {wanted}"), async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the gateway ended ({status}):\n{log:?}\ninstead of {wanted}");
            }
            addresses(&log, &access)
        })
        .await;
        Self { listen, admin, log, access, pid, child, _folder: folder }
    }

    /// A connection to the public listener.
    pub async fn connect(&self) -> Client {
        Client::connect(self.listen).await
    }

    /// One request over a connection of its own.
    pub async fn call(&self, request: Request) -> Reply {
        self.connect().await.call(request).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.call(Request::get(target)).await
    }

    /// One request to the admin listener.
    pub async fn admin_get(&self, target: &str) -> Reply {
        Client::connect(self.admin).await.call(Request::get(target)).await
    }

    pub async fn metrics(&self) -> Metrics {
        let reply = self.admin_get("/metrics").await;
        assert_eq!(reply.status(), 200);
        Metrics::checked(reply.text())
    }

    /// Waits until a metric reaches a value.
    pub async fn metric_reaches(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(format!("{name}{labels:?} to be {value}"), async || {
            (self.metrics().await.sum(name, labels) >= value).then_some(())
        })
        .await;
    }

    /// What `/health/status/{service}` says, as soon as `wanted` is true of it.
    pub async fn status_of(&self, service: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(format!("{service} to have a certain status"), async || {
            Some(self.get(&format!("/health/status/{service}")).await.json()).filter(&wanted)
        })
        .await
    }

    /// The first line of the access log for which `wanted` is true.
    pub async fn access_line(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let line = self.access.wait_for("a line of the access log", |line| {
            serde_json::from_str(line).is_ok_and(|line| wanted(&line))
        });
        serde_json::from_str(&line.await).unwrap()
    }

    /// The line of the access log for the request that this answers.
    pub async fn access_of(&self, reply: &Reply) -> Value {
        let id = reply.header("x-request-id").expect("a response without X-Request-Id");
        self.access_line(|line| line["request_id"] == id.as_str()).await
    }

    /// The memory it holds, in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS")
    }

    /// What the kernel says of its memory, in bytes: `VmRSS`, `VmHWM`, …
    pub fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap().trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The sockets it has open: its clients', its services' and its own.
    pub fn sockets(&self) -> usize {
        let descriptors = format!("/proc/{}/fd", self.pid.as_raw_nonzero());
        let links = std::fs::read_dir(descriptors).unwrap().flatten();
        // One may be closed between the two looks.
        let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// Halts it where it stands, with all its connections open, until [`go_on`](Self::go_on).
    pub fn halt(&self) {
        kill_process(self.pid, Signal::STOP).unwrap();
        // A thread that runs on another core stops a little later.
        let tasks = format!("/proc/{}/task", self.pid.as_raw_nonzero());
        let has_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().all(has_stopped) {
            std::thread::yield_now();
        }
    }

    pub fn go_on(&self) {
        kill_process(self.pid, Signal::CONT).unwrap();
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        kill_process(self.pid, Signal::TERM).unwrap();
    }

    /// Asks it to end as a person does, by Ctrl-C.
    pub fn interrupt(&self) {
        kill_process(self.pid, Signal::INT).unwrap();
    }

    /// As a terminal that closes, or an operator who means "read the configuration again".
    pub fn hang_up(&self) {
        kill_process(self.pid, Signal::HUP).unwrap();
    }

    /// The processes that it has started and not buried yet.
    pub fn children(&self) -> Vec<u32> {
        let parent = self.pid.as_raw_nonzero().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_child = |process: &u32| {
            // One may end between the two looks.
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok();
            // The name, in brackets, may have spaces; state and parent follow it.
            let own = stat.as_ref().and_then(|stat| stat.rsplit(')').next()?.split(' ').nth(2));
            own == Some(&parent)
        };
        numbers.filter(is_child).collect()
    }

    /// Ends it without a word, as a machine that fails does.
    pub async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.exit().await;
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended.
    pub async fn exit(&mut self) -> ExitStatus {
        within("the gateway to end", self.child.wait()).await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "only this macro is shown with the failed test")]
            {
                eprintln!("--- the gateway's log\n{:?}", self.log);
                eprintln!("--- its access log\n{:?}\n---", self.access);
            }
        }
    }
}

/// How a verb of the command line ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary to its end.
pub async fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    let mut command = command();
    command.args(arguments);
    let output = within("the binary to end", command.output()).await.unwrap();
    Ran {
        code: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn command() -> Command {
    let mut command = Command::new(binary());
    command.kill_on_drop(true).stdin(Stdio::null());
    // What a developer has set must not change what is tested.
    command.env_remove("RUST_LOG").env_remove("NO_COLOR");
    command.env(TOKEN_VARIABLE, TOKEN);
    command
}

/// Where the gateways of all tests keep compiled policies, beside the binary: to compile them costs more
/// than most tests.
pub fn cache_dir() -> PathBuf {
    binary().with_file_name("compiled-policies-of-tests")
}

/// The lines of a service with these endpoints.
pub fn service<'a>(name: &str, endpoints: impl IntoIterator<Item = &'a crate::Upstream>) -> String {
    let urls: Vec<String> = endpoints.into_iter().map(|endpoint| endpoint.url()).collect();
    format!("services.{name}.endpoints = {urls:?}")
}

/// The one route of tests that are about something else.
pub const EVERYTHING_TO_WRITER: &str =
    r#"policy.routing.config.routes = [{ path_prefix = "/", service = "writer" }]"#;

/// A configuration of these lines, and what tests need not say.
///
/// The defaults come first: behind a test's tables, dotted keys would belong to the last of them.
pub fn with_defaults(lines: &str) -> String {
    let mut config = String::new();
    let mut add = |key: &str, value: &str| {
        let taken = lines.lines().any(|line| {
            let said = line.split('=').next().unwrap_or_default().trim();
            said == key || is_below(said, key) || is_below(key, said)
        });
        if !taken {
            writeln!(config, "{key} = {value}").unwrap();
        }
    };
    for (key, value) in DEFAULTS {
        add(key, value);
    }
    add("server.cache_dir", &toml_path(&cache_dir()));
    // The same tests run with policies that were just compiled, instead of those inside the binary.
    if let Some(folder) = std::env::var_os("ORCHESTRATOR_POLICIES") {
        let folder = PathBuf::from(folder);
        add("policy.routing.component", &toml_path(&folder.join("routing.wasm")));
        add("policy.retry.component", &toml_path(&folder.join("retry.wasm")));
    }
    config + lines + "\n"
}

/// Whether `key` is within `table`.
fn is_below(key: &str, table: &str) -> bool {
    !table.is_empty() && key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

/// A path as a TOML string.
pub fn toml_path(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The value of `name=` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split_whitespace().next()
}

/// `target/`, whatever it is called: the test binary is in its `release/deps/`.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

fn binary() -> PathBuf {
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("orchestrator");
    let binary = std::env::var_os("ORCHESTRATOR_BIN").map_or(built, PathBuf::from);
    assert!(binary.exists(), "{} is missing: tests/run builds it", binary.display());
    binary
}

/// A policy of `tests/guests`, compiled.
pub fn component(guest: &str) -> PathBuf {
    let folder = std::env::var_os("ORCHESTRATOR_GUESTS")
        .map_or_else(|| target().join("guests"), PathBuf::from);
    let file = folder.join(format!("{guest}.wasm"));
    assert!(file.exists(), "{} is missing: tests/run compiles it", file.display());
    file
}
