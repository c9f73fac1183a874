//! The control thread: assembles what the workers share, starts them, and does whatever is done
//! once per process: checks, names, the admin listener, draining.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::{AdminListen, Config, Diagnostic, Diagnostics, SourceMap};
use crate::policy::{Engine, Kind, LoadError, Sizing, Version};
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::{Counters, Metrics};
use crate::upstream::{Services, resolve};
use crate::worker::{self, Command, Startup};
use crate::{admin, health};

/// Connections that may wait to be accepted, per worker.
const LISTEN_BACKLOG: i32 = 1024;

/// How much longer than `drain_timeout` a worker may take to end.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// A gateway that serves. Lives on the control thread, within a local runtime.
#[derive(Debug)]
pub struct Gateway {
    listen: SocketAddr,
    admin: AdminListen,
    config: Arc<Config>,
    shared: Arc<admin::Shared>,
    commands: Vec<mpsc::Sender<Command>>,
    workers: Vec<oneshot::Receiver<io::Result<()>>>,
    tasks: Vec<JoinHandle<()>>,
    access: AccessLog,
}

/// Why a gateway did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or a policy that it names, is refused.
    #[error("{0}")]
    Refused(Diagnostics),
    #[error(
        "cannot listen on {address}: {error}; {}, or set `{key}`",
        match error.kind() {
            io::ErrorKind::AddrInUse => "is another gateway running? Stop it",
            // From here on: as it is with the path of a socket only.
            io::ErrorKind::NotFound => "make the folder",
            io::ErrorKind::AlreadyExists => "move that away",
            io::ErrorKind::PermissionDenied if address.starts_with("unix:") =>
                "let the gateway's user write in the folder",
            _ => "use an address of this machine",
        }
    )]
    Listen { address: String, key: &'static str, error: io::Error },
    #[error("cannot open the access log {to}: {error}; make the folder, or set `log.access`")]
    AccessLog { to: String, error: io::Error },
    #[error("cannot reserve memory for the policies: {0}")]
    Engine(String),
    #[error(
        "cannot keep compiled policies in {}: {error}; mend that, or set `server.cache_dir`",
        folder.display()
    )]
    Cache { folder: PathBuf, error: io::Error },
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

impl Gateway {
    /// Binds, sets the policies up, looks names up, and returns when all of it serves.
    pub async fn start(config: Config, source: &SourceMap) -> Result<Gateway, StartError> {
        let started = SystemTime::now();
        let config = Arc::new(config);
        let (listen, listeners) = bind_workers(config.server.listen, config.server.workers)
            .map_err(listening("server.listen", config.server.listen))?;
        let admin_listener = admin::Listener::bind(&config.admin.listen)
            .map_err(listening("admin.listen", &config.admin.listen))?;

        let policies = Policies::load(&config, source)?;
        let services = Services::new(&config);
        resolve::resolve(&services, true).await;
        let (access, producers) = AccessLog::start(&config.log.access, config.server.workers)
            .map_err(|error| StartError::AccessLog { to: config.log.access.to_string(), error })?;
        let counters: Vec<_> =
            listeners.iter().map(|_| Counters::new(services.all.len())).collect();
        let shared = admin::Shared::new(Metrics {
            services: services.clone(),
            counters: counters.clone(),
            access_dropped: access.dropped(),
            versions: [policies.routing.name().clone(), policies.retry.name().clone()],
            started,
        });
        let (askers, asked) = mpsc::channel(health::ASKERS_MAX);

        let mut gateway = Gateway {
            listen,
            admin: admin_listener.address().clone(),
            shared: shared.clone(),
            commands: Vec::new(),
            workers: Vec::new(),
            tasks: health::monitor(&services),
            access,
            config: config.clone(),
        };
        let health = health::answer_askers(services.clone(), asked);
        gateway.tasks.push(tokio::task::spawn_local(health));
        gateway.tasks.push(tokio::task::spawn_local(resolve::keep_resolved(services.clone())));
        gateway.tasks.push(tokio::task::spawn_local(admin::serve(admin_listener, shared.clone())));

        let connections = Arc::new(AtomicUsize::new(0));
        let mut starting = Vec::new();
        for ((listener, access), counters) in listeners.into_iter().zip(producers).zip(counters) {
            let (commands, received) = mpsc::channel(1);
            let (ready, is_ready) = oneshot::channel();
            let (ended, has_ended) = oneshot::channel();
            let startup = Startup {
                listener,
                config: config.clone(),
                services: services.clone(),
                engine: policies.engine.clone(),
                routing: policies.routing.clone(),
                retry: policies.retry.clone(),
                counters,
                access,
                commands: received,
                health: askers.clone(),
                connections: connections.clone(),
                ready,
            };
            std::thread::Builder::new()
                .name(format!("worker-{}", starting.len()))
                .spawn(move || {
                    let _ = ended.send(worker::run(startup)); // Nobody waits for it any more.
                })
                .map_err(StartError::Worker)?;
            gateway.commands.push(commands);
            gateway.workers.push(has_ended);
            starting.push(is_ready);
        }
        for is_ready in starting {
            match is_ready.await {
                Ok(Ok(())) => {}
                Ok(Err((kind, error))) => return Err(refused(source, kind, error)),
                Err(_) => return Err(StartError::Worker(io::Error::other("it ended at once"))),
            }
        }
        shared.set_ready(true);
        Ok(gateway)
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where operators connect.
    pub fn admin(&self) -> &AdminListen {
        &self.admin
    }

    /// Is not ready any more for `drain_delay`, stops accepting, finishes what is under way for
    /// `drain_timeout` at the most, and ends.
    pub async fn shutdown(self) {
        self.shared.set_ready(false);
        tokio::time::sleep(self.config.server.drain_delay).await;
        for commands in &self.commands {
            let _ = commands.try_send(Command::Drain); // It has ended, or drains already.
        }
        let patience = self.config.server.drain_timeout + DRAIN_GRACE;
        let ended = futures_util::future::join_all(self.workers);
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::error!("a worker did not end in time");
        }
        for task in &self.tasks {
            task.abort();
        }
        self.access.close();
    }
}

/// Both policies, compiled and checked.
pub struct Policies {
    engine: Engine,
    routing: Arc<Version>,
    retry: Arc<Version>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

impl Policies {
    /// Compiles both and checks them against the contract. All that is wrong with either is told at
    /// once.
    pub fn load(config: &Config, source: &SourceMap) -> Result<Policies, StartError> {
        let mut engine = Engine::new(Sizing {
            workers: config.server.workers,
            memory_max: config.routing.limits.memory_max.max(config.retry.limits.memory_max),
        })
        .map_err(|error| StartError::Engine(format!("{error:#}")))?;
        if let Some(folder) = &config.server.cache_dir {
            engine = engine
                .with_cache(folder)
                .map_err(|error| StartError::Cache { folder: folder.clone(), error })?;
        }
        let services: Vec<String> =
            config.services.iter().map(|service| service.name.clone()).collect();
        let load = |kind, policy| {
            Version::load(&engine, kind, policy, &services)
                .map(Arc::new)
                .map_err(|error| diagnostics_of(source, kind, error))
        };
        match (load(Kind::Routing, &config.routing), load(Kind::Retry, &config.retry)) {
            (Ok(routing), Ok(retry)) => Ok(Policies { engine, routing, retry }),
            (routing, retry) => {
                let all = [routing.err(), retry.err()].into_iter().flatten().flatten().collect();
                Err(StartError::Refused(Diagnostics::of(all).expect("one of them failed")))
            }
        }
    }

    /// Has both take their configuration, as `check` does without serving. To be called within a
    /// local runtime.
    pub async fn configure(&self, source: &SourceMap) -> Result<(), StartError> {
        let mut all = Vec::new();
        for version in [&self.routing, &self.retry] {
            if let Err(error) = crate::policy::try_configure(&self.engine, version.clone()).await {
                all.extend(diagnostics_of(source, version.kind(), error));
            }
        }
        Diagnostics::of(all).map_or(Ok(()), |all| Err(StartError::Refused(all)))
    }
}

fn refused(source: &SourceMap, kind: Kind, error: LoadError) -> StartError {
    let all = diagnostics_of(source, kind, error);
    StartError::Refused(Diagnostics::of(all).expect("there is an error"))
}

/// A policy's refusal at the lines of the file that it is about.
fn diagnostics_of(source: &SourceMap, kind: Kind, error: LoadError) -> Vec<Diagnostic> {
    match error {
        LoadError::Config(errors) if !errors.is_empty() => errors
            .iter()
            .map(|error| {
                let suggestion = error.suggestion.as_deref();
                source.policy_error(kind, &error.pointer, &error.message, suggestion)
            })
            .collect(),
        other => vec![source.component_error(kind, &other.to_string())],
    }
}

fn listening(key: &'static str, address: impl Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Listen { address: address.to_string(), key, error }
}

/// One listener for each worker, all on one address, among which the kernel spreads connections.
fn bind_workers(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // Without SO_REUSEPORT first: a second gateway must not silently share the port. Port 0 is
    // settled here too.
    let probe = bind(address, false)?;
    let bound = probe.local_addr()?.as_socket().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
    drop(probe);
    let listeners: io::Result<Vec<_>> =
        (0..workers).map(|_| Ok(bind(bound, true)?.into())).collect();
    Ok((bound, listeners?))
}

/// A listener at this address. `shared`: others of this process may be there too.
pub(crate) fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}
