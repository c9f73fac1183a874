//! HTTP/1.1 with a service: one request at a time on a connection, moved by whoever waits for its answer.
//!
//! A connection has no task and no buffers of its own while it waits. What is read goes into a buffer that
//! is made when there is something to read, and is handed on in pieces of it. The one task there may be is
//! for a request whose answer came before it was out: answer and request then go their ways.

mod body;
mod chunked;
mod head;
mod outgoing;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode, Version, response};
use tokio::io::AsyncReadExt;

pub(crate) use self::body::Incoming;
pub(crate) use self::outgoing::{Outgoing, request_line};
use crate::body::UploadError;
use crate::config::Limits;
use crate::io::{Socket, piece};

/// What a response's head may take up.
#[derive(Debug, Clone, Copy)]
struct HeadLimits {
    bytes: usize,
    fields: usize,
}

/// Why there is no response, or no more of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("closed before the response came")]
    Closed,
    #[error("closed in the middle of the response")]
    Incomplete,
    #[error("the response's head is larger than allowed")]
    HeadTooLarge,
    #[error("not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// It is the request that could not be had.
    #[error(transparent)]
    Request(#[from] UploadError),
}

/// A connection to a service, for one request after the other.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Rc<RefCell<Wire>>);

#[derive(Debug)]
struct Wire {
    socket: Socket,
    /// What was read and is not handed on.
    read: BytesMut,
    limits: HeadLimits,
    /// Nothing that was said so far speaks against another request behind this one.
    persists: bool,
    /// The request could not be sent to its end: nobody may take what comes for its whole response.
    is_broken: bool,
    /// The last response announced a body where none may be.
    is_suspect: bool,
    /// Of `read`, so much is known not to have the end of a head in it.
    searched: usize,
}

/// A buffer with less room than this is not read into.
const ROOM_MIN: usize = 1 << 10;

impl Connection {
    pub(crate) fn new(socket: Socket, limits: &Limits) -> Connection {
        Connection(Rc::new(RefCell::new(Wire {
            socket,
            read: BytesMut::new(),
            limits: HeadLimits { bytes: limits.header_bytes, fields: limits.header_count },
            persists: true,
            is_broken: false,
            is_suspect: false,
            searched: 0,
        })))
    }

    /// Whether the service has neither closed it nor said anything unasked, as far as the event loop knows.
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.borrow().socket.has_nothing()
    }

    /// The same as far as the system knows, for a request about which it has to be sure (`careful`); or
    /// where the last response may have had a body that HTTP does not know of, which would be taken for the
    /// next response.
    pub(crate) fn may_serve(&self, careful: bool) -> bool {
        let wire = self.0.borrow();
        !(careful || wire.is_suspect) || wire.socket.has_nothing_at_all()
    }

    /// Sends a request and waits for the head of its response. Other heads before it (1xx) are passed
    /// over, up to what one head may have; `continues` is called for a `100 Continue`.
    ///
    /// What is left of the request when the response comes is left in `request`: see [`Self::send_rest`].
    pub(crate) async fn send(
        &self,
        request: &mut Outgoing,
        method: &Method,
        continues: impl Fn(),
    ) -> Result<Response<Incoming>, Error> {
        let mut interim_bytes = 0;
        poll_fn(|cx| {
            let wire = &mut *self.0.borrow_mut();
            if let Poll::Ready(sent) = request.poll_send(&mut wire.socket, cx) {
                sent?;
            }
            let mut asks = false;
            loop {
                let Poll::Ready((head, bytes)) = wire.poll_head(cx)? else {
                    // Not where the response has come already.
                    if asks {
                        continues();
                    }
                    return Poll::Pending;
                };
                if head.status.is_informational() {
                    if head.version == Version::HTTP_10 {
                        return Poll::Ready(Err(Error::Malformed(
                            "an interim response in HTTP/1.0",
                        )));
                    }
                    interim_bytes += bytes;
                    if interim_bytes > wire.limits.bytes {
                        return Poll::Ready(Err(Error::Malformed("interim responses without end")));
                    }
                }
                match head.status {
                    StatusCode::CONTINUE => asks = true,
                    status if status.is_informational() && !is_last(status) => {}
                    _ => {
                        let framing = head::framing_of(&head, method)?;
                        wire.is_suspect = framing.has_ended() && head::announces_body(&head);
                        // To one that has none whoever asked (RFC 9110 section 15.3.5).
                        let strays = wire.is_suspect && head.status == StatusCode::NO_CONTENT;
                        wire.persists =
                            framing.ends_by_itself() && head::persists(&head) && !strays;
                        let incoming = Incoming::new(self.clone(), framing);
                        return Poll::Ready(Ok(Response::from_parts(head, incoming)));
                    }
                }
            }
        })
        .await
    }

    /// Sends what is left of a request whose response is on its way.
    pub(crate) fn send_rest(&self, mut request: Outgoing) -> impl Future<Output = ()> + use<> {
        let connection = self.clone();
        async move {
            let sent = poll_fn(|cx| {
                let wire = &mut *connection.0.borrow_mut();
                request.poll_send(&mut wire.socket, cx)
            });
            if sent.await.is_err() {
                let wire = &mut *connection.0.borrow_mut();
                wire.is_broken = true;
                wire.socket.shut(); // Wakes whoever reads the response.
            }
        }
    }

    /// Whether another request may follow the one whose response has ended.
    pub(crate) fn persists(&self) -> bool {
        let wire = self.0.borrow();
        wire.persists && wire.read.is_empty() && !wire.is_broken
    }

    /// Gives back the buffer, where nothing is in it.
    pub(crate) fn settle_down(&self) {
        let read = &mut self.0.borrow_mut().read;
        if read.is_empty() {
            *read = BytesMut::new();
        }
    }

    /// The socket, on which another protocol is spoken from now on, and what of it was read already. None:
    /// somebody still reads or writes HTTP on it.
    pub(crate) fn into_socket(self) -> Option<(Socket, Bytes)> {
        let wire = Rc::into_inner(self.0)?.into_inner();
        Some((wire.socket, wire.read.freeze()))
    }
}

/// Whether a response of this status ends the HTTP on a connection, though it is one of the 1xx.
fn is_last(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}

impl Wire {
    /// A head, and how many bytes it had.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(response::Parts, usize), Error>> {
        loop {
            let before = self.read.len();
            if before > 0
                && let Some(head) = head::parse(&mut self.read, &mut self.searched, self.limits)?
            {
                return Poll::Ready(Ok((head, before - self.read.len())));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                let closed = if self.read.is_empty() { Error::Closed } else { Error::Incomplete };
                return Poll::Ready(Err(closed));
            }
        }
    }

    /// Reads what there is: how many bytes, and none where the service has closed the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Only then is a buffer needed.
        ready!(self.socket.poll_readable(cx))?;
        if self.read.capacity() - self.read.len() < ROOM_MIN {
            let piece = piece(self.socket.meter().head_read()) as usize;
            // To reserve it would bring a buffer as large as the largest so far.
            if self.read.is_empty() {
                self.read = BytesMut::with_capacity(piece);
            } else {
                self.read.reserve(piece);
            }
        }
        match ready!(pin!(self.socket.read_buf(&mut self.read)).poll(cx))? {
            0 if self.socket.was_reset() => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            count => Poll::Ready(Ok(count)),
        }
    }
}
