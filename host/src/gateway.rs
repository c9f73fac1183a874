//! The control thread: assembles what the workers share, starts them, and does whatever is done
//! once per process: checks, names, the admin listener, draining.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::{AdminListen, Config, Diagnostics, SourceMap};
use crate::policy::{Kind, LoadError};
pub use crate::rollout::Stamp;
use crate::rollout::{self, Rollout};
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::{Counters, Metrics};
use crate::upstream::{Services, resolve};
use crate::worker::{self, Command, Startup};
use crate::{admin, health};

/// Connections that may wait to be accepted, per worker.
const LISTEN_BACKLOG: i32 = 1024;

/// Bytes for a client that the kernel may hold unsent. Without a bound it takes megabytes for a reader
/// that has long stopped, and its buffers say nothing about it.
const UNSENT_MAX: u32 = 32 << 10;

/// Commands that a worker has not taken yet. They come one after the other but for the drain's.
const COMMANDS_MAX: usize = 4;

/// How much longer than `drain_timeout` a worker may take to end.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// A gateway that serves. Lives on the control thread, within a local runtime.
#[derive(Debug)]
pub struct Gateway {
    listen: SocketAddr,
    admin: AdminListen,
    config: Arc<Config>,
    rollout: Rc<Rollout>,
    shared: Rc<admin::Shared>,
    commands: Vec<mpsc::Sender<Command>>,
    workers: Vec<oneshot::Receiver<io::Result<()>>>,
    tasks: Vec<JoinHandle<()>>,
    access: AccessLog,
    /// Of the policies' files, before they were read.
    read: Vec<Stamp>,
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
    #[error(
        "cannot use {} as the state directory: {error}; mend that, or set `server.state_dir`",
        folder.display()
    )]
    State { folder: PathBuf, error: io::Error },
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

impl Gateway {
    /// Binds, sets the policies up, looks names up, and returns when all of it serves.
    pub async fn start(config: Config, source: &SourceMap) -> Result<Gateway, StartError> {
        let started = SystemTime::now();
        let files = Kind::ALL.into_iter().flat_map(|kind| rollout::files_of(config.policy(kind)));
        let read = files.map(|file| Stamp::of(&file)).collect();
        let config = Arc::new(config);
        let (listen, listeners) = bind_workers(config.server.listen, config.server.workers)
            .map_err(listening("server.listen", config.server.listen))?;
        let admin_listener = admin::Listener::bind(&config.admin.listen)
            .map_err(listening("admin.listen", &config.admin.listen))?;

        let rollout = rollout::begin(&config, source).await?;
        // The admin listener answers before the workers do.
        let held = rollout.hold().await;
        let services = Services::new(&config);
        resolve::resolve(&services, true).await;
        let (access, producers) = AccessLog::start(&config.log.access, config.server.workers)
            .map_err(|error| StartError::AccessLog { to: config.log.access.to_string(), error })?;
        let counters: Vec<_> =
            listeners.iter().map(|_| Counters::new(services.all.len())).collect();
        let shared = admin::Shared::new(
            Metrics {
                services: services.clone(),
                counters: counters.clone(),
                access_dropped: access.dropped(),
                rollouts: rollout.counts.clone(),
                started,
            },
            rollout.clone(),
            &config,
        );
        let (askers, asked) = mpsc::channel(health::ASKERS_MAX);

        let mut gateway = Gateway {
            listen,
            admin: admin_listener.address().clone(),
            shared: shared.clone(),
            commands: Vec::new(),
            workers: Vec::new(),
            tasks: health::monitor(&services),
            access,
            read,
            rollout: rollout.clone(),
            config: config.clone(),
        };
        let health = health::answer_askers(services.clone(), asked);
        gateway.tasks.push(tokio::task::spawn_local(health));
        gateway.tasks.push(tokio::task::spawn_local(resolve::keep_resolved(services.clone())));
        gateway.tasks.push(tokio::task::spawn_local(admin::serve(admin_listener, shared.clone())));

        let connections = Arc::new(AtomicUsize::new(0));
        let too_many_faults = Arc::new(Notify::new());
        let mut starting = Vec::new();
        for ((listener, access), counters) in listeners.into_iter().zip(producers).zip(counters) {
            let (commands, received) = mpsc::channel(COMMANDS_MAX);
            let (ready, is_ready) = oneshot::channel();
            let (ended, has_ended) = oneshot::channel();
            let startup = Startup {
                listener,
                config: config.clone(),
                services: services.clone(),
                engine: rollout.engine().clone(),
                generation: rollout.generation(),
                too_many_faults: too_many_faults.clone(),
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
        rollout.serves_through(gateway.commands.clone(), held);
        gateway.tasks.push(tokio::task::spawn_local(rollout.clone().guard(too_many_faults)));
        let beside = rollout.clone();
        gateway.tasks.push(tokio::task::spawn_local(async move {
            for kind in Kind::ALL {
                beside.complete(kind).await;
            }
        }));
        shared.set_ready(true);
        Ok(gateway)
    }

    /// Takes over the policies of this configuration file when it, or a file that it names, changes. None: of
    /// the built-in configuration. With the file comes its stamp from before it was read.
    pub fn watch(&mut self, file: Option<(&Path, Stamp)>) {
        if !self.config.server.watch {
            return;
        }
        let (rollout, config) = (self.rollout.clone(), self.config.clone());
        let (file, stamp) = file.map(|(file, stamp)| (file.to_owned(), stamp)).unzip();
        let read = stamp.into_iter().chain(self.read.iter().copied()).collect();
        let path: Option<PathBuf> = file.clone();
        self.tasks.push(tokio::task::spawn_local(async move {
            let changed = async || reload(&rollout, &config, path.as_deref(), false).await;
            rollout::watch(rollout.clone(), file, read, changed).await;
        }));
    }

    /// Takes over the policies of this configuration file as it is now, also what was refused before.
    pub async fn reload(&self, file: Option<&Path>) {
        reload(&self.rollout, &self.config, file, true).await;
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where operators connect.
    pub fn admin(&self) -> &AdminListen {
        &self.admin
    }

    /// See [`Engine::stop_clock`](crate::policy::Engine::stop_clock).
    pub fn stop_clock(&self) {
        self.rollout.engine().stop_clock();
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
        self.rollout.persist_all().await;
        for task in &self.tasks {
            task.abort();
        }
        self.access.close();
    }
}

/// Whether the policies of a configuration are good: all that a start does with them short of serving.
/// To be called within a local runtime.
///
/// # Errors
/// All that is wrong with both.
pub async fn check_policies(config: &Config, source: &SourceMap) -> Result<(), StartError> {
    rollout::check(config, source).await
}

fn refused(source: &SourceMap, kind: Kind, error: LoadError) -> StartError {
    let all = rollout::diagnostics_of(source, kind, error);
    StartError::Refused(Diagnostics::of(all).expect("there is an error"))
}

/// What is wrong with the file is logged, and changes nothing.
async fn reload(rollout: &Rollout, running: &Config, file: Option<&Path>, asked: bool) {
    let new = match file.map(Config::load).transpose() {
        Ok(new) => new,
        Err(wrong) => {
            tracing::error!("the configuration is refused; nothing has changed:\n{wrong}");
            return;
        }
    };
    if let Some((new, _)) = &new {
        let keys = running.differences_that_need_a_restart(new);
        if !keys.is_empty() {
            tracing::warn!(keys = keys.join(", "), "these keys need a restart");
        }
    }
    rollout.reload(new.as_ref(), asked).await;
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
    let listeners = (0..workers).map(|_| {
        let listener = bind(bound, true)?;
        // What is accepted has the listener's options, without a call for each connection.
        listener.set_tcp_nodelay(true)?;
        // Where the system has no such bound, readers that stop cost more memory, and no more.
        let _ = listener.set_tcp_notsent_lowat(UNSENT_MAX);
        Ok(listener.into())
    });
    let listeners: io::Result<Vec<_>> = listeners.collect();
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
