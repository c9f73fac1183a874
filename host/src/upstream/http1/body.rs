//! The body of a response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::chunked::Chunked;
use super::{Connection, Error, Wire};

/// A response's body, as it comes.
#[derive(Debug)]
pub(crate) struct Incoming {
    connection: Connection,
    framing: Framing,
}

/// How a body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// It has.
    Ended,
    /// After so many bytes, at least one.
    Length(u64),
    Chunked(Chunked),
    /// With the connection.
    UntilClosed,
}

impl Framing {
    pub(super) fn of_length(length: u64) -> Framing {
        if length == 0 { Framing::Ended } else { Framing::Length(length) }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Framing::Ended)
    }

    /// Whether the connection may go on behind it.
    pub(super) fn ends_by_itself(&self) -> bool {
        !matches!(self, Framing::UntilClosed)
    }

    /// The next piece of what was read. None: more has to be read, or it has ended.
    fn decode(&mut self, wire: &mut Wire) -> Result<Option<Frame<Bytes>>, Error> {
        let read = &mut wire.read;
        match self {
            Framing::Ended => Ok(None),
            Framing::Length(left) => {
                if read.is_empty() {
                    return Ok(None);
                }
                let left = *left;
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
                *self = Framing::of_length(left - count as u64);
                Ok(Some(Frame::data(read.split_to(count).freeze())))
            }
            Framing::Chunked(chunked) => {
                let frame = chunked.decode(read, &mut wire.searched, wire.limits)?;
                if matches!(chunked, Chunked::Ended) {
                    *self = Framing::Ended;
                }
                Ok(frame)
            }
            Framing::UntilClosed => {
                let data = read.split().freeze();
                Ok((!data.is_empty()).then(|| Frame::data(data)))
            }
        }
    }
}

impl Incoming {
    pub(super) fn new(connection: Connection, framing: Framing) -> Incoming {
        Incoming { connection, framing }
    }

    /// Nothing moves now: gives back the buffer, where nothing is in it.
    pub(crate) fn settle_down(&self) {
        self.connection.settle_down();
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.get_mut();
        let wire = &mut *body.connection.0.borrow_mut();
        loop {
            // What has come is good, whatever became of the request since.
            if let Some(frame) = body.framing.decode(wire)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if body.framing.has_ended() {
                return Poll::Ready(None);
            }
            if wire.is_broken {
                return Poll::Ready(Some(Err(Error::Incomplete)));
            }
            if ready!(wire.poll_fill(cx))? == 0 {
                if !matches!(body.framing, Framing::UntilClosed) || wire.is_broken {
                    return Poll::Ready(Some(Err(Error::Incomplete)));
                }
                body.framing = Framing::Ended;
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.framing.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Ended => SizeHint::with_exact(0),
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::UntilClosed => SizeHint::default(),
        }
    }
}
