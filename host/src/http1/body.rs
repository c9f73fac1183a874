//! The body of a message.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::chunked::Chunked;
use super::head::Said;
use super::outgoing::Failed;
use super::{Connection, Error, Rest, Wire};
use crate::io::{Pipe, Socket};

/// A message's body, as it comes.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// None once it has ended.
    connection: Option<Connection>,
    framing: Framing,
    /// It has transfer codings that the gateway does not undo.
    is_coded_otherwise: bool,
    /// What has come of it, and not gone out, where it is relayed.
    pipe: Option<Pipe>,
}

/// A body with less left is not worth a pipe.
const RELAYED_MIN: u64 = 32 << 10;

/// What became of a body that is relayed.
#[derive(Debug)]
pub(crate) enum Relayed {
    /// So many bytes of it have come, and so many have gone out.
    Moved { came: u64, went: u64 },
    /// Whoever sends it is waited for.
    SourceWaits,
    /// Whoever gets it is waited for, with these bytes, too, that have come just now.
    SinkWaits { came: u64 },
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
                Ok(Some(Frame::data(super::take(read, count))))
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
    pub(super) fn new(connection: &Connection, framing: Framing, said: &Said) -> Incoming {
        let is_coming = !framing.has_ended();
        connection.rest_is(if is_coming { Rest::Coming } else { Rest::Ended });
        Incoming {
            connection: is_coming.then(|| connection.clone()),
            framing,
            is_coded_otherwise: said.is_coded_otherwise(),
            pipe: None,
        }
    }

    /// Whether it has other transfer codings than `chunked`, once.
    pub(crate) fn is_coded_otherwise(&self) -> bool {
        self.is_coded_otherwise
    }

    /// Has the next bytes go to a socket without being looked at. None: they have to be.
    pub(crate) fn relay(
        &mut self,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Result<Relayed, Failed<Error>>> {
        let mut pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => self.pipe()?,
        };
        let mut came = 0;
        if let (true, Some(connection)) = (pipe.is_empty(), &self.connection) {
            let left = self.left();
            let wire = &mut *connection.wire();
            match wire.socket.poll_fill(&mut pipe, left, cx) {
                Poll::Pending => return Some(Ok(Relayed::SourceWaits)),
                Poll::Ready(Err(error)) => return Some(Err(Failed::Body(error.into()))),
                Poll::Ready(Ok(0)) => return Some(Err(Failed::Body(Error::Incomplete))),
                Poll::Ready(Ok(count)) => came = count as u64,
            }
            self.framing = Framing::of_length(left - came);
        }
        self.note_end();
        let poured = to.poll_pour(&mut pipe, cx);
        if !pipe.is_empty() {
            self.pipe = Some(pipe);
        }
        match poured {
            Poll::Pending => Some(Ok(Relayed::SinkWaits { came })),
            Poll::Ready(Err(error)) => Some(Err(Failed::Socket(error))),
            Poll::Ready(Ok(count)) => Some(Ok(Relayed::Moved { came, went: count as u64 })),
        }
    }

    /// A pipe, where all that comes next can go through one.
    fn pipe(&self) -> Option<Pipe> {
        let connection = self.connection.as_ref().filter(|_| self.left() >= RELAYED_MIN)?;
        let wire = connection.wire();
        if wire.is_broken || !wire.read.is_empty() {
            return None;
        }
        connection.0.pipes.take()
    }

    /// How many bytes will come; 0 where nobody knows.
    fn left(&self) -> u64 {
        if let Framing::Length(left) = self.framing { left } else { 0 }
    }

    /// The connection learns that nothing more of it comes.
    fn note_end(&mut self) {
        if self.framing.has_ended()
            && let Some(connection) = self.connection.take()
        {
            connection.rest_is(Rest::Ended);
        }
    }

    /// Nothing moves now: gives back the buffer, where nothing is in it.
    pub(crate) fn settle_down(&self) {
        if let Some(connection) = &self.connection {
            connection.settle_down();
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(connection) = &self.connection else { return Poll::Ready(None) };
        let wire = &mut *connection.wire();
        loop {
            // What has come is good, whatever became of the request since.
            if let Some(frame) = self.framing.decode(wire)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.framing.has_ended() {
                return Poll::Ready(None);
            }
            // Where it was given up, what still comes is somebody else's to read.
            if wire.is_broken || connection.0.rest.get() == Rest::Abandoned {
                return Poll::Ready(Some(Err(Error::Incomplete)));
            }
            let left = match self.framing {
                Framing::Length(left) => left,
                _ => u64::MAX,
            };
            if ready!(wire.poll_fill_body(Some(left), cx))? == 0 {
                if !matches!(self.framing, Framing::UntilClosed) || wire.is_broken {
                    return Poll::Ready(Some(Err(Error::Incomplete)));
                }
                self.framing = Framing::Ended;
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.rest_is(Rest::Abandoned);
        }
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
        let polled = body.poll_piece(cx);
        body.note_end();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.framing.has_ended() && self.pipe.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Ended => SizeHint::with_exact(0),
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::UntilClosed => SizeHint::default(),
        }
    }
}
