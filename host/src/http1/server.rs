//! A client's requests, one after the other, and their responses.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Buf;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER};
use http::{HeaderMap, Method, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::ext::ReasonPhrase;
use tokio::io::AsyncWrite;

use super::head::Said;
use super::outgoing::{Coding, Failed, Outgoing};
use super::{Connection, Error, Incoming, Rest, Wire, head};
use crate::body::ResponseBody;
use crate::headers::{lists, put_field, put_text};
use crate::respond;

/// For what most services say, and the gateway adds.
const HEAD_ROOM: usize = 512;

/// How a client's connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Either side closed it, or it broke.
    Closed,
    /// What came is no request.
    Refused(Error),
    /// Another protocol is spoken behind the last response.
    Switched,
}

/// What of a request its response depends on.
#[derive(Debug, Clone, Copy)]
struct Asked {
    version: Version,
    is_head: bool,
    /// The client will send another request.
    persists: bool,
}

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    OtherProtocol,
}

/// Has a client's requests answered until either side ends the connection. While none is under way, `drain`
/// ends it.
///
/// A client that leaves has its answer dropped.
pub(crate) async fn serve<F>(
    http: &Connection,
    drain: impl Future<Output = ()>,
    mut answer: impl FnMut(request::Parts, Incoming) -> F,
) -> Ended
where
    F: Future<Output = Response<ResponseBody>> + Unpin,
{
    let mut drain = pin!(drain);
    loop {
        let (head, said) = match poll_fn(|cx| http.poll_next(drain.as_mut(), cx)).await {
            Ok(Some(next)) => next,
            Ok(None) => return Ended::Closed,
            Err(error) => return http.refuse(error).await,
        };
        let asked = Asked {
            version: head.version,
            is_head: head.method == Method::HEAD,
            persists: said.persists(head.version),
        };
        let body = match said.request_framing(head.version) {
            Ok(framing) => Incoming::new(http, framing, &said),
            Err(error) => return http.refuse(error).await,
        };
        let mut answering = answer(head, body);
        let response = poll_fn(|cx| match Pin::new(&mut answering).poll(cx) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => http.poll_gone(cx).map(|()| None),
        });
        let Some(response) = response.await else { return Ended::Closed };
        drop(answering);
        let (mut outgoing, next) = outgoing(response, asked);
        let mut broke_off = false;
        if !poll_fn(|cx| http.poll_respond(&mut outgoing, &mut broke_off, cx)).await {
            return Ended::Closed;
        }
        drop(outgoing);
        match next {
            Next::OtherProtocol => return Ended::Switched,
            Next::Request if poll_fn(|cx| http.poll_rest(cx)).await => {}
            Next::Request | Next::Close => {
                // Else it is enough to close it: nothing is there that the system would answer by a reset.
                if http.has_unread() {
                    http.close().await;
                }
                return Ended::Closed;
            }
        }
    }
}

impl Connection {
    /// The next request's head; none at the end of the connection.
    fn poll_next(
        &self,
        drain: Pin<&mut impl Future<Output = ()>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(request::Parts, Said)>, Error>> {
        let wire = &mut *self.wire();
        let polled = wire.poll_request(cx);
        if polled.is_pending() && wire.read.is_empty() {
            wire.settle_down();
            return drain.poll(cx).map(|()| Ok(None));
        }
        polled
    }

    /// Ready when the client has left, or is cut, while it waits for its response.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let wire = &mut *self.wire();
        if let Poll::Ready(Err(_)) = wire.socket.poll_continue(cx) {
            return Poll::Ready(());
        }
        match self.0.rest.get() {
            // One read of what follows tells; who sends more than that is looked at from time to time.
            Rest::Ended if wire.read.is_empty() => match wire.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            },
            Rest::Ended | Rest::Abandoned => {}
            Rest::Coming => self.wait(cx),
        }
        match wire.socket.check_presence(cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        }
    }

    /// Ready when the response is out, or with false where that cannot be.
    fn poll_respond(
        &self,
        outgoing: &mut Outgoing<ResponseBody>,
        broke_off: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        loop {
            let polled = outgoing.poll_send(&mut self.wire().socket, cx);
            match polled {
                Poll::Ready(Ok(())) => return Poll::Ready(!*broke_off),
                Poll::Ready(Err(Failed::Socket(_))) => return Poll::Ready(false),
                // What there is of it goes out all the same.
                Poll::Ready(Err(Failed::Body(_))) => {
                    *broke_off = true;
                    outgoing.cut();
                }
                Poll::Pending => {
                    if let Some(body) = outgoing.waiting_body() {
                        body.settle_down();
                    }
                    return self.poll_gone(cx).map(|()| false);
                }
            }
        }
    }

    /// Ready when nothing more of the request comes: true where its end was found, so that another may follow.
    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match self.0.rest.get() {
            Rest::Ended => Poll::Ready(true),
            Rest::Abandoned => Poll::Ready(false),
            Rest::Coming => {
                self.wait(cx);
                Poll::Pending
            }
        }
    }

    fn has_unread(&self) -> bool {
        let wire = self.wire();
        let is_read = self.0.rest.get() == Rest::Ended && wire.read.is_empty();
        !is_read || !wire.socket.has_nothing()
    }

    /// Ends the connection so that the client can read its last response.
    async fn close(&self) {
        self.rest_is(Rest::Abandoned);
        self.wire().socket.meter().leaves_unread();
        // It is over either way.
        let _ = poll_fn(|cx| Pin::new(&mut self.wire().socket).poll_shutdown(cx)).await;
    }

    /// Says why what came is no request.
    async fn refuse(&self, error: Error) -> Ended {
        let Some(text) = respond::unreadable(&error) else { return Ended::Closed };
        let mut text = text.as_bytes();
        let written = poll_fn(|cx| {
            while text.has_remaining() {
                let socket = &mut self.wire().socket;
                match ready!(Pin::new(socket).poll_write(cx, text)) {
                    Ok(count @ 1..) => text.advance(count),
                    _ => return Poll::Ready(false),
                }
            }
            Poll::Ready(true)
        });
        if written.await {
            self.close().await;
        }
        Ended::Refused(error)
    }
}

impl Wire {
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(request::Parts, Said)>, Error>> {
        loop {
            // Some send an empty line behind a body (RFC 9112 section 2.2).
            while self.read.starts_with(b"\r\n") {
                self.read.advance(2);
                self.searched = 0;
            }
            if !self.read.is_empty()
                && let Some(next) = head::request(&mut self.read, &mut self.searched, self.limits)?
            {
                return Poll::Ready(Ok(Some(next)));
            }
            if !self.read.is_empty() {
                self.socket.meter().head_begins();
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    }
}

/// A response as it goes out (RFC 9112 section 6), and what follows it.
fn outgoing(response: Response<ResponseBody>, asked: Asked) -> (Outgoing<ResponseBody>, Next) {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let is_old = asked.version == Version::HTTP_10;
    let mut head = Vec::with_capacity(HEAD_ROOM);
    head.extend_from_slice(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(match parts.extensions.get::<ReasonPhrase>() {
        Some(reason) => reason.as_bytes(),
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    });
    head.extend_from_slice(b"\r\n");

    let is_bare = status.is_informational() || status == StatusCode::NO_CONTENT;
    let has_body = !(asked.is_head || is_bare || status == StatusCode::NOT_MODIFIED);
    let (mut says_length, mut says_date, mut says_connection) = (false, false, false);
    for (name, value) in &parts.headers {
        match *name {
            CONTENT_LENGTH if is_bare => continue,
            CONTENT_LENGTH => says_length = true,
            DATE => says_date = true,
            CONNECTION => says_connection = true,
            _ => {}
        }
        put_field(&mut head, name.as_str(), value);
    }
    let length = body.size_hint().exact();
    let mut persists = asked.persists && !(says_connection && closes(&parts.headers));
    let mut coding = Coding::Plain;
    if !says_length {
        match length {
            // Of what would be there for GET nothing is known.
            Some(0) if !has_body => {}
            Some(_) if is_bare => {}
            Some(length) => {
                write!(head, "content-length: {length}\r\n").expect("a vector takes all");
            }
            None if !has_body => {}
            None if is_old => persists = false,
            None => {
                put_text(&mut head, "transfer-encoding", "chunked");
                coding = Coding::Chunked { trailers: parts.headers.get(TRAILER).cloned() };
            }
        }
    }
    match (says_connection, persists) {
        (false, true) if is_old => put_text(&mut head, "connection", "keep-alive"),
        (false, false) if !is_old => put_text(&mut head, "connection", "close"),
        _ => {}
    }
    if !says_date {
        put_date(&mut head);
    }
    head.extend_from_slice(b"\r\n");
    let next = match persists {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => Next::OtherProtocol,
        true => Next::Request,
        false => Next::Close,
    };
    let body = (has_body && length != Some(0)).then_some(body);
    (Outgoing::new(head, body, coding), next)
}

fn closes(headers: &HeaderMap) -> bool {
    lists(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// The time of day changes once a second.
fn put_date(head: &mut Vec<u8>) {
    const LENGTH: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
    thread_local! {
        static DATE_NOW: Cell<(u64, [u8; LENGTH])> = const { Cell::new((0, [0; LENGTH])) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (of, mut text) = DATE_NOW.get();
    if of != second {
        write!(&mut text[..], "{}", httpdate::HttpDate::from(now)).expect("all are as long");
        DATE_NOW.set((second, text));
    }
    put_text(head, "date", std::str::from_utf8(&text).expect("it was written as text"));
}
