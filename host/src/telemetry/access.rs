//! Where do the lines of the access log go? From each worker through a ring of its own to one
//! thread that writes them out.
//!
//! A worker never waits for the log: where the reader of it is too slow, lines are dropped, whole,
//! and counted. What is in a line stands in `access/line.rs`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use rtrb::{Consumer, RingBuffer};

use crate::config;

mod line;
#[cfg(test)]
mod tests;

pub(crate) use line::{Line, Outcome, TRIED_MAX, Tried};

/// What one worker may be ahead of the writer: about three thousand lines.
const RING_BYTES: usize = 1 << 20;

/// How often the writer looks while lines flow.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The writer rests after so many looks that found nothing: one second.
const REST_AFTER_POLLS: u32 = 50;

/// A disk that is full is tried again after so long.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long [`AccessLog::close`] waits for whoever reads the log.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct AccessLog {
    dropped: Arc<AtomicU64>,
    /// None: the log is off.
    writer: Option<Running>,
}

#[derive(Debug)]
struct Running {
    signals: Arc<Signals>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the log and starts its thread. One producer for each worker.
    ///
    /// Errors where the file cannot be opened.
    pub(crate) fn start(
        to: &config::AccessLog,
        workers: usize,
    ) -> io::Result<(AccessLog, Vec<Producer>)> {
        let out = match to {
            config::AccessLog::Off => {
                let log = AccessLog { dropped: Arc::default(), writer: None };
                let producers = (0..workers).map(|_| Producer { to: None });
                return Ok((log, producers.collect()));
            }
            // A descriptor of its own: `io::stdout` would buffer, and lock others out.
            config::AccessLog::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            config::AccessLog::File(path) => {
                // To open a FIFO for writing alone waits until somebody reads it.
                let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
                File::options().create(true).append(true).read(is_fifo).open(path)?
            }
        };
        AccessLog::start_with(out, workers, RING_BYTES)
    }

    fn start_with(
        out: impl Write + Send + 'static,
        workers: usize,
        ring_bytes: usize,
    ) -> io::Result<(AccessLog, Vec<Producer>)> {
        let (inputs, rings): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| RingBuffer::new(ring_bytes)).unzip();
        let signals = Arc::new(Signals::default());
        let dropped = Arc::new(AtomicU64::new(0));
        let (sender, ended) = sync_channel(0);
        let writer = Writer { out, rings, turn: 0, failing: false, signals: signals.clone() };
        let thread =
            thread::Builder::new().name("access-log".into()).spawn(move || writer.run(sender))?;
        let producers = inputs.into_iter().map(|ring| Producer {
            to: Some(Input {
                ring,
                format: line::Format::default(),
                dropped: dropped.clone(),
                signals: signals.clone(),
                writer: thread.thread().clone(),
            }),
        });
        let producers = producers.collect();
        Ok((AccessLog { dropped, writer: Some(Running { signals, thread, ended }) }, producers))
    }

    /// How many lines found no room, shared with whoever shows it.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// Writes out what the workers, which have ended, have left. Gives up after
    /// [`CLOSE_PATIENCE`]: a pipe that nobody reads must not keep the process.
    pub(crate) fn close(self) {
        let Some(Running { signals, thread, ended }) = self.writer else { return };
        signals.closing.store(true, Ordering::Release);
        thread.thread().unpark();
        match ended.recv_timeout(CLOSE_PATIENCE) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the access log is not read: its last lines are lost");
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    tracing::error!("the access log's thread panicked: its last lines are lost");
                }
            }
        }
    }
}

/// A worker's end of the log.
#[derive(Debug)]
pub(crate) struct Producer {
    /// None: the log is off.
    to: Option<Input>,
}

#[derive(Debug)]
struct Input {
    ring: rtrb::Producer<u8>,
    format: line::Format,
    dropped: Arc<AtomicU64>,
    signals: Arc<Signals>,
    writer: Thread,
}

impl Producer {
    /// Hands the line over, whole or, where there is no room, not at all.
    pub(crate) fn write(&mut self, line: &Line<'_>) {
        let Some(to) = &mut self.to else { return };
        if to.ring.push_entire_slice(to.format.line(line)).is_err() {
            to.dropped.fetch_add(1, Ordering::Relaxed);
        }
        to.signals.wake(&to.writer);
    }
}

/// How producers and [`AccessLog::close`] reach the writer's thread.
#[derive(Debug, Default)]
struct Signals {
    /// The writer is parked, or about to be, until somebody clears this.
    resting: AtomicBool,
    closing: AtomicBool,
}

impl Signals {
    /// After a line was pushed. The fence stands between the push and the look at `resting`, as the
    /// one in [`Writer::rest`] stands between setting it and the look at the rings: one of the two
    /// sees the other.
    fn wake(&self, writer: &Thread) {
        fence(Ordering::SeqCst);
        // Read first: a worker that always wrote would take the cache line from the others.
        if self.resting.load(Ordering::Relaxed) && self.resting.swap(false, Ordering::AcqRel) {
            writer.unpark();
        }
    }
}

struct Writer<W> {
    out: W,
    rings: Vec<Consumer<u8>>,
    /// The ring to go on with: a line that was written in part is finished before any other.
    turn: usize,
    /// The last write failed, and the log of the gateway says so.
    failing: bool,
    signals: Arc<Signals>,
}

impl<W: Write> Writer<W> {
    /// Runs until the log is closed. Dropping `_ended` tells that it has.
    fn run(mut self, _ended: SyncSender<()>) {
        let mut idle_polls = 0;
        loop {
            // Before the rings: what was pushed before `close` is written.
            let closing = self.signals.closing.load(Ordering::Acquire);
            match self.drain() {
                Ok(wrote) => {
                    if closing {
                        return;
                    }
                    if wrote {
                        self.recovered();
                    }
                    idle_polls = if wrote { 0 } else { idle_polls + 1 };
                    if idle_polls < REST_AFTER_POLLS {
                        thread::park_timeout(POLL_INTERVAL);
                    } else {
                        self.rest();
                        idle_polls = 0;
                    }
                }
                // A pipe that somebody made non-blocking: like one that blocks.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(POLL_INTERVAL);
                }
                Err(error) => {
                    self.failed(&error);
                    if closing {
                        return;
                    }
                    // Nothing is lost yet: the lines wait in their rings.
                    thread::park_timeout(RETRY_INTERVAL);
                }
            }
        }
    }

    /// Writes out what is in the rings now. What cannot be written stays there.
    fn drain(&mut self) -> io::Result<bool> {
        let mut wrote = false;
        for _ in 0..self.rings.len() {
            let ring = &mut self.rings[self.turn];
            // Lines are pushed whole, so that this many bytes end with a line.
            let mut left = ring.slots();
            while left > 0 {
                let chunk = ring.read_chunk(left).expect("so many slots were there");
                let (first, second) = chunk.as_slices();
                let count =
                    match self.out.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                        Ok(0) => return Err(ErrorKind::WriteZero.into()),
                        Ok(count) => count,
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(error) => return Err(error),
                    };
                chunk.commit(count);
                left -= count;
                wrote = true;
            }
            self.turn = (self.turn + 1) % self.rings.len();
        }
        Ok(wrote)
    }

    fn rest(&self) {
        self.signals.resting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.rings.iter().all(Consumer::is_empty) {
            while self.signals.resting.load(Ordering::Acquire)
                && !self.signals.closing.load(Ordering::Acquire)
            {
                thread::park();
            }
        }
        self.signals.resting.store(false, Ordering::Relaxed);
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.failing {
            tracing::error!(%error, "the access log cannot be written: its lines wait for room");
        }
        self.failing = true;
    }

    fn recovered(&mut self) {
        if self.failing {
            tracing::info!("the access log is written again");
        }
        self.failing = false;
    }
}
