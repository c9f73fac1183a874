//! A message on its way out.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::body::AttemptBody;
use crate::headers::{Passing, put_field};
use crate::io::Socket;

/// What browsers send beside their cookies.
const HEAD_ROOM: usize = 960;

/// So many bytes go out before others have their turn.
const TURN_BYTES: u64 = 1 << 20;

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What of a message is not sent yet.
#[derive(Debug)]
pub(crate) struct Outgoing<B> {
    /// The head, or what frames `data`.
    ahead: Vec<u8>,
    ahead_sent: usize,
    data: Bytes,
    behind: &'static [u8],
    /// None once its end was read.
    body: Option<B>,
    coding: Coding,
}

#[derive(Debug)]
pub(super) enum Coding {
    /// The body is as long as the head says, or ends with the connection.
    Plain,
    /// It goes in chunks, and these fields may come behind it.
    Chunked { trailers: Option<HeaderValue> },
}

/// A body that may know a shorter way to where it goes.
pub(crate) trait Relay: Body<Data = Bytes> + Unpin {
    /// Has some of it go to a socket without coming by: how many bytes. None: it has to be asked for its
    /// frames.
    fn poll_relay(
        &mut self,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, Failed<Self::Error>>>>;
}

/// Why a message cannot be sent to its end.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    Socket(io::Error),
    Body(E),
}

/// The first line of a request's head, with room for the rest of most.
pub(crate) fn request_line(method: &Method, target: &PathAndQuery) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_ROOM + target.as_str().len());
    for part in [method.as_str(), " ", target.as_str(), " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    head
}

impl Outgoing<AttemptBody> {
    /// `head` is a request's line and its fields, but for those that frame the body, about which `passing`
    /// tells what the client said.
    pub(crate) fn request(head: Vec<u8>, passing: Passing, body: AttemptBody) -> Self {
        let mut ahead = head;
        let length = body.size_hint().exact().filter(|_| !passing.chunked);
        match length {
            Some(0) if !passing.has_length => {}
            Some(length) => {
                write!(ahead, "content-length: {length}\r\n").expect("a vector takes all");
            }
            None if passing.chunked => {}
            None => ahead.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        ahead.extend_from_slice(b"\r\n");
        let coding = match length {
            Some(_) => Coding::Plain,
            None => Coding::Chunked { trailers: passing.trailers },
        };
        Outgoing::new(ahead, (length != Some(0)).then_some(body), coding)
    }
}

impl<B: Relay> Outgoing<B> {
    /// `head` is a message's line and fields, and the empty line behind them.
    pub(super) fn new(head: Vec<u8>, body: Option<B>, coding: Coding) -> Outgoing<B> {
        Outgoing { ahead: head, ahead_sent: 0, data: Bytes::new(), behind: b"", body, coding }
    }

    /// Sends no more of the body than there is already.
    pub(super) fn cut(&mut self) {
        self.body = None;
    }

    /// What it has of the body has to be written before more of it is of use.
    pub(super) fn waiting_body(&mut self) -> Option<&mut B> {
        let has_nothing = self.has_nothing();
        self.body.as_mut().filter(|_| !has_nothing)
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.body.is_none() && self.has_nothing()
    }

    fn has_nothing(&self) -> bool {
        self.ahead.is_empty() && self.data.is_empty() && self.behind.is_empty()
    }

    /// Ready when all is written, or the body cannot be had, or the socket is broken.
    pub(super) fn poll_send(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failed<B::Error>>> {
        let mut gone = 0;
        loop {
            if gone >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(relayed) = self.poll_relay(socket, cx) {
                gone += ready!(relayed)?;
                continue;
            }
            // Before anything is written: the head and what there is of the body go in one piece.
            if self.data.is_empty() && self.behind.is_empty() {
                self.poll_body(cx).map_err(Failed::Body)?;
            }
            if self.has_nothing() {
                return match self.body {
                    None => Poll::Ready(Ok(())),
                    Some(_) => Poll::Pending,
                };
            }
            let parts = [&self.ahead[self.ahead_sent..], &self.data, self.behind].map(IoSlice::new);
            // What is empty costs the kernel, too.
            let parts = match (self.data.is_empty(), self.behind.is_empty()) {
                (true, true) => &parts[..1],
                (false, true) => &parts[..2],
                _ => &parts[..],
            };
            let written = ready!(Pin::new(&mut *socket).poll_write_vectored(cx, parts));
            match written.map_err(Failed::Socket)? {
                0 => return Poll::Ready(Err(Failed::Socket(io::ErrorKind::WriteZero.into()))),
                count => {
                    self.sent(count);
                    gone += count as u64;
                }
            }
        }
    }

    /// Only of a body that needs no frame around its pieces.
    fn poll_relay(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, Failed<B::Error>>>> {
        if !self.has_nothing() || !matches!(self.coding, Coding::Plain) {
            return None;
        }
        let body = self.body.as_mut()?;
        let relayed = body.poll_relay(socket, cx)?;
        if body.is_end_stream() {
            self.body = None;
        }
        Some(relayed)
    }

    fn sent(&mut self, mut count: usize) {
        let ahead = count.min(self.ahead.len() - self.ahead_sent);
        self.ahead_sent += ahead;
        count -= ahead;
        if self.ahead_sent == self.ahead.len() {
            self.ahead = Vec::new(); // Not to be kept while a body is on its way.
            self.ahead_sent = 0;
        }
        let data = count.min(self.data.len());
        self.data.advance(data);
        if self.data.is_empty() {
            self.data = Bytes::new(); // It may be the last that holds a buffer.
        }
        self.behind = &self.behind[count - data..];
    }

    /// Takes the next piece of the body, if it is there.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<(), B::Error> {
        while self.data.is_empty()
            && let Some(body) = &mut self.body
            && let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx)
        {
            let Some(frame) = frame.transpose()? else {
                self.put_end();
                continue;
            };
            let ends = body.is_end_stream();
            match frame.into_data() {
                Ok(data) => {
                    self.put_data(data);
                    if ends {
                        self.put_end();
                    }
                }
                Err(trailers) => self.put_trailers(trailers),
            }
        }
        Ok(())
    }

    fn put_data(&mut self, data: Bytes) {
        if !data.is_empty() && matches!(self.coding, Coding::Chunked { .. }) {
            write!(self.ahead, "{:x}\r\n", data.len()).expect("a vector takes all");
            self.behind = b"\r\n";
        }
        self.data = data;
    }

    fn put_end(&mut self) {
        self.body = None;
        match (&self.coding, self.data.is_empty()) {
            (Coding::Plain, _) => {}
            (Coding::Chunked { .. }, true) => self.ahead.extend_from_slice(LAST_CHUNK),
            (Coding::Chunked { .. }, false) => self.behind = b"\r\n0\r\n\r\n",
        }
    }

    /// Only those that the head has announced.
    fn put_trailers(&mut self, frame: Frame<Bytes>) {
        self.body = None;
        let Coding::Chunked { trailers: announced } = &self.coding else { return };
        self.ahead.extend_from_slice(b"0\r\n");
        let names = announced.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        let is_announced = |name: &HeaderName| {
            let mut names = names.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            names.any(|it| it.eq_ignore_ascii_case(name.as_str().as_bytes()))
        };
        for (name, value) in frame.trailers_ref().into_iter().flatten() {
            if is_announced(name) {
                put_field(&mut self.ahead, name.as_str(), value);
            }
        }
        self.ahead.extend_from_slice(b"\r\n");
    }
}
