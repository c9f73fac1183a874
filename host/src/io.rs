//! Every socket of the request's path: what moved, what stalled, why it closed.
//!
//! `http1.rs`, and hyper for the admin listener, read and write through [`Socket`]. The other end of the same `Rc<`[`Meter`]`>` is held by
//! the exchange, which learns from it whether a request was sent at all, and by the worker, which
//! learns why a connection ended.

mod meter;
mod pace;
mod pipe;
mod timer;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use rustix::ioctl::{Getter, ioctl};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use meter::Phase;
pub(crate) use meter::{Cut, Meter};
pub(crate) use pace::Sending;
use pace::{Reader, Reading};
pub(crate) use pipe::{Pipe, Pipes};
pub(crate) use timer::{ConnectionTimer, LazyTimer};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a client still sends after its connection is given up is read up to here, so that it sees the
/// last response instead of a reset.
const LINGER_BYTES_MAX: u64 = 64 << 10;

/// And for no longer than this.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// While nobody reads from a client, it is looked so often whether the client is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of so much of a response, in bytes, the system takes nearly all, whether the client reads or not.
const UNREAD_MAX: u64 = 24 << 10;

/// Who has read so much of it goes on reading.
const STALLS_MAX: u64 = 96 << 10;

/// Nearly every head, with a small body.
pub(crate) const FIRST_PIECE: usize = 4 << 10;

/// How many bytes of a response are read, and handed on, at once when so many have gone before: a reader that
/// stalls early, as those do who mean harm, costs little.
pub(crate) fn piece(gone: u64) -> u64 {
    match gone {
        0 => FIRST_PIECE as u64,
        1..UNREAD_MAX => 8 << 10,
        UNREAD_MAX..STALLS_MAX => 4 << 10,
        _ => (gone / 4).min(128 << 10),
    }
}

/// Pieces that are copied together, rather than handed to the kernel one by one, in bytes.
const GATHERED_MAX: usize = 2048;

thread_local! {
    static GATHERED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(GATHERED_MAX));
}

/// How long a client's connection may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) keep_alive: Duration,
    pub(crate) header: Duration,
    /// Without a byte taken by the peer.
    pub(crate) write_stall: Duration,
    /// Bytes per second that the peer must read at least; none is off.
    pub(crate) rate_min: Option<u64>,
    /// Who serves it may not look at it again when an exchange has ended, and is woken from time to time.
    pub(crate) wakes: bool,
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
    look_timer: LazyTimer,
    /// Since when nobody waits for bytes of the peer, and so nobody would learn that it has left.
    unwatched_since: Option<Instant>,
    /// The last read found nothing, so that the end of the connection wakes its task.
    awaits_bytes: bool,
    /// The kernel takes no more bytes, or still has some although all was written.
    reading: Option<Reading>,
    /// The idle phase that began then has found the kernel's buffer empty.
    taken_since: Option<Instant>,
    /// What of [`CONTINUE`] is still to be sent.
    continuing: &'static [u8],
    lingering: Option<Linger>,
    was_reset: bool,
}

/// The end of a connection whose peer may still be sending.
#[derive(Debug)]
struct Linger {
    until: Instant,
    bytes: u64,
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
            look_timer: LazyTimer::default(),
            unwatched_since: None,
            awaits_bytes: false,
            reading: None,
            taken_since: None,
            continuing: &[],
            lingering: None,
            was_reset: false,
        };
        (socket, meter)
    }

    /// Whether a client is at its other end.
    pub(crate) fn is_clients(&self) -> bool {
        self.patience.is_some()
    }

    pub(crate) fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Nothing to read: is the peer's time over?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(patience) = self.patience else { return Poll::Pending };
        let (limit, cut) = match self.meter.phase.get() {
            Phase::Tunnel => return Poll::Pending,
            // While the end of a response is not out, its reader's pace is what counts.
            phase if phase == Phase::Busy || self.meter.congested() => {
                if patience.wakes {
                    let interval = patience.keep_alive.min(patience.header);
                    let anew = std::mem::take(&mut self.timing_head);
                    self.read_timer.keep_running(interval, anew, cx);
                }
                return Poll::Pending;
            }
            Phase::Head => {
                self.timing_head = true;
                (patience.header, Cut::Header)
            }
            Phase::Idle | Phase::Busy => (patience.keep_alive, Cut::KeepAlive),
        };
        let since = self.meter.since.get().unwrap_or_else(Instant::now);
        self.meter.since.set(Some(since));
        if cut == Cut::KeepAlive
            && let Poll::Ready(error) = self.poll_taking(since, limit, patience, cx)
        {
            return Poll::Ready(Err(error));
        }
        ready!(self.read_timer.poll_until(since + limit, cx));
        self.meter.cut.set(Some(cut));
        match cut {
            // Like a client that closes: between requests that is the clean end.
            Cut::KeepAlive => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Nobody may be reading: has the client left?
    ///
    /// A body that a service does not take is read no further, nor is the next request on a connection. Who
    /// leaves then would be noticed when the body moves again, if ever.
    pub(crate) fn check_presence(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let exchanging = self.patience.is_some() && self.meter.phase.get() == Phase::Busy;
        if !exchanging {
            return Ok(());
        }
        // Whoever read last is woken by the end, and need not read again.
        if self.awaits_bytes {
            return self.check_end(Interest::READABLE);
        }
        let mut since = self.unwatched_since.unwrap_or_else(Instant::now);
        while self.look_timer.poll_until(since + LOOK_EVERY, cx).is_ready() {
            since = Instant::now();
            // This interest is in urgent bytes and in the end of the stream, not in bytes before it.
            self.check_end(Interest::PRIORITY)?;
        }
        self.unwatched_since = Some(since);
        Ok(())
    }

    /// An error where the event loop knows already that the peer sends no more.
    fn check_end(&self, interest: Interest) -> io::Result<()> {
        match self.stream.ready(interest).now_or_never() {
            Some(Ok(ready)) if ready.is_read_closed() => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok(()),
        }
    }

    /// The response is written, but the client may still have to take it from the kernel: a slow
    /// reader is none the less slow for a response that fits into a buffer. Ready where it is cut.
    fn poll_taking(
        &mut self,
        since: Instant,
        keep_alive: Duration,
        patience: Patience,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        while self.taken_since != Some(since) {
            let due = match &self.reading {
                Some(reading) => reading.due(patience.write_stall),
                None => since + pace::WINDOW,
            };
            if due >= since + keep_alive || self.read_timer.poll_until(due, cx).is_pending() {
                break;
            }
            match unacknowledged(&self.stream).unwrap_or_default() {
                0 => {
                    self.taken_since = Some(since);
                    self.reading = None;
                }
                queued => {
                    let reading = self.reading.get_or_insert_with(|| Reading::stops(since));
                    if let Some(cut) = look(reading, &self.meter, queued, patience) {
                        return Poll::Ready(self.shed(cut));
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Ready when there may be something to read, or the end of it, or the peer's time is over.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.poll_read_ready(cx);
        self.awaits_bytes = polled.is_pending();
        self.unwatched_since = None;
        if polled.is_pending() {
            return self.poll_read_deadline(cx);
        }
        polled
    }

    /// Reads up to so many bytes into a pipe; none at the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        pipe: &mut Pipe,
        max: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let filled = self.stream.try_io(Interest::READABLE, || {
                pipe.fill(&self.stream, max).map_err(io::Error::from)
            });
            match filled {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.meter.read.set(self.meter.read.get() + count as u64);
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Writes what a pipe holds, as much as is taken.
    pub(crate) fn poll_pour(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let held = pipe.holds();
            let poured = match self.stream.poll_write_ready(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => Poll::Ready(self.stream.try_io(Interest::WRITABLE, || {
                    pipe.pour(&self.stream).map_err(io::Error::from)
                })),
            };
            if matches!(&poured, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock)
            {
                continue;
            }
            let written = ready!(self.after_write(poured, held, cx))?;
            // They may have vanished instead.
            if pipe.holds() + written > held {
                pipe.spill();
            }
            return Poll::Ready(Ok(written));
        }
    }

    /// Whether there is neither a byte to read nor the end of them, as far as the event loop knows.
    pub(crate) fn has_nothing(&self) -> bool {
        let nothing = self.stream.try_read(&mut [0]);
        matches!(nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same as far as the system knows, which costs a call.
    pub(crate) fn has_nothing_at_all(&self) -> bool {
        let nothing = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        matches!(nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the peer has reset the connection, and only a write was told so.
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Ends both directions; the socket itself stays until it is dropped.
    pub(crate) fn shut(&self) {
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both); // Or it is shut already.
    }

    /// Gives up a client that does not read. A reset, for else the kernel would go on trying to get
    /// rid of what it holds.
    fn shed(&self, cut: Cut) -> io::Error {
        self.meter.cut.set(Some(cut));
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)); // Gone already.
        io::ErrorKind::TimedOut.into()
    }

    fn after_write(
        &mut self,
        written: Poll<io::Result<usize>>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error))
                if self.patience.is_none()
                    && self.meter.phase.get() == Phase::Busy
                    && is_closed_by_peer(&error) =>
            {
                // A service may answer early and close while the request's body is on its way. So the
                // bytes vanish here, uncounted, and what the read side finds decides. The system tells of a
                // reset once.
                self.was_reset |= error.kind() == io::ErrorKind::ConnectionReset;
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(result) => {
                self.reading = None;
                if self.meter.congested.replace(false) {
                    // Until now the peer had no reason to send anything.
                    self.meter.since.set(None);
                }
                if let Ok(count) = result {
                    self.meter.written.set(self.meter.written.get() + count as u64);
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_reader(cx),
        }
    }

    /// The kernel takes no more: is the peer reading?
    fn poll_reader(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.meter.congested.set(true);
        // A tunnel has one time limit, its own: who does not read it may have reasons.
        let limited = self.patience.filter(|_| self.meter.phase.get() != Phase::Tunnel);
        let Some(patience) = limited else { return Poll::Pending };
        let mut reading = self.reading.unwrap_or_else(|| Reading::stops(Instant::now()));
        while self.write_timer.poll_until(reading.due(patience.write_stall), cx).is_ready() {
            let queued = unacknowledged(&self.stream).unwrap_or_default();
            if let Some(cut) = look(&mut reading, &self.meter, queued, patience) {
                return Poll::Ready(Err(self.shed(cut)));
            }
        }
        self.reading = Some(reading);
        Poll::Pending
    }

    /// Sends the `100 Continue` that the service has granted.
    pub(crate) fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.owes_continue.take() {
            self.continuing = CONTINUE;
        }
        self.poll_continued(cx)
    }

    /// Has all of a `100 Continue` that was begun out, before anything follows it.
    fn poll_continued(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.continuing.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, self.continuing);
            let count = ready!(self.after_write(written, self.continuing.len(), cx))?;
            self.continuing = &self.continuing[count..];
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the peer still sends. To close under it would have the kernel send a reset, and the
    /// peer could lose the response that it has not read yet (RFC 9112 section 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let linger = self
            .lingering
            .get_or_insert_with(|| Linger { until: Instant::now() + LINGER_TIME_MAX, bytes: 0 });
        let mut waste = [0; 4096];
        while linger.bytes < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    linger.bytes += buf.filled().len() as u64;
                }
                // Closed by the peer, or broken.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        // Beyond the limit nothing is read: the peer's own buffers fill up and it looks for an answer.
        ready!(self.read_timer.poll_until(linger.until, cx));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.meter.breaks_off.get() {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)); // Gone already.
        }
    }
}

/// Looks at a reader for whom the kernel holds so many bytes: why it is to be cut, if it is.
fn look(reading: &mut Reading, meter: &Meter, queued: u64, patience: Patience) -> Option<Cut> {
    let acknowledged = meter.written.get().saturating_sub(queued);
    match reading.look(Instant::now(), acknowledged, patience.write_stall, patience.rate_min) {
        Reader::FastEnough => None,
        Reader::Slow => Some(Cut::SlowReader),
        Reader::Stalled => Some(Cut::WriteStall),
    }
}

/// How many bytes the kernel has taken and the peer has not acknowledged.
#[allow(unsafe_code, reason = "rustix has no safe function for this one request")]
fn unacknowledged(stream: &TcpStream) -> io::Result<u64> {
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: on a TCP socket the kernel writes one `int` and reads nothing (tcp(7), SIOCOUTQ).
    let bytes: i32 = unsafe { ioctl(stream, Getter::<SIOCOUTQ, i32>::new()) }?;
    Ok(bytes.try_into().unwrap_or_default())
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
        let polled = Pin::new(&mut socket.stream).poll_read(cx, buf);
        socket.awaits_bytes = polled.is_pending();
        socket.unwatched_since = None;
        match polled {
            Poll::Ready(result) => {
                let count = buf.filled().len() - before;
                let meter = &socket.meter;
                meter.read.set(meter.read.get() + count as u64);
                if count > 0 && meter.phase.get() == Phase::Idle && !meter.unread.get() {
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
        ready!(socket.poll_continued(cx))?;
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
            return GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                slices.iter().for_each(|slice| gathered.extend_from_slice(slice));
                self.poll_write(cx, gathered)
            });
        }
        let socket = self.get_mut();
        ready!(socket.poll_continued(cx))?;
        let written = Pin::new(&mut socket.stream).poll_write_vectored(cx, slices);
        socket.after_write(written, total, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // `TcpStream` buffers nothing.
        let socket = self.get_mut();
        socket.check_presence(cx)?;
        socket.poll_continue(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if socket.lingering.is_none() {
            ready!(Pin::new(&mut socket.stream).poll_shutdown(cx))?;
        }
        // A head that has begun and not led to an exchange is one that could not be read.
        let unread = socket.meter.unread.get() || socket.meter.phase.get() == Phase::Head;
        if socket.patience.is_some() && unread && socket.meter.cut().is_none() {
            return socket.poll_linger(cx);
        }
        Poll::Ready(Ok(()))
    }
}
