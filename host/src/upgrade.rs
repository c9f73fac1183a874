//! `Upgrade`: client and service agree on another protocol, and the gateway becomes a tunnel.
//!
//! `forward.rs` passes the wish on and `respond.rs` the 101; when that is out, `http1.rs` lets go of
//! the client's connection and `worker.rs` comes here. What the client sent behind its request has waited
//! until now: no byte reaches the service before its 101.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Version, request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::io::{LazyTimer, Meter, Socket};
use crate::telemetry::record::{End, Record};
use crate::upstream::InFlight;
use crate::upstream::pool::Lease;

/// What a 101 leaves behind for [`run`].
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) lease: Lease,
    pub(crate) in_flight: InFlight,
    /// Written when the tunnel ends.
    pub(crate) record: Box<Record>,
}

/// The protocol that the client wants to speak instead.
///
/// Not HTTP/2 without TLS (`h2c`): its requests would pass by the policies, and RFC 9113 section 3.1
/// has retired it.
pub(crate) fn asked_for(head: &request::Parts) -> Option<&HeaderValue> {
    let protocol = head.headers.get(UPGRADE)?;
    let has = |text: &HeaderValue, wanted: &[u8]| {
        let mut options = text.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        options.any(|option| option.eq_ignore_ascii_case(wanted))
    };
    let connection = head.headers.get_all(CONNECTION).iter().any(|value| has(value, b"upgrade"));
    let is_one = head.headers.get_all(UPGRADE).iter().count() == 1;
    (connection && is_one && head.version == Version::HTTP_11 && !has(protocol, b"h2c"))
        .then_some(protocol)
}

/// Writes what asks for, or agrees on, a protocol.
pub(crate) fn set(protocol: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Moves bytes both ways until both sides have ended, either breaks, or none has moved for
/// `proxy.tunnel_idle_timeout`. `early` is what the client sent behind its request.
pub(crate) async fn run(client: Socket, early: Bytes, tunnel: Tunnel, idle: Duration) {
    let Tunnel { lease, in_flight: _in_flight, record } = tunnel;
    let mut client = Side::new(client, early);
    let mut tally = Tally::begin(record, &client);
    let end = match lease.upgraded() {
        Some((service, sent)) => {
            let mut service = Side::new(service, sent);
            both_ways(&mut client, &mut service, idle).await
        }
        None => End::UpstreamLost,
    };
    tally.record.end(end);
}

/// What moved, for the record: noted when the tunnel ends, also where a drain cuts it.
struct Tally {
    record: Box<Record>,
    client: Rc<Meter>,
    read_before: u64,
    written_before: u64,
}

impl Tally {
    fn begin(record: Box<Record>, client: &Side) -> Tally {
        record.counters().tunnel_opened();
        let (read_before, written_before) = (client.read_before(), client.meter.written());
        Tally { record, client: client.meter.clone(), read_before, written_before }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let from_client = self.client.read() - self.read_before;
        self.record.tunnelled(from_client, self.client.written() - self.written_before);
        self.record.counters().tunnel_closed();
    }
}

async fn both_ways(client: &mut Side, service: &mut Side, idle: Duration) -> End {
    let meters = [client.meter.clone(), service.meter.clone()];
    let moved = || meters.iter().map(|meter| meter.read() + meter.written()).sum::<u64>();
    let (mut seen, mut moved_at) = (moved(), Instant::now());
    let mut timer = LazyTimer::default();
    let mut copying = pin!(tokio::io::copy_bidirectional(client, service));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(copied) = copying.as_mut().poll(cx) {
            return Poll::Ready(if copied.is_ok() { End::Done } else { End::TunnelBroken });
        }
        let now_moved = moved();
        if now_moved != seen {
            (seen, moved_at) = (now_moved, Instant::now());
        }
        timer.poll_until(moved_at + idle, cx).map(|()| End::TunnelIdle)
    })
    .await
}

/// One end of a tunnel: first what was read too far while it spoke HTTP, then the socket.
#[derive(Debug)]
struct Side {
    early: Bytes,
    socket: Socket,
    meter: Rc<Meter>,
}

impl Side {
    fn new(socket: Socket, early: Bytes) -> Side {
        socket.meter().tunnel_begins();
        Side { meter: socket.meter().clone(), early, socket }
    }

    /// Bytes read before the tunnel's own.
    fn read_before(&self) -> u64 {
        self.meter.read() - self.early.len() as u64
    }
}

impl AsyncRead for Side {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let side = self.get_mut();
        if side.early.is_empty() {
            return Pin::new(&mut side.socket).poll_read(cx, buf);
        }
        let count = side.early.len().min(buf.remaining());
        buf.put_slice(&side.early[..count]);
        side.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
