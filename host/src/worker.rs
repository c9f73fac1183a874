//! One data thread: its listener, its runtime, its idle connections and its policy instances.
//!
//! Workers share snapshots and atomics with each other and nothing that locks. A request comes in
//! here and goes on in `exchange.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::config::Config;
use crate::exchange::exchange;
use crate::headers::{self, Caller};
use crate::health::Asker;
use crate::http1::{self, Ended};
use crate::io::{ConnectionTimer, Cut, Meter, Patience, Pipes, Socket};
use crate::policy::{Engine, Fault, Kind, LoadError, Pace, Version, Warm};
use crate::respond;
use crate::snapshot::{Generation, Residents, Roster, Snapshot};
use crate::telemetry::access::{Line, Producer};
use crate::telemetry::metrics::{Counters, FaultReason, Limit};
use crate::upgrade::{self, Tunnel};
use crate::upstream::Services;
use crate::upstream::pool::Pool;

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections beyond `limits.connections` that are told so at once; the rest is just closed.
const REFUSING_MAX: usize = 64;

/// How long a refused client may take to read why.
const REFUSING_TIME_MAX: Duration = Duration::from_secs(1);

/// Between the last accept and the announcement that idle connections close.
const DRAIN_SETTLE: Duration = Duration::from_millis(20);

/// Policy faults that a worker logs in a second; the rest is counted.
const FAULT_LOGS_PER_S_MAX: u32 = 10;

/// What the control thread tells a worker. One that drains takes no more of it.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept no more, finish what is under way, end.
    Drain,
    /// Make instances of a version that is to decide soon.
    SetUp { version: Arc<Version>, done: oneshot::Sender<Result<(), LoadError>> },
    /// From now on these decide; all of them were set up.
    Serve { generation: Arc<Generation>, done: oneshot::Sender<()> },
}

/// What the control thread hands to a new worker.
pub(crate) struct Startup {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) config: Arc<Config>,
    pub(crate) services: Arc<Services>,
    pub(crate) engine: Engine,
    pub(crate) generation: Arc<Generation>,
    /// Rung when a version has made too many faults.
    pub(crate) too_many_faults: Arc<Notify>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access: Producer,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) health: mpsc::Sender<Asker>,
    /// Client connections of all workers.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Told once: whether the worker's policies could be set up.
    pub(crate) ready: oneshot::Sender<Result<(), (Kind, LoadError)>>,
}

/// One worker's own state, shared by its connections.
#[derive(Debug)]
pub(crate) struct Worker {
    config: Arc<Config>,
    residents: Residents,
    snapshot: RefCell<Rc<Snapshot>>,
    too_many_faults: Arc<Notify>,
    pub(crate) pool: Rc<Pool>,
    pipes: Rc<Pipes>,
    pub(crate) counters: Arc<Counters>,
    random: RefCell<fastrand::Rng>,
    access: RefCell<Producer>,
    health: mpsc::Sender<Asker>,
    draining: Cell<bool>,
    /// `drain_timeout` is over: what ends now ends because of that.
    pub(crate) cutting: Cell<bool>,
    drain: Notify,
    /// Rung when a connection has ended.
    ended: Notify,
    open: Cell<usize>,
    fault_logs: Cell<(std::time::Instant, u32)>,
}

/// One client's connection. HTTP/1.1 answers one request after the other, so what belongs to the
/// exchange under way can live here.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    /// The peer, which may be a proxy that speaks for others.
    pub(crate) caller: Rc<Caller>,
    pub(crate) meter: Rc<Meter>,
    pub(crate) timer: ConnectionTimer,
    /// How the last decision of each policy about one of its requests went.
    pub(crate) pace: [Cell<Pace>; Kind::ALL.len()],
    /// What follows the response that is going out, where that is a 101.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

/// The thread's main function; returns when the worker has drained.
pub(crate) fn run(startup: Startup) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(startup))
}

async fn serve(startup: Startup) -> io::Result<()> {
    let listener = TcpListener::from_std(startup.listener)?;
    let residents = Residents::new(startup.engine, startup.config.clone(), startup.services);
    for version in startup.generation.rosters.iter().flat_map(Roster::resident) {
        if let Err(error) = residents.set_up(version.clone()).await {
            let refused = (version.kind(), error);
            let _ = startup.ready.send(Err(refused)); // The control thread reports it.
            return Ok(());
        }
    }
    let pipes = Rc::<Pipes>::default();
    let worker = Rc::new(Worker {
        pool: Pool::new(residents.services().clone(), startup.config.limits.clone(), pipes.clone()),
        pipes,
        snapshot: RefCell::new(residents.snapshot(&startup.generation)),
        residents,
        config: startup.config,
        too_many_faults: startup.too_many_faults,
        counters: startup.counters,
        random: RefCell::new(fastrand::Rng::new()),
        access: RefCell::new(startup.access),
        health: startup.health,
        draining: Cell::new(false),
        cutting: Cell::new(false),
        drain: Notify::new(),
        ended: Notify::new(),
        open: Cell::new(0),
        fault_logs: Cell::new((std::time::Instant::now(), 0)),
    });
    let looking = worker.clone();
    tokio::task::spawn_local(async move { looking.pool.look_through().await });
    let _ = startup.ready.send(Ok(())); // Gone only if the start was given up.
    worker.accept(listener, startup.commands, &startup.connections).await;
    worker.drained().await;
    Ok(())
}

impl Worker {
    pub(crate) fn snapshot(&self) -> Rc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// 128 random bits in hexadecimal.
    pub(crate) fn new_request_id(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.random.borrow_mut().u128(..);
        let mut text = [0; 32];
        for (place, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(number >> (4 * place)) as usize & 0xf];
        }
        HeaderValue::from_bytes(&text).expect("hexadecimal digits")
    }

    pub(crate) fn log(&self, line: &Line<'_>) {
        self.access.borrow_mut().write(line);
    }

    /// The page of `/health`, made by the control thread; none where too many are asking.
    pub(crate) async fn ask_health(&self) -> Option<Bytes> {
        let (asker, page) = oneshot::channel();
        if let Err(TrySendError::Full(_)) = self.health.try_send(asker) {
            self.counters.limit(Limit::HealthAskers);
            return None;
        }
        page.await.ok()
    }

    /// Counts a decision, and logs its fault.
    pub(crate) fn decided(
        &self,
        request_id: &HeaderValue,
        took: Duration,
        fault: Option<&Fault>,
        warm: &Warm,
    ) {
        let kind = warm.version().kind();
        self.counters.decision(kind, took, fault.map(FaultReason::from));
        if warm.decided(took, fault) {
            self.too_many_faults.notify_one();
        }
        let Some(fault) = fault else { return };
        let (second, logged) = self.fault_logs.get();
        let (second, logged) = match second.elapsed() < Duration::from_secs(1) {
            true => (second, logged),
            false => (std::time::Instant::now(), 0),
        };
        self.fault_logs.set((second, logged + 1));
        if logged < FAULT_LOGS_PER_S_MAX {
            let version = &**warm.version().name();
            let (reason, request_id) =
                (&*fault.to_string(), request_id.to_str().unwrap_or_default());
            tracing::warn!(policy = kind.name(), version, reason, request_id, "policy fault");
        } else {
            self.counters.log_suppressed();
        }
    }

    async fn accept(
        self: &Rc<Self>,
        listener: TcpListener,
        mut commands: mpsc::Receiver<Command>,
        connections: &Arc<AtomicUsize>,
    ) {
        let refusing = Arc::new(Semaphore::new(REFUSING_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                command = commands.recv() => match command {
                    Some(Command::SetUp { version, done }) => {
                        self.set_up(version, done);
                        continue;
                    }
                    Some(Command::Serve { generation, done }) => {
                        *self.snapshot.borrow_mut() = self.residents.snapshot(&generation);
                        let _ = done.send(()); // Nobody need wait for it.
                        continue;
                    }
                    // A control thread that is gone is a process that ends.
                    Some(Command::Drain) | None => break,
                },
            };
            match accepted {
                Ok((stream, peer)) => self.begin(stream, peer, connections, &refusing),
                Err(error) => {
                    // One client's connection that broke in the queue, or no descriptor left.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who waits in the queue came before the end was announced: closing the listener under them
        // would reset their connections.
        self.draining.set(true);
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.begin(stream, peer, connections, &refusing);
            }
        }
    }

    /// Makes instances of a version beside the requests.
    fn set_up(
        self: &Rc<Self>,
        version: Arc<Version>,
        done: oneshot::Sender<Result<(), LoadError>>,
    ) {
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            let _ = done.send(worker.residents.set_up(version).await); // As above.
        });
    }

    /// Serves an accepted connection in a task of its own, or refuses it.
    fn begin(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        connections: &Arc<AtomicUsize>,
        refusing: &Arc<Semaphore>,
    ) {
        let Some(place) = Place::take(connections, self.config.limits.connections) else {
            self.counters.limit(Limit::Connections);
            if let Ok(permit) = refusing.clone().try_acquire_owned() {
                tokio::task::spawn_local(async move {
                    let _ =
                        tokio::time::timeout(REFUSING_TIME_MAX, respond::too_many(stream)).await;
                    drop(permit);
                });
            }
            return;
        };
        let worker = self.clone();
        // Before its task begins: a drain that is announced first must wait for it.
        worker.open.set(worker.open.get() + 1);
        worker.counters.connection_opened();
        tokio::task::spawn_local(async move {
            worker.clone().connection(stream, peer.ip().to_canonical()).await;
            worker.counters.connection_closed();
            worker.open.set(worker.open.get() - 1);
            worker.ended.notify_one();
            drop(place);
        });
    }

    /// Serves one client's connection until either side ends it.
    async fn connection(self: Rc<Self>, stream: TcpStream, peer: IpAddr) {
        let config = &self.config;
        let (socket, meter) = Socket::accepted(
            stream,
            Patience {
                keep_alive: config.limits.keep_alive_timeout,
                header: config.limits.header_timeout,
                write_stall: config.proxy.idle_timeout,
                rate_min: config.limits.body_rate_min,
                wakes: false,
            },
        );
        let connection = Rc::new(Connection {
            worker: self.clone(),
            caller: Caller::peer(peer, headers::is_within(peer, &config.server.trusted_proxies)),
            meter: meter.clone(),
            timer: ConnectionTimer::default(),
            pace: Default::default(),
            tunnel: RefCell::new(None),
        });
        let http = http1::Connection::new(socket, &config.limits, &self.pipes);
        let drain = async {
            match self.draining.get() {
                // It came with the last ones, and may have missed the announcement.
                true => tokio::time::sleep(DRAIN_SETTLE).await,
                false => self.drain.notified().await,
            }
        };
        let ended = http1::serve(&http, drain, |head, body| {
            connection.meter.exchange_begins();
            exchange(connection.clone(), head, body)
        });
        let ended = ended.await;
        // It holds the connection that it is in: also where its 101 did not get out.
        let tunnel = connection.tunnel.take();
        match ended {
            Ended::Closed => {}
            Ended::Refused(error) => {
                self.counters.unparsed_request();
                match error {
                    http1::Error::HeadTooLarge => self.counters.limit(Limit::HeaderBytes),
                    http1::Error::TooManyFields => self.counters.limit(Limit::HeaderCount),
                    _ => {}
                }
            }
            Ended::Switched => {
                if let Some(tunnel) = tunnel
                    && let Some((socket, early)) = http.into_socket()
                {
                    let idle = config.proxy.tunnel_idle_timeout;
                    // Boxed: few connections come to this, and all would have room for it.
                    Box::pin(upgrade::run(socket, early, tunnel, idle)).await;
                }
            }
        }
        if let Some(cut) = meter.cut() {
            self.counters.limit(match cut {
                Cut::KeepAlive => Limit::KeepAlive,
                Cut::Header => Limit::HeaderTimeout,
                Cut::WriteStall => Limit::ClientTookNothing,
                Cut::SlowReader => Limit::SlowReader,
            });
        }
    }

    /// Finishes what is under way, for `drain_timeout` at the most.
    async fn drained(&self) {
        // A request that had arrived with the last connections is served; a connection that is told to
        // shut down before its first byte was read is closed.
        tokio::time::sleep(DRAIN_SETTLE).await;
        self.drain.notify_waiters();
        let all_ended = async {
            while self.open.get() > 0 {
                self.ended.notified().await;
            }
        };
        let patience = self.config.server.drain_timeout;
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            tracing::warn!(connections = self.open.get(), "drain_timeout is over: cutting");
            self.cutting.set(true);
        }
    }
}

/// One of the connections that all workers together may have open.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(connections: &Arc<AtomicUsize>, max: usize) -> Option<Place> {
        let place = Place(connections.clone());
        (connections.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
