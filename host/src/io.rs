//! Every socket of the request's path: what moved, what stalled, why it closed.
//!
//! hyper reads and writes through [`Socket`]. The other end of the same `Rc<`[`Meter`]`>` is held by
//! the exchange, which learns from it whether a request was sent at all, and by the worker, which
//! learns why a connection ended.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is moved seldom: while its deadline only goes further away, it wakes early, finds
/// that out and goes on. That saves the timer wheel two visits per request.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    pub(crate) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Keeps the timer running without waiting for anything: the task is woken within `interval`.
    /// `anew`: what it was set to before may be later than that.
    fn keep_running(&mut self, interval: Duration, anew: bool, cx: &mut Context<'_>) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(interval)));
        if anew {
            sleep.as_mut().reset(Instant::now() + interval);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            sleep.as_mut().reset(Instant::now() + interval);
        }
    }
}

/// Pieces that are copied together, rather than handed to the kernel one by one, in bytes.
const GATHERED_MAX: usize = 1024;

/// What a client's connection is waiting for, and so how long it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For the first byte of a request.
    Idle,
    /// For the rest of a request's head.
    Head,
    /// For nothing that this file limits: an exchange is under way.
    Busy,
}

/// Why a connection was ended from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// No request within `keep_alive_timeout`.
    KeepAlive,
    /// A request's head took longer than `header_timeout`.
    Header,
    /// The peer took no byte for `idle_timeout`.
    WriteStall,
}

/// The counters of one socket.
#[derive(Debug)]
pub(crate) struct Meter {
    read: Cell<u64>,
    written: Cell<u64>,
    phase: Cell<Phase>,
    /// When the phase began; none while nobody had to know: most heads come in one piece.
    since: Cell<Option<Instant>>,
    cut: Cell<Option<Cut>>,
}

impl Meter {
    fn new(phase: Phase) -> Rc<Meter> {
        Rc::new(Meter {
            read: Cell::new(0),
            written: Cell::new(0),
            phase: Cell::new(phase),
            since: Cell::new(None),
            cut: Cell::new(None),
        })
    }

    /// Bytes received since the connection began.
    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes written since the connection began.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Why this side ended the connection, if it did.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// A request's head has arrived whole.
    pub(crate) fn exchange_begins(&self) {
        self.phase.set(Phase::Busy);
    }

    /// The response is out: the connection waits for the next request.
    pub(crate) fn exchange_ends(&self, now: Instant) {
        self.phase.set(Phase::Idle);
        self.since.set(Some(now));
    }
}

/// How long a client's connection may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) keep_alive: Duration,
    pub(crate) header: Duration,
    /// Without a byte taken by the peer.
    pub(crate) write_stall: Duration,
}

/// A TCP connection with its counters and deadlines.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    meter: Rc<Meter>,
    /// None for connections to services: the exchange keeps their time.
    patience: Option<Patience>,
    read_timer: LazyTimer,
    /// The read timer was last set for a head.
    timing_head: bool,
    write_timer: LazyTimer,
    stalled_since: Option<Instant>,
}

impl Socket {
    /// A connection from a client.
    pub(crate) fn accepted(stream: TcpStream, patience: Patience) -> (Socket, Rc<Meter>) {
        Socket::new(stream, Some(patience))
    }

    /// A connection to a service.
    pub(crate) fn connected(stream: TcpStream) -> (Socket, Rc<Meter>) {
        Socket::new(stream, None)
    }

    fn new(stream: TcpStream, patience: Option<Patience>) -> (Socket, Rc<Meter>) {
        let phase = if patience.is_some() { Phase::Idle } else { Phase::Busy };
        let meter = Meter::new(phase);
        let socket = Socket {
            stream,
            meter: meter.clone(),
            patience,
            read_timer: LazyTimer::default(),
            timing_head: false,
            write_timer: LazyTimer::default(),
            stalled_since: None,
        };
        (socket, meter)
    }

    /// Nothing to read: is the peer's time over?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(patience) = self.patience else { return Poll::Pending };
        let (limit, cut) = match self.meter.phase.get() {
            Phase::Busy => {
                // hyper may not read again when the exchange has ended: it was told that nothing is
                // there. The timer then sees to it that the idle connection is looked at.
                let interval = patience.keep_alive.min(patience.header);
                let anew = std::mem::take(&mut self.timing_head);
                self.read_timer.keep_running(interval, anew, cx);
                return Poll::Pending;
            }
            Phase::Idle => (patience.keep_alive, Cut::KeepAlive),
            Phase::Head => {
                self.timing_head = true;
                (patience.header, Cut::Header)
            }
        };
        let since = self.meter.since.get().unwrap_or_else(Instant::now);
        self.meter.since.set(Some(since));
        ready!(self.read_timer.poll_until(since + limit, cx));
        self.meter.cut.set(Some(cut));
        match cut {
            // Like a client that closes: between requests that is the clean end.
            Cut::KeepAlive => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    fn after_write(
        &mut self,
        written: Poll<io::Result<usize>>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if self.patience.is_none() && is_closed_by_peer(&error) => {
                // A service may answer early and close while the request's body is on its way. hyper
                // would report the failed write before it reads the answer that is waiting; so the
                // bytes vanish here, uncounted, and what the read side finds decides.
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(result) => {
                self.stalled_since = None;
                if let Ok(count) = result {
                    self.meter.written.set(self.meter.written.get() + count as u64);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let Some(patience) = self.patience else { return Poll::Pending };
                let since = *self.stalled_since.get_or_insert_with(Instant::now);
                ready!(self.write_timer.poll_until(since + patience.write_stall, cx));
                self.meter.cut.set(Some(Cut::WriteStall));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut socket.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                let count = buf.filled().len() - before;
                let meter = &socket.meter;
                meter.read.set(meter.read.get() + count as u64);
                if count > 0 && meter.phase.get() == Phase::Idle {
                    meter.phase.set(Phase::Head);
                    meter.since.set(None);
                }
                Poll::Ready(result)
            }
            Poll::Pending => socket.poll_read_deadline(cx),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = Pin::new(&mut socket.stream).poll_write(cx, bytes);
        socket.after_write(written, bytes.len(), cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        // A head and a small body in one piece: `send` costs the kernel less than `writev`.
        if let [whole] = slices {
            return self.poll_write(cx, whole);
        }
        if total <= GATHERED_MAX {
            let mut gathered = [0; GATHERED_MAX];
            let mut rest = &mut gathered[..];
            for slice in slices {
                let (place, behind) = rest.split_at_mut(slice.len());
                place.copy_from_slice(slice);
                rest = behind;
            }
            return self.poll_write(cx, &gathered[..total]);
        }
        let socket = self.get_mut();
        let written = Pin::new(&mut socket.stream).poll_write_vectored(cx, slices);
        socket.after_write(written, total, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A timer that the exchanges of one connection share, one after the other.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTimer(RefCell<LazyTimer>);

impl ConnectionTimer {
    pub(crate) fn poll_until(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_until(deadline, cx)
    }
}
