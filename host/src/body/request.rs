//! A request's body: read from the client once, at the pace of the attempt that sends it on, and kept
//! for the next attempt as long as it fits into `proxy.replay_body_max`.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::config::Config;
use crate::http1::{self, Failed, Incoming, Relay, Relayed};
use crate::io::{Meter, Sending, Socket};

/// A request's body that is given up is read on up to here, so that the client sees the response
/// instead of a reset, and its connection can serve again.
const UNWANTED_BYTES_MAX: u64 = 64 << 10;

/// And for no longer than this.
const UNWANTED_TIME_MAX: Duration = Duration::from_secs(1);

/// A smaller piece of a body that is to be kept is copied rather than the buffer kept that it is in.
const PIECE_MIN: usize = 8 << 10;

/// In such blocks, in bytes: of a large one, doubled when it is full, twice as much would be needed.
const BLOCK: usize = 64 << 10;

/// What a request's body may take up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UploadLimits {
    /// `proxy.replay_body_max`.
    pub(crate) replay_bytes_max: usize,
    /// `limits.body_rate_min`, in bytes per second; none is off.
    pub(crate) rate_min: Option<u64>,
}

/// A request's body, as far as it has come.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: RefCell<Incoming>,
    limits: UploadLimits,
    /// The most that it may have: `limits.body_bytes`, or less where the route says so.
    bytes_max: Cell<u64>,
    kept: RefCell<Kept>,
    /// No attempt will need it again.
    is_last: Cell<bool>,
    /// The number of the reader that may have it: those of earlier attempts are superseded.
    reader: Cell<u32>,
    /// That reader is gone: what it had to give is sent.
    reader_ended: Cell<bool>,
    /// The reader waits for a verdict on its attempt, which has failed before the body was sent.
    held: RefCell<Option<Waker>>,
    is_held: Cell<bool>,
    /// Some of it was asked for.
    touched: Cell<bool>,
    /// The client sends it when the service has asked for it, which it has not.
    is_unasked: Cell<bool>,
    /// When the request's head had arrived.
    arrived: Instant,
    /// When its end was reached.
    whole_since: Cell<Option<Instant>>,
    /// When it last moved.
    moved_at: Cell<Instant>,
    /// How fast the client sends.
    sending: Cell<Sending>,
    bytes: Cell<u64>,
    /// The exchange, whose deadline depends on the body's progress.
    exchange: RefCell<Option<Waker>>,
}

/// What has come of the body, for an attempt that needs it again.
#[derive(Debug, Default)]
struct Kept {
    /// The first piece: most bodies have no other.
    first: Bytes,
    /// All pieces behind it, in blocks of [`BLOCK`] bytes. Copied, since a piece of a byte may hold a whole
    /// buffer.
    rest: Vec<Vec<u8>>,
    trailers: Option<HeaderMap>,
    /// It has become too large to be kept.
    overflown: bool,
}

/// Why an attempt cannot have more of the body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(transparent)]
    Client(Box<http1::Error>),
    #[error("larger than allowed")]
    TooLarge,
    #[error("another attempt has the body now")]
    Superseded,
}

impl UploadLimits {
    pub(crate) fn of(config: &Config) -> UploadLimits {
        UploadLimits {
            replay_bytes_max: config.proxy.replay_body_max,
            rate_min: config.limits.body_rate_min,
        }
    }
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, now: Instant, limits: UploadLimits) -> Rc<RequestBody> {
        let whole = incoming.is_end_stream();
        Rc::new(RequestBody {
            incoming: RefCell::new(incoming),
            limits,
            bytes_max: Cell::new(u64::MAX),
            kept: RefCell::default(),
            is_last: Cell::new(false),
            reader: Cell::new(0),
            reader_ended: Cell::new(false),
            held: RefCell::new(None),
            is_held: Cell::new(false),
            touched: Cell::new(false),
            is_unasked: Cell::new(false),
            arrived: now,
            whole_since: Cell::new(whole.then_some(now)),
            moved_at: Cell::new(now),
            sending: Cell::default(),
            bytes: Cell::new(0),
            exchange: RefCell::new(None),
        })
    }

    /// Sets the most that it may have. False: the client has announced more.
    pub(crate) fn limit(&self, bytes_max: u64) -> bool {
        self.bytes_max.set(bytes_max);
        self.whole() || self.incoming.borrow().size_hint().lower() <= bytes_max
    }

    /// Whether a limit on its size has ended it.
    pub(crate) fn too_large(&self) -> bool {
        self.bytes.get() > self.bytes_max.get()
    }

    /// Whether the body can still be sent from its beginning.
    pub(crate) fn replayable(&self) -> bool {
        !self.kept.borrow().overflown
    }

    /// Whether the client has announced more than is read of what nobody wants: behind the response its
    /// connection is closed (RFC 9112 section 9.6).
    pub(crate) fn has_long_rest(&self) -> bool {
        !self.whole() && self.incoming.borrow().size_hint().lower() > UNWANTED_BYTES_MAX
    }

    /// The client waits to be asked for it: until then, or until it comes all the same, nobody waits for the
    /// client.
    pub(crate) fn is_to_be_asked_for(&self) {
        self.is_unasked.set(true);
    }

    /// The client was asked for it, and is waited for from now on.
    pub(crate) fn was_asked_for(&self) {
        if self.is_unasked.replace(false) {
            let now = Instant::now();
            self.touched.set(true);
            self.moved_at.set(now);
            let mut sending = self.sending.get();
            sending.waits(now);
            self.sending.set(sending);
            self.deadline_changed();
        }
    }

    /// Whether it has other transfer codings than `chunked`, once.
    pub(crate) fn is_coded_otherwise(&self) -> bool {
        self.incoming.borrow().is_coded_otherwise()
    }

    /// Whether any of it has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.bytes.get() > 0 || self.whole()
    }

    /// Whether its end was reached.
    pub(crate) fn whole(&self) -> bool {
        self.whole_since.get().is_some()
    }

    /// Whether an attempt has begun to read it and has not come to its end.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.touched.get() && !self.whole()
    }

    /// Since when nobody waits for the client: the whole request is here, or none of its body was
    /// asked for. None while the body is on its way.
    pub(crate) fn time_runs_since(&self) -> Option<Instant> {
        match self.touched.get() {
            true => self.whole_since.get(),
            false => Some(self.whole_since.get().unwrap_or(self.arrived)),
        }
    }

    /// When a part of the body last moved on.
    pub(crate) fn moved_at(&self) -> Instant {
        self.moved_at.get()
    }

    /// Whether the client, not the service, is what the body waits for.
    pub(crate) fn starved(&self) -> bool {
        self.sending.get().is_waiting()
    }

    /// When the client's pace is to be looked at; none while it is not what is waited for.
    pub(crate) fn pace_due(&self) -> Option<Instant> {
        self.limits.rate_min.and_then(|_| self.sending.get().due())
    }

    /// Looks at the client's pace, when that is due: whether it is too slow.
    pub(crate) fn too_slow(&self, now: Instant) -> bool {
        let mut sending = self.sending.get();
        let is_slow = sending.is_too_slow(now, self.limits.rate_min);
        self.sending.set(sending);
        is_slow
    }

    /// An attempt begins: what it waits for begins now. While none was made, nobody read what the
    /// client sent.
    pub(crate) fn attempt_begins(&self, now: Instant) {
        self.moved_at.set(now);
        self.sending.take();
    }

    /// The attempt that has it is the last one: what is kept for another is let go of, once that attempt
    /// has sent it. Its response may last for hours.
    pub(crate) fn keep_no_more(&self) {
        self.is_last.set(true);
        if self.reader_ended.get() {
            self.kept.take();
        }
    }

    /// Has an attempt that failed early wait with the rest of the body until it is known whether the
    /// next one gets it.
    pub(crate) fn hold(&self) {
        self.is_held.set(true);
    }

    /// The attempt that failed is the last one: it may have the rest.
    pub(crate) fn release(&self) {
        self.is_held.set(false);
        if let Some(reader) = self.held.borrow_mut().take() {
            reader.wake();
        }
    }

    /// Have the current task woken when the deadline changes.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut exchange = self.exchange.borrow_mut();
        match &mut *exchange {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *exchange = Some(cx.waker().clone()),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Counts bytes of a tunnel, which come behind the body.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Nobody wants the rest: takes it from the client for a while, so that the client sees its
    /// response and not a reset. If that finds the end, the connection can serve on.
    pub(crate) fn discard(self: Rc<RequestBody>, client: Rc<Meter>) {
        self.supersede();
        self.kept.take();
        tokio::task::spawn_local(async move {
            let mut bytes = 0;
            let rest = std::future::poll_fn(|cx| {
                while let Some(frame) =
                    ready!(Pin::new(&mut *self.incoming.borrow_mut()).poll_frame(cx))
                {
                    let data = frame.as_ref().map(Frame::data_ref);
                    bytes += data.ok().flatten().map_or(0, |data| data.len() as u64);
                    if frame.is_err() || bytes > UNWANTED_BYTES_MAX {
                        return Poll::Ready(false);
                    }
                }
                Poll::Ready(true)
            });
            if let Ok(true) = tokio::time::timeout(UNWANTED_TIME_MAX, rest).await {
                client.all_is_read();
            }
        });
    }

    /// The number of a new reader, after which earlier ones get nothing more.
    fn supersede(&self) -> u32 {
        let reader = self.reader.get().wrapping_add(1);
        self.reader.set(reader);
        self.reader_ended.set(false);
        self.release();
        reader
    }

    /// The next frame from the client.
    fn poll_incoming(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut incoming = self.incoming.borrow_mut();
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        if polled.is_pending() && self.is_unasked.get() {
            return Poll::Pending; // It is the service that is waited for.
        }
        self.is_unasked.set(false);
        if !self.touched.replace(true) {
            // From now on the client's pace counts, not the request's time.
            self.deadline_changed();
        }
        let Poll::Ready(frame) = polled else {
            self.client_is_waited_for();
            return Poll::Pending;
        };
        let Some(Ok(frame)) = frame else {
            if frame.is_none() {
                self.ended();
            }
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|it| UploadError::Client(it.into()))),
            );
        };
        let mut kept = self.kept.borrow_mut();
        if let Some(data) = frame.data_ref() {
            self.moved(data.len() as u64);
            if self.too_large() {
                return Poll::Ready(Some(Err(UploadError::TooLarge)));
            }
            kept.keep(data, incoming.is_end_stream(), self.limits.replay_bytes_max);
        } else if let Some(trailers) = frame.trailers_ref()
            && !kept.overflown
        {
            kept.trailers = Some(trailers.clone());
        }
        // Nobody asks again after trailers.
        if frame.is_trailers() || incoming.is_end_stream() {
            self.ended();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// The next bytes from the client, to the service's socket.
    fn poll_relay(
        &self,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, Failed<UploadError>>>> {
        let mut incoming = self.incoming.borrow_mut();
        Some(match incoming.relay(to, cx)? {
            Ok(Relayed::Moved { came, went }) => {
                self.moved(came);
                if incoming.is_end_stream() {
                    self.ended();
                }
                Poll::Ready(Ok(went))
            }
            Ok(Relayed::SourceWaits) => {
                self.client_is_waited_for();
                Poll::Pending
            }
            Ok(Relayed::SinkWaits { came }) => {
                // They are the client's doing already: it is the service that is waited for.
                if came > 0 {
                    self.moved(came);
                }
                Poll::Pending
            }
            Err(Failed::Socket(error)) => Poll::Ready(Err(Failed::Socket(error))),
            Err(Failed::Body(error)) => {
                Poll::Ready(Err(Failed::Body(UploadError::Client(error.into()))))
            }
        })
    }

    fn moved(&self, bytes: u64) {
        let now = Instant::now();
        self.moved_at.set(now);
        self.bytes.set(self.bytes.get() + bytes);
        let mut sending = self.sending.get();
        sending.moved(now, bytes);
        self.sending.set(sending);
    }

    fn client_is_waited_for(&self) {
        let mut sending = self.sending.get();
        if !sending.is_waiting() {
            sending.waits(Instant::now());
            self.sending.set(sending);
            self.deadline_changed();
        }
    }

    fn ended(&self) {
        // Nothing is waited for any more.
        self.sending.take();
        if self.whole_since.get().is_none() {
            self.whole_since.set(Some(Instant::now()));
            self.deadline_changed();
        }
    }

    fn deadline_changed(&self) {
        if let Some(exchange) = self.exchange.borrow_mut().take() {
            exchange.wake();
        }
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes, is_last: bool, bytes_max: usize) {
        if self.overflown {
            return;
        }
        if self.len() + data.len() > bytes_max {
            *self = Kept { overflown: true, ..Kept::default() };
        } else if self.first.is_empty() {
            // As it was read, unless it begins a body that comes little by little.
            self.first = match is_last || data.len() >= PIECE_MIN {
                true => data.clone(),
                false => Bytes::copy_from_slice(data),
            };
        } else {
            self.keep_behind(data);
        }
    }

    fn keep_behind(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let block = match self.rest.last_mut() {
                Some(block) if block.len() < BLOCK => block,
                // Most that have several pieces are small none the less.
                None => self.rest.push_mut(Vec::new()),
                Some(_) => self.rest.push_mut(Vec::with_capacity(BLOCK)),
            };
            let (these, others) = data.split_at(data.len().min(BLOCK - block.len()));
            block.extend_from_slice(these);
            data = others;
        }
    }

    fn len(&self) -> usize {
        let blocks = self.rest.len().saturating_sub(1) * BLOCK;
        self.first.len() + blocks + self.rest.last().map_or(0, Vec::len)
    }

    /// What is behind the first `taken` bytes, or as much of it as is in one piece.
    fn behind(&self, taken: usize) -> Bytes {
        match taken.checked_sub(self.first.len()) {
            None => self.first.slice(taken..),
            Some(taken) => Bytes::copy_from_slice(&self.rest[taken / BLOCK][taken % BLOCK..]),
        }
    }
}

/// One attempt's view of a request's body: from its beginning.
#[derive(Debug)]
pub(crate) struct AttemptBody {
    body: Rc<RequestBody>,
    reader: u32,
    /// Of what is kept, so much was sent. Once that has overflown, only the reader that was at its
    /// end is left.
    taken: usize,
    took_trailers: bool,
}

impl AttemptBody {
    /// The body for a new attempt: earlier ones get nothing more of it.
    pub(crate) fn of(body: &Rc<RequestBody>) -> AttemptBody {
        AttemptBody { reader: body.supersede(), body: body.clone(), taken: 0, took_trailers: false }
    }

    /// What an earlier attempt has read already, and this one has not.
    fn replay(&mut self) -> Option<Frame<Bytes>> {
        let kept = self.body.kept.borrow();
        if kept.overflown {
            return None;
        }
        if self.taken < kept.len() {
            let data = kept.behind(self.taken);
            self.taken += data.len();
            self.body.moved_at.set(Instant::now());
            return Some(Frame::data(data));
        }
        let trailers = kept.trailers.clone().filter(|_| !self.took_trailers)?;
        self.took_trailers = true;
        Some(Frame::trailers(trailers))
    }
}

impl Drop for AttemptBody {
    fn drop(&mut self) {
        if self.reader != self.body.reader.get() {
            return;
        }
        self.body.reader_ended.set(true);
        if self.body.is_last.get() {
            self.body.kept.take();
        }
    }
}

impl Relay for AttemptBody {
    fn poll_relay(
        &mut self,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, Failed<UploadError>>>> {
        let body = &self.body;
        // What another attempt may need has to come by.
        let is_free = self.reader == body.reader.get() && !body.is_held.get() && !body.whole();
        // Until it comes unasked it is the service that is waited for.
        if !is_free || body.replayable() || body.is_unasked.get() {
            return None;
        }
        body.poll_relay(to, cx)
    }
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let reader = self.get_mut();
        if reader.reader != reader.body.reader.get() {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        if reader.body.is_held.get() {
            *reader.body.held.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(frame) = reader.replay() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if reader.body.is_last.get() {
            *reader.body.kept.borrow_mut() = Kept { overflown: true, ..Kept::default() };
        }
        if reader.body.whole() {
            return Poll::Ready(None);
        }
        let polled = ready!(reader.body.poll_incoming(cx));
        if let Some(Ok(frame)) = &polled {
            reader.taken += frame.data_ref().map_or(0, Bytes::len);
            reader.took_trailers |= frame.is_trailers();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.body.kept.borrow();
        self.body.whole()
            && (kept.overflown || self.taken == kept.len())
            && (kept.trailers.is_none() || self.took_trailers)
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.body.kept.borrow();
        if kept.trailers.is_some() {
            // Trailers need chunks, whatever the length.
            return SizeHint::default();
        }
        let ahead = if kept.overflown { 0 } else { kept.len() - self.taken } as u64;
        let coming = self.body.incoming.borrow().size_hint();
        let mut all = SizeHint::new();
        all.set_lower(ahead.saturating_add(coming.lower()));
        if let Some(upper) = coming.upper().and_then(|upper| upper.checked_add(ahead)) {
            all.set_upper(upper);
        }
        all
    }
}
