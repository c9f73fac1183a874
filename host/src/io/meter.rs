//! The counters of one socket: what moved on it, what it waits for, why it was cut. `Socket` writes
//! them; the other end of the `Rc` is the exchange's and the worker's.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

/// What a client's connection is waiting for, and so how long it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the first byte of a request.
    Idle,
    /// For the rest of a request's head.
    Head,
    /// For nothing that `io.rs` limits: an exchange is under way.
    Busy,
    /// For nothing that `io.rs` knows of: another protocol is spoken, in which either side may end
    /// before the other.
    Tunnel,
}

/// Why a connection was ended from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// No request within `keep_alive_timeout`.
    KeepAlive,
    /// A request's head took longer than `header_timeout`.
    Header,
    /// The peer took no byte for `idle_timeout`.
    WriteStall,
    /// The peer reads at less than `body_rate_min`.
    SlowReader,
}

/// The counters of one socket.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(super) read: Cell<u64>,
    pub(super) written: Cell<u64>,
    /// How much of `read` was there before this exchange, or this attempt.
    pub(super) read_before: Cell<u64>,
    pub(super) phase: Cell<Phase>,
    /// When the phase began; none while nobody had to know: most heads come in one piece.
    pub(super) since: Cell<Option<Instant>>,
    pub(super) cut: Cell<Option<Cut>>,
    /// The service has asked for the body: the client is to be told.
    pub(super) owes_continue: Cell<bool>,
    /// The peer may still be sending what nobody will read.
    pub(super) unread: Cell<bool>,
    /// The kernel takes no more bytes for the peer.
    pub(super) congested: Cell<bool>,
    /// The connection is to end by a reset.
    pub(super) breaks_off: Cell<bool>,
}

impl Meter {
    pub(super) fn new(phase: Phase) -> Rc<Meter> {
        Rc::new(Meter {
            read: Cell::new(0),
            written: Cell::new(0),
            read_before: Cell::new(0),
            phase: Cell::new(phase),
            since: Cell::new(None),
            cut: Cell::new(None),
            owes_continue: Cell::new(false),
            unread: Cell::new(false),
            congested: Cell::new(false),
            breaks_off: Cell::new(false),
        })
    }

    /// Has the connection end by a reset: to this peer a plain end would mean that it has everything.
    pub(crate) fn break_off(&self) {
        self.breaks_off.set(true);
    }

    /// Bytes received since the connection began.
    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes received since the last exchange ended: all that there is of the next request's head,
    /// but for what was sent ahead of its time.
    pub(crate) fn head_read(&self) -> u64 {
        self.read.get() - self.read_before.get()
    }

    /// A service's connection carries another request.
    pub(crate) fn attempt_begins(&self) {
        self.read_before.set(self.read.get());
    }

    /// Whether bytes for the peer are waiting for it to read.
    pub(crate) fn congested(&self) -> bool {
        self.congested.get()
    }

    /// Bytes written since the connection began.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Why this side ended the connection, if it did.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// Some of a request's head has come, perhaps behind the request before.
    pub(crate) fn head_begins(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.since.set(None);
        }
    }

    /// A request's head has arrived whole.
    pub(crate) fn exchange_begins(&self) {
        self.phase.set(Phase::Busy);
        self.unread.set(false);
    }

    /// HTTP has ended on this connection, and the connection goes on.
    pub(crate) fn tunnel_begins(&self) {
        self.phase.set(Phase::Tunnel);
    }

    /// The response is out: the connection waits for the next request. `unread`: some of this one was
    /// not read.
    pub(crate) fn exchange_ends(&self, now: Instant, unread: bool) {
        self.phase.set(Phase::Idle);
        self.since.set(Some(now));
        self.read_before.set(self.read.get());
        self.unread.set(unread);
        self.owes_continue.set(false);
    }

    /// The connection ends, and what still comes is not read.
    pub(crate) fn leaves_unread(&self) {
        self.unread.set(true);
    }

    /// What nobody wanted of the last request has been read: what comes now is the next one.
    pub(crate) fn all_is_read(&self) {
        self.unread.set(false);
    }

    /// The service has granted a `100 Continue`. It goes out when the client is next looked at.
    pub(crate) fn owe_continue(&self) {
        self.owes_continue.set(true);
    }
}
