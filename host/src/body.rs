//! Bodies on their way: the request's, which only one attempt can have, and the response's, which
//! carries what has to happen at its end.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::io::LazyTimer;
use crate::telemetry::record::{End, Record};
use crate::upstream::InFlight;
use crate::upstream::pool::Lease;

/// A request's body, as far as it has come.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: RefCell<Incoming>,
    /// Some of it went to an attempt: it cannot be sent again.
    touched: Cell<bool>,
    /// When the request's head had arrived.
    arrived: Instant,
    /// When its end was reached.
    whole_since: Cell<Option<Instant>>,
    /// When it last moved.
    moved_at: Cell<Instant>,
    /// The last attempt to read it found nothing there: the client is what is waited for.
    starved: Cell<bool>,
    bytes: Cell<u64>,
    /// The exchange, whose deadline depends on the body's progress.
    exchange: RefCell<Option<Waker>>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, now: Instant) -> Rc<RequestBody> {
        let whole = incoming.is_end_stream();
        Rc::new(RequestBody {
            incoming: RefCell::new(incoming),
            touched: Cell::new(false),
            arrived: now,
            whole_since: Cell::new(whole.then_some(now)),
            moved_at: Cell::new(now),
            starved: Cell::new(false),
            bytes: Cell::new(0),
            exchange: RefCell::new(None),
        })
    }

    /// Whether the body can still be sent from its beginning.
    pub(crate) fn replayable(&self) -> bool {
        !self.touched.get()
    }

    /// Whether its end was reached.
    pub(crate) fn whole(&self) -> bool {
        self.whole_since.get().is_some()
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
        self.starved.get()
    }

    /// An attempt begins: what it waits for begins now.
    pub(crate) fn attempt_begins(&self, now: Instant) {
        self.moved_at.set(now);
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

    fn ended(&self) {
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

/// One attempt's view of a request's body.
#[derive(Debug)]
pub(crate) struct AttemptBody(pub(crate) Rc<RequestBody>);

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = &*self.0;
        if !body.touched.replace(true) {
            // From now on the client's pace counts, not the request's time.
            body.deadline_changed();
        }
        let mut incoming = body.incoming.borrow_mut();
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        body.starved.set(polled.is_pending());
        if let Poll::Ready(frame) = &polled {
            if let Some(Ok(frame)) = frame
                && let Some(data) = frame.data_ref()
            {
                body.bytes.set(body.bytes.get() + data.len() as u64);
                body.moved_at.set(Instant::now());
            }
            if frame.is_none() || incoming.is_end_stream() {
                body.ended();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.incoming.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.incoming.borrow().size_hint()
    }
}

/// The body of a response to a client. Its end, or its being dropped, ends the exchange.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    record: Box<Record>,
}

#[derive(Debug)]
enum Source {
    /// The gateway's own bytes, once.
    Own(Option<Bytes>),
    Upstream(Box<Upstream>),
}

#[derive(Debug)]
struct Upstream {
    incoming: Incoming,
    request: Rc<RequestBody>,
    /// None once the response has ended.
    lease: Option<Lease>,
    _in_flight: InFlight,
    idle_timeout: Duration,
    timer: LazyTimer,
    waiting_since: Option<Instant>,
}

/// Why a response broke off; hyper closes the client's connection for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the service broke off its response: {0}")]
    Lost(#[from] hyper::Error),
    #[error("the service sent nothing for too long")]
    Idle,
}

impl ResponseBody {
    pub(crate) fn own(bytes: Bytes, record: Box<Record>) -> ResponseBody {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        ResponseBody { source: Source::Own(bytes), record }.ended_if_empty()
    }

    /// hyper drops a body that is empty, or that belongs to a HEAD request, without asking for it.
    fn ended_if_empty(mut self) -> ResponseBody {
        if self.is_end_stream() || self.record.is_head() {
            self.record.end(End::Done);
        }
        self
    }

    pub(crate) fn upstream(
        incoming: Incoming,
        lease: Lease,
        in_flight: InFlight,
        idle_timeout: Duration,
        record: Box<Record>,
    ) -> ResponseBody {
        let mut upstream = Upstream {
            incoming,
            request: record.body().clone(),
            lease: Some(lease),
            _in_flight: in_flight,
            idle_timeout,
            timer: LazyTimer::default(),
            waiting_since: None,
        };
        upstream.finish_if_ended();
        ResponseBody { source: Source::Upstream(Box::new(upstream)), record }.ended_if_empty()
    }
}

impl Upstream {
    /// hyper does not ask again once it knows that nothing is left, so the end is looked for here.
    fn finish_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // A service that answers before it has read the request may never read it: its connection,
        // dropped, is closed, and the client's with it.
        if self.request.whole() {
            lease.finish();
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting_since = None;
                self.finish_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                match self.timer.poll_until(since + self.idle_timeout, cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Idle))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let polled = match &mut body.source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream(upstream) => upstream.poll_frame(cx),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    body.record.bytes_out += data.len() as u64;
                }
            }
            Poll::Ready(Some(Err(BodyError::Lost(_)))) => body.record.end(End::UpstreamLost),
            Poll::Ready(Some(Err(BodyError::Idle))) => body.record.end(End::UpstreamIdle),
            Poll::Ready(None) => body.record.end(End::Done),
            Poll::Pending => {}
        }
        if body.is_end_stream() {
            body.record.end(End::Done);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream(upstream) => upstream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Upstream(upstream) => upstream.incoming.size_hint(),
        }
    }
}
