//! Requests to a service, and their responses.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};

use http::{Method, Response, StatusCode, Version, response};

use super::head::Said;
use super::outgoing::Failed;
use super::{Connection, Error, Incoming, Outgoing, Wire, head};
use crate::body::{AttemptBody, UploadError};

impl Connection {
    /// Whether the service has neither closed it nor said anything unasked, as far as the event loop knows.
    pub(crate) fn is_quiet(&self) -> bool {
        self.wire().socket.has_nothing()
    }

    /// The same as far as the system knows, for a request about which it has to be sure (`careful`); or
    /// where the last response may have had a body that HTTP does not know of, which would be taken for the
    /// next response.
    pub(crate) fn may_serve(&self, careful: bool) -> bool {
        let wire = self.wire();
        !(careful || wire.is_suspect) || wire.socket.has_nothing_at_all()
    }

    /// Sends a request and waits for the head of its response. Other heads before it (1xx) are passed
    /// over, up to what one head may have; `continues` is called for a `100 Continue`.
    ///
    /// What is left of the request when the response comes is left in `request`: see [`Self::send_rest`].
    pub(crate) fn send(
        &self,
        request: &mut Outgoing<AttemptBody>,
        method: &Method,
        continues: impl Fn(),
    ) -> impl Future<Output = Result<Response<Incoming>, Error>> {
        let mut interim_bytes = 0;
        poll_fn(move |cx| {
            let wire = &mut *self.wire();
            if let Poll::Ready(sent) = request.poll_send(&mut wire.socket, cx) {
                sent?;
            }
            let mut asks = false;
            loop {
                let Poll::Ready(((head, said), bytes)) = wire.poll_head(cx)? else {
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
                        let framing = said.response_framing(&head, method)?;
                        wire.is_suspect = framing.has_ended() && said.announces_body();
                        // To one that has none whoever asked (RFC 9110 section 15.3.5).
                        let strays = wire.is_suspect && head.status == StatusCode::NO_CONTENT;
                        wire.persists =
                            framing.ends_by_itself() && said.persists(head.version) && !strays;
                        let incoming = Incoming::new(self, framing, &said);
                        return Poll::Ready(Ok(Response::from_parts(head, incoming)));
                    }
                }
            }
        })
    }

    /// Sends what is left of a request whose response is on its way.
    pub(crate) fn send_rest(
        &self,
        mut request: Outgoing<AttemptBody>,
    ) -> impl Future<Output = ()> + use<> {
        let connection = self.clone();
        async move {
            let sent = poll_fn(|cx| {
                let wire = &mut *connection.wire();
                request.poll_send(&mut wire.socket, cx)
            });
            if sent.await.is_err() {
                let wire = &mut *connection.wire();
                wire.is_broken = true;
                wire.socket.shut(); // Wakes whoever reads the response.
            }
        }
    }

    /// Whether another request may follow the one whose response has ended.
    pub(crate) fn persists(&self) -> bool {
        let wire = self.wire();
        wire.persists && wire.read.is_empty() && !wire.is_broken
    }
}

/// Whether a response of this status ends the HTTP on a connection, though it is one of the 1xx.
fn is_last(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}

type Head = (response::Parts, Said);

impl Wire {
    /// A response's head, and how many bytes it had.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, usize), Error>> {
        loop {
            let before = self.read.len();
            if before > 0
                && let Some(head) = head::response(&mut self.read, &mut self.searched, self.limits)?
            {
                return Poll::Ready(Ok((head, before - self.read.len())));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                let closed = if self.read.is_empty() { Error::Closed } else { Error::Incomplete };
                return Poll::Ready(Err(closed));
            }
        }
    }
}

impl From<Failed<UploadError>> for Error {
    fn from(failed: Failed<UploadError>) -> Error {
        match failed {
            Failed::Socket(error) => Error::Io(error),
            Failed::Body(error) => Error::Request(error),
        }
    }
}
