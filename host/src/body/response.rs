//! A response's body on its way to the client, and what has to happen at its end: the service's
//! connection is free, the balancer counts one request less, the record is written.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::RequestBody;
use crate::http1::{self, Failed, Incoming, Relay, Relayed};
use crate::io::{LazyTimer, Socket};
use crate::telemetry::record::{End, Record};
use crate::upstream::InFlight;
use crate::upstream::pool::Lease;

/// The body of a response to a client. Its end, or its being dropped, ends the exchange.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    /// None where a tunnel follows, which has it.
    record: Option<Box<Record>>,
    /// It takes its time, and has given back what it need not have meanwhile.
    has_settled: bool,
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

/// Why a response broke off; the client's connection is closed for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the service broke off its response: {0}")]
    Lost(#[from] http1::Error),
    #[error("the service sent nothing for too long")]
    Idle,
    #[error("the client sends its request too slowly")]
    ClientSlow,
}

impl ResponseBody {
    fn new(source: Source, record: Option<Box<Record>>) -> ResponseBody {
        ResponseBody { source, record, has_settled: false }.ended_if_empty()
    }

    pub(crate) fn own(bytes: Bytes, record: Box<Record>) -> ResponseBody {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        ResponseBody::new(Source::Own(bytes), Some(record))
    }

    /// No body, and not the end of the exchange either: that of a 101.
    pub(crate) fn none() -> ResponseBody {
        ResponseBody::new(Source::Own(None), None)
    }

    /// A body that is empty, or that belongs to a HEAD request, is dropped without being asked for.
    fn ended_if_empty(mut self) -> ResponseBody {
        let is_head = self.record.as_ref().is_some_and(|record| record.is_head());
        if self.is_end_stream() || is_head {
            self.end(End::Done);
        }
        self
    }

    /// Nothing moves now: gives back what is not needed meanwhile.
    pub(crate) fn settle_down(&mut self) {
        if !std::mem::replace(&mut self.has_settled, true)
            && let Some(record) = &mut self.record
        {
            record.settle_down();
        }
        if let Source::Upstream(upstream) = &self.source {
            upstream.incoming.settle_down();
        }
    }

    fn end(&mut self, end: End) {
        if let Some(record) = &mut self.record {
            record.end(end);
        }
    }

    fn breaks_off(&mut self, error: &BodyError) {
        self.end(match error {
            BodyError::Lost(_) => End::UpstreamLost,
            BodyError::Idle => End::UpstreamIdle,
            BodyError::ClientSlow => End::ClientSlow,
        });
        if let Some(record) = &self.record {
            record.breaks_off();
        }
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
        ResponseBody::new(Source::Upstream(Box::new(upstream)), Some(record))
    }
}

impl Upstream {
    /// Nobody asks again who knows that nothing is left, so the end is looked for here.
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
                if frame.is_trailers() {
                    self.finish();
                }
                self.finish_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let why = ready!(self.poll_expired(cx));
                Poll::Ready(Some(Err(why)))
            }
        }
    }

    /// Ready with the reason once the service has been waited for too long; or the client has, on which
    /// a service that answers while it reads may depend.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let request = &self.request;
        if request.is_on_its_way() {
            request.watch(cx);
        }
        loop {
            let idle = since.max(request.moved_at()) + self.idle_timeout;
            let deadline = request.pace_due().map_or(idle, |due| due.min(idle));
            ready!(self.timer.poll_until(deadline, cx));
            if deadline == idle {
                return Poll::Ready(BodyError::Idle);
            }
            if request.too_slow(deadline) {
                return Poll::Ready(BodyError::ClientSlow);
            }
        }
    }
}

impl Relay for ResponseBody {
    fn poll_relay(
        &mut self,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, Failed<BodyError>>>> {
        let Source::Upstream(upstream) = &mut self.source else { return None };
        let error = match upstream.incoming.relay(to, cx)? {
            Ok(Relayed::Moved { went, .. }) => {
                upstream.waiting_since = None;
                upstream.finish_if_ended();
                if let Some(record) = &mut self.record {
                    record.bytes_out += went;
                }
                if self.is_end_stream() {
                    self.end(End::Done);
                }
                return Some(Poll::Ready(Ok(went)));
            }
            Ok(Relayed::SinkWaits { .. }) => {
                self.settle_down();
                return Some(Poll::Pending);
            }
            Ok(Relayed::SourceWaits) => match upstream.poll_expired(cx) {
                Poll::Ready(why) => why,
                Poll::Pending => {
                    self.settle_down();
                    return Some(Poll::Pending);
                }
            },
            Err(Failed::Socket(error)) => return Some(Poll::Ready(Err(Failed::Socket(error)))),
            Err(Failed::Body(error)) => error.into(),
        };
        self.breaks_off(&error);
        Some(Poll::Ready(Err(Failed::Body(error))))
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
                if frame.is_trailers() {
                    // Nobody asks again after these.
                    body.end(End::Done);
                }
                if let (Some(data), Some(record)) = (frame.data_ref(), &mut body.record) {
                    record.bytes_out += data.len() as u64;
                }
            }
            Poll::Ready(Some(Err(error))) => body.breaks_off(error),
            Poll::Ready(None) => body.end(End::Done),
            Poll::Pending => body.settle_down(),
        }
        if body.is_end_stream() {
            body.end(End::Done);
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
