//! A worker's connections to endpoints: opened for an attempt, kept idle between attempts.
//!
//! hyper-util's pooled client locks across threads; a worker's list needs no lock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{LocalServices, Service};
use crate::body::AttemptBody;
use crate::config::Limits;
use crate::io::{Meter, Socket};

/// Idle connections that a worker keeps for one endpoint.
const IDLE_PER_ENDPOINT_MAX: usize = 256;

/// An idle connection older than this is not used again.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// After a response's end, the connection has so long to be ready for the next request.
const READY_TIME_MAX: Duration = Duration::from_secs(1);

/// Before the next address of a name is tried beside the first (RFC 8305 section 5).
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The fields that hyper takes in a response's head unless it is told a number.
const HYPER_HEADERS_MAX: usize = 100;

/// One worker's idle connections, by service and endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    services: LocalServices,
    /// What the head of a response may have; in bytes about, for hyper counts those of its buffer.
    limits: Limits,
    /// The services' `moves` when idle connections were looked through the last time.
    moves: Cell<u64>,
    idle: RefCell<Vec<Vec<VecDeque<Idle>>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<AttemptBody>,
    meter: Rc<Meter>,
    peer: SocketAddr,
    /// The task that moves the connection's bytes.
    task: AbortHandle,
    /// The task is to hand the socket over when HTTP has ended on it.
    upgrading: Rc<Cell<bool>>,
    upgraded: oneshot::Receiver<Upgraded>,
}

/// A socket on which another protocol is spoken now, and what of it was read already.
pub(crate) type Upgraded = (Socket, Bytes);

impl Pool {
    pub(crate) fn new(services: LocalServices, limits: Limits) -> Rc<Pool> {
        let none_of = |it: &Service| it.endpoints.iter().map(|_| VecDeque::new()).collect();
        let idle = RefCell::new(services.all.iter().map(none_of).collect());
        let moves = Cell::new(services.moves.load(Relaxed));
        Rc::new(Pool { services, limits, moves, idle })
    }

    /// Where addresses changed since the last look, closes the idle connections to those that are
    /// gone: the name has moved away from there, and an old process may still answer.
    fn retire(&self) {
        let moves = self.services.moves.load(Relaxed);
        if self.moves.replace(moves) == moves {
            return;
        }
        for (service, idle) in self.idle.borrow_mut().iter_mut().enumerate() {
            for (endpoint, idle) in idle.iter_mut().enumerate() {
                idle.retain(|it| {
                    let stays = self.leads_there(&it.connection, service, endpoint);
                    if !stays {
                        it.connection.task.abort();
                    }
                    stays
                });
            }
        }
    }

    /// Whether the connection's other end still is an address of the endpoint.
    fn leads_there(&self, connection: &Connection, service: usize, endpoint: usize) -> bool {
        let addresses = self.services.all[service].endpoints[endpoint].addresses.load();
        addresses.contains(&connection.peer)
    }

    /// The idle connection that was used last, if one is alive.
    pub(crate) fn take_idle(
        self: &Rc<Self>,
        service: usize,
        endpoint: usize,
        now: Instant,
    ) -> Option<Lease> {
        self.retire();
        let idle = &mut self.idle.borrow_mut()[service][endpoint];
        while let Some(Idle { connection, since }) = idle.pop_back() {
            if connection.sender.is_ready() && now.duration_since(since) < IDLE_MAX {
                return Some(self.lease(connection, service, endpoint, true));
            }
            connection.task.abort();
        }
        None
    }

    /// A new connection to the first of `addresses` that answers.
    pub(crate) async fn connect(
        self: &Rc<Self>,
        service: usize,
        endpoint: usize,
        addresses: &[SocketAddr],
    ) -> io::Result<Lease> {
        let stream = connect_any(addresses).await?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let (socket, meter) = Socket::connected(stream);
        let mut http = http1::Builder::new();
        http.max_buf_size(self.limits.header_bytes);
        // hyper has room for its own default on the stack, and allocates for any number that it is told.
        if self.limits.header_count != HYPER_HEADERS_MAX {
            http.max_headers(self.limits.header_count);
        }
        let (sender, mut connection) =
            http.handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
        let upgrading = Rc::new(Cell::new(false));
        let (hand_over, upgraded) = oneshot::channel();
        let will_upgrade = upgrading.clone();
        let task = tokio::task::spawn_local(async move {
            // Its errors reach the exchange through the sender.
            let _ = (&mut connection).await;
            if will_upgrade.get() {
                let parts = connection.into_parts();
                let _ = hand_over.send((parts.io.into_inner(), parts.read_buf)); // Or closed.
            }
        });
        let task = task.abort_handle();
        let connection = Connection { sender, meter, peer, task, upgrading, upgraded };
        Ok(self.lease(connection, service, endpoint, false))
    }

    fn lease(
        self: &Rc<Self>,
        connection: Connection,
        service: usize,
        endpoint: usize,
        reused: bool,
    ) -> Lease {
        connection.meter.attempt_begins();
        let (read_before, written_before) = (connection.meter.read(), connection.meter.written());
        Lease {
            connection: Some(connection),
            pool: self.clone(),
            service,
            endpoint,
            reused,
            read_before,
            written_before,
        }
    }

    fn put_back(&self, connection: Connection, service: usize, endpoint: usize) {
        let idle = &mut self.idle.borrow_mut()[service][endpoint];
        let now = Instant::now();
        // The last one used is used next, so that what a burst left behind grows old at the front.
        while idle.front().is_some_and(|oldest| now.duration_since(oldest.since) >= IDLE_MAX) {
            idle.pop_front().inspect(|oldest| oldest.connection.task.abort());
        }
        // Its address may have gone while it was in use.
        if idle.len() < IDLE_PER_ENDPOINT_MAX && self.leads_there(&connection, service, endpoint) {
            idle.push_back(Idle { connection, since: now });
        } else {
            connection.task.abort();
        }
    }
}

/// A connection while an attempt uses it. Dropped before [`Lease::finish`], it is closed at once:
/// nobody may read the rest of an answer that was meant for somebody else.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<Connection>,
    pool: Rc<Pool>,
    service: usize,
    endpoint: usize,
    /// It carried a request before this one.
    pub(crate) reused: bool,
    read_before: u64,
    written_before: u64,
}

impl Lease {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection until it ends")
    }

    pub(crate) fn sender(&mut self) -> &mut SendRequest<AttemptBody> {
        &mut self.connection.as_mut().expect("a lease has its connection until it ends").sender
    }

    /// Whether a byte of the request went out.
    pub(crate) fn wrote(&self) -> bool {
        self.connection().meter.written() > self.written_before
    }

    /// Whether a byte of an answer came in.
    pub(crate) fn heard(&self) -> bool {
        self.connection().meter.read() > self.read_before
    }

    /// The request asks for another protocol. Whatever comes of that, the connection serves no other.
    pub(crate) fn will_upgrade(&self) {
        self.connection().upgrading.set(true);
    }

    /// The socket, once the service has agreed to another protocol. None: the connection broke.
    pub(crate) async fn upgraded(mut self) -> Option<Upgraded> {
        let connection = self.connection.take().expect("a lease ends once");
        tokio::time::timeout(READY_TIME_MAX, connection.upgraded).await.ok()?.ok()
    }

    /// The response has ended: the connection may serve the next attempt.
    pub(crate) fn finish(mut self) {
        let mut connection = self.connection.take().expect("a lease ends once");
        if connection.upgrading.get() {
            connection.task.abort();
        } else if connection.sender.is_ready() {
            self.pool.put_back(connection, self.service, self.endpoint);
        } else if !connection.sender.is_closed() {
            // The connection's own task has not come round to saying so yet.
            let (pool, service, endpoint) = (self.pool.clone(), self.service, self.endpoint);
            tokio::task::spawn_local(async move {
                let ready = tokio::time::timeout(READY_TIME_MAX, connection.sender.ready());
                match ready.await {
                    Ok(Ok(())) => pool.put_back(connection, service, endpoint),
                    _ => connection.task.abort(),
                }
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.task.abort();
        }
    }
}

/// Tries the addresses of one name, each [`CONNECTION_ATTEMPT_DELAY`] after the one before or as
/// soon as that one failed; the first connection wins.
pub(crate) async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let Some(first) = rest.next() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    };
    if rest.len() == 0 {
        return TcpStream::connect(first).await;
    }
    let mut connecting = FuturesUnordered::from_iter([TcpStream::connect(*first)]);
    loop {
        let next_due = tokio::time::sleep(CONNECTION_ATTEMPT_DELAY);
        let failed = tokio::select! {
            Some(connected) = connecting.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => Some(error),
            },
            () = next_due, if rest.len() > 0 => None,
        };
        match (rest.next(), failed) {
            (Some(address), _) => connecting.push(TcpStream::connect(*address)),
            (None, Some(error)) if connecting.is_empty() => return Err(error),
            (None, _) => {}
        }
    }
}
