//! A worker's connections to endpoints: opened for an attempt, kept idle between attempts.
//!
//! hyper-util's pooled client locks across threads; a worker's list needs no lock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Method, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LocalServices, Service};
use crate::body::AttemptBody;
use crate::config::Limits;
use crate::http1::{self, Incoming, Outgoing};
use crate::io::{Meter, Pipes, Socket};

/// Idle connections that a worker keeps for one endpoint: with fewer than it has requests under way, each
/// lull would close some that the next moment opens again.
const IDLE_PER_ENDPOINT_MAX: usize = 1024;

/// An idle connection older than this is not used again.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// After a response's end, so long may what is left of its request take.
const REST_TIME_MAX: Duration = Duration::from_secs(1);

/// Idle connections are looked through so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Before the next address of a name is tried beside the first (RFC 8305 section 5).
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// One worker's idle connections, by service and endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    services: LocalServices,
    /// What the head of a response may have.
    limits: Limits,
    pipes: Rc<Pipes>,
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
    http: http1::Connection,
    meter: Rc<Meter>,
    peer: SocketAddr,
}

/// A socket on which another protocol is spoken now, and what of it was read already.
pub(crate) type Upgraded = (Socket, Bytes);

impl Pool {
    pub(crate) fn new(services: LocalServices, limits: Limits, pipes: Rc<Pipes>) -> Rc<Pool> {
        let none_of = |it: &Service| it.endpoints.iter().map(|_| VecDeque::new()).collect();
        let idle = RefCell::new(services.all.iter().map(none_of).collect());
        let moves = Cell::new(services.moves.load(Relaxed));
        Rc::new(Pool { services, limits, pipes, moves, idle })
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
                idle.retain(|it| self.leads_there(&it.connection, service, endpoint));
            }
        }
    }

    /// Closes, again and again, idle connections that the service has closed, or that are too old.
    pub(crate) async fn look_through(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Instant::now();
            for idle in self.idle.borrow_mut().iter_mut().flatten() {
                idle.retain(|it| it.is_good(now));
            }
        }
    }

    /// Whether the connection's other end still is an address of the endpoint.
    fn leads_there(&self, connection: &Connection, service: usize, endpoint: usize) -> bool {
        let addresses = self.services.all[service].endpoints[endpoint].addresses.load();
        addresses.contains(&connection.peer)
    }

    /// The idle connection that was used last, if one is alive. `careful`: the system is asked, not the
    /// event loop alone, which may not know yet.
    pub(crate) fn take_idle(
        self: &Rc<Self>,
        service: usize,
        endpoint: usize,
        now: Instant,
        careful: bool,
    ) -> Option<Lease> {
        self.retire();
        let idle = &mut self.idle.borrow_mut()[service][endpoint];
        while let Some(last) = idle.pop_back() {
            if last.is_good(now) && last.connection.http.may_serve(careful) {
                return Some(self.lease(last.connection, service, endpoint, true));
            }
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
        let http = http1::Connection::new(socket, &self.limits, &self.pipes);
        let connection = Connection { http, meter, peer };
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
            rest: None,
            upgrading: false,
            read_before,
            written_before,
        }
    }

    fn put_back(&self, connection: Connection, service: usize, endpoint: usize) {
        let idle = &mut self.idle.borrow_mut()[service][endpoint];
        let now = Instant::now();
        // Its address may have gone while it was in use. The last one used is used next, so that what a
        // burst left behind grows old at the front.
        if idle.len() < IDLE_PER_ENDPOINT_MAX && self.leads_there(&connection, service, endpoint) {
            connection.http.settle_down();
            idle.push_back(Idle { connection, since: now });
        }
    }
}

impl Idle {
    fn is_good(&self, now: Instant) -> bool {
        now.duration_since(self.since) < IDLE_MAX && self.connection.http.is_quiet()
    }
}

/// A connection while an attempt uses it. Dropped before [`Lease::finish`], it serves no other, and is closed
/// when its response's body has gone too: nobody may read the rest of an answer that was meant for
/// somebody else.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<Connection>,
    pool: Rc<Pool>,
    service: usize,
    endpoint: usize,
    /// It carried a request before this one.
    pub(crate) reused: bool,
    /// Sends what was left of the request when its response came.
    rest: Option<JoinHandle<()>>,
    /// The request asks for another protocol.
    upgrading: bool,
    read_before: u64,
    written_before: u64,
}

impl Lease {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection until it ends")
    }

    /// Sends a request and waits for its response's head: see [`http1::Connection::send`].
    pub(crate) fn send(
        &self,
        request: &mut Outgoing<AttemptBody>,
        method: &Method,
        continues: impl Fn(),
    ) -> impl Future<Output = Result<Response<Incoming>, http1::Error>> {
        self.connection().http.send(request, method, continues)
    }

    /// Sends what is left of a request whose response has come.
    pub(crate) fn send_rest(&mut self, request: Outgoing<AttemptBody>) {
        let sending = self.connection().http.send_rest(request);
        self.rest = Some(tokio::task::spawn_local(sending));
    }

    /// Whether some of the request is still on its way, though its response has come.
    pub(crate) fn is_sending(&self) -> bool {
        self.rest.is_some()
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
    pub(crate) fn will_upgrade(&mut self) {
        self.upgrading = true;
    }

    /// The socket, once the service has agreed to another protocol. None: something of the request is
    /// still under way.
    pub(crate) fn upgraded(mut self) -> Option<Upgraded> {
        self.connection.take().expect("a lease ends once").http.into_socket()
    }

    /// The response has ended: the connection may serve the next attempt.
    pub(crate) fn finish(mut self) {
        let rest = self.rest.take();
        let connection = self.connection.take().expect("a lease ends once");
        if self.upgrading || !connection.http.persists() {
            rest.inspect(JoinHandle::abort);
            return;
        }
        let (pool, service, endpoint) = (self.pool.clone(), self.service, self.endpoint);
        let Some(mut rest) = rest else {
            return pool.put_back(connection, service, endpoint);
        };
        tokio::task::spawn_local(async move {
            match tokio::time::timeout(REST_TIME_MAX, &mut rest).await {
                Ok(Ok(())) if connection.http.persists() => {
                    pool.put_back(connection, service, endpoint);
                }
                _ => rest.abort(),
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.rest.take().inspect(JoinHandle::abort);
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
