//! HTTP/1.1, towards clients (`server.rs`) and services (`client.rs`): one message at a time in each direction,
//! moved by whoever waits for it.
//!
//! A connection has no buffers of its own while it waits. The first bytes of a message, which mostly are all of
//! it, are read where every connection's are, and kept in as much room as they take: of a thousand connections
//! few find their memory in the processor's cache. What follows goes into a buffer that is made when there is
//! something to read, and is handed on in pieces of it. A service's connection has no task either, but
//! for a request whose answer came before it was out: answer and request then go their ways.

mod body;
mod chunked;
mod client;
mod head;
mod outgoing;
mod server;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

pub(crate) use self::body::{Incoming, Relayed};
pub(crate) use self::outgoing::{Failed, Outgoing, Relay, request_line};
pub(crate) use self::server::{Ended, serve};
use crate::body::UploadError;
use crate::config::Limits;
use crate::io::{FIRST_PIECE, Pipes, Socket, piece};

/// What a response's head may take up.
#[derive(Debug, Clone, Copy)]
struct HeadLimits {
    bytes: usize,
    fields: usize,
}

/// Why there is no message, or no more of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("closed before the response came")]
    Closed,
    #[error("closed in the middle of the message")]
    Incomplete,
    #[error("the head is larger than allowed")]
    HeadTooLarge,
    #[error("the head has more fields than allowed")]
    TooManyFields,
    #[error("the request target is longer than any may be")]
    TargetTooLong,
    #[error("not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// It is the request that could not be had.
    #[error(transparent)]
    Request(UploadError),
}

/// A connection, for one request after the other.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    wire: RefCell<Wire>,
    pipes: Rc<Pipes>,
    /// What is left of the message that comes in.
    rest: Cell<Rest>,
    /// Waits for what becomes of it.
    waiter: RefCell<Option<Waker>>,
}

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
    /// The size of the buffer that is read into.
    room: usize,
    /// The last read left no room in it: there may be more.
    was_filled: bool,
}

/// What is left of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing: what comes next is a head.
    Ended,
    /// Some of its body, that somebody may read.
    Coming,
    /// Some of its body, that nobody will.
    Abandoned,
}

/// A buffer with less room than this is not read into.
const ROOM_MIN: usize = 1 << 10;

/// So much of a request's body is read at once, in bytes, where as much had come as there was room for.
const UPLOAD_PIECE: usize = 64 << 10;

thread_local! {
    /// Where the first bytes of every message are read.
    static FIRST: RefCell<[u8; FIRST_PIECE]> = const { RefCell::new([0; FIRST_PIECE]) };
}

/// Takes so many bytes from the front of what was read.
fn take(read: &mut BytesMut, count: usize) -> Bytes {
    match count == read.len() {
        // Nobody holds on to the buffer for what may come.
        true => std::mem::take(read).freeze(),
        false => read.split_to(count).freeze(),
    }
}

impl Connection {
    pub(crate) fn new(socket: Socket, limits: &Limits, pipes: &Rc<Pipes>) -> Connection {
        Connection(Rc::new(Shared {
            wire: RefCell::new(Wire {
                socket,
                read: BytesMut::new(),
                limits: HeadLimits { bytes: limits.header_bytes, fields: limits.header_count },
                persists: true,
                is_broken: false,
                is_suspect: false,
                searched: 0,
                room: 0,
                was_filled: false,
            }),
            pipes: pipes.clone(),
            rest: Cell::new(Rest::Ended),
            waiter: RefCell::new(None),
        }))
    }

    fn wire(&self) -> RefMut<'_, Wire> {
        self.0.wire.borrow_mut()
    }

    /// What is left of the message that comes in is this now.
    fn rest_is(&self, rest: Rest) {
        self.0.rest.set(rest);
        if let Some(waiter) = self.0.waiter.take() {
            waiter.wake();
        }
    }

    /// Has the current task woken when that changes.
    fn wait(&self, cx: &Context<'_>) {
        let mut waiter = self.0.waiter.borrow_mut();
        match &mut *waiter {
            Some(waiter) => waiter.clone_from(cx.waker()),
            None => *waiter = Some(cx.waker().clone()),
        }
    }

    /// Gives back the buffer, where nothing is in it.
    pub(crate) fn settle_down(&self) {
        self.wire().settle_down();
    }

    /// The socket, on which another protocol is spoken from now on, and what of it was read already. None:
    /// somebody still reads or writes HTTP on it.
    pub(crate) fn into_socket(self) -> Option<(Socket, Bytes)> {
        let wire = Rc::into_inner(self.0)?.wire.into_inner();
        Some((wire.socket, wire.read.freeze()))
    }
}

impl Wire {
    /// Gives back the buffer, where nothing is in it.
    fn settle_down(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
            self.room = 0;
            self.was_filled = false;
        }
    }

    /// For a body that has so many bytes left, where that is known.
    fn make_room(&mut self, left: Option<u64>) {
        let mut piece = piece(self.socket.meter().head_read()) as usize;
        // What a client sends as fast as it is read waits for nobody but the service.
        if let Some(left) = left
            && self.was_filled
            && self.socket.is_clients()
        {
            piece = piece.max(UPLOAD_PIECE.min(usize::try_from(left).unwrap_or(UPLOAD_PIECE)));
        }
        // The one that it has, where nobody holds pieces of it any more.
        if piece <= self.room && self.read.try_reclaim(ROOM_MIN) {
            return;
        }
        // To reserve it would bring a buffer as large as the largest so far.
        if self.read.is_empty() {
            self.read = BytesMut::with_capacity(piece);
            self.room = piece;
        } else {
            self.read.reserve(piece);
            self.room = self.read.capacity();
        }
    }

    /// Reads what there is: how many bytes, and none where the peer has closed the connection. Where there is
    /// nothing, no buffer is kept that has nothing in it.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill_body(None, cx)
    }

    /// The same of a body, of which so many bytes are left.
    fn poll_fill_body(
        &mut self,
        left: Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let polled = self.poll_fill_room(left, cx);
        if polled.is_pending() {
            self.settle_down();
        }
        polled
    }

    fn poll_fill_room(
        &mut self,
        left: Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let count = if self.read.is_empty() && self.socket.meter().head_read() == 0 {
            ready!(self.poll_first(cx))?
        } else {
            if self.read.capacity() - self.read.len() < ROOM_MIN {
                // Only then is a buffer needed.
                ready!(self.socket.poll_readable(cx))?;
                self.make_room(left);
            }
            let count = ready!(pin!(self.socket.read_buf(&mut self.read)).poll(cx))?;
            self.was_filled = self.read.len() == self.read.capacity();
            count
        };
        match count {
            0 if self.socket.was_reset() => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            count => Poll::Ready(Ok(count)),
        }
    }

    /// Reads the first bytes of a message.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        FIRST.with_borrow_mut(|first| {
            let mut first = ReadBuf::new(first);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut first))?;
            self.read = BytesMut::from(first.filled());
            self.room = 0;
            self.was_filled = first.remaining() == 0;
            Poll::Ready(Ok(first.filled().len()))
        })
    }
}
