//! The access log: one JSON line per request, and no worker ever waits for it.
//!
//! Each worker formats its lines into a ring of its own; one thread empties the rings into stdout or
//! a file. A line for which the ring has no room is dropped and counted, whole: a reader that is
//! slow, or gone, costs lines and no requests.
//!
//! The thread looks every 20 ms while lines flow, and rests after a second without any; the first
//! line after a rest wakes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use rtrb::RingBuffer;
use serde::{Serialize, Serializer};

use crate::config;

#[cfg(test)]
mod tests;

/// Lines of one worker that wait to be written.
const RING_BYTES: usize = 1 << 20;

/// Of each text that a client chose; what is longer ends in `…`. Escaping makes it six times as
/// long at the most, so that a line always fits into an empty ring.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Between two looks at the rings.
const POLL: Duration = Duration::from_millis(20);

/// Without a line for so long, the thread rests.
const REST_AFTER: Duration = Duration::from_secs(1);

/// How long [`AccessLog::close`] waits for a reader that does not read.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// One request, in the words of the log.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// Written first, by [`Producer::write`]: RFC 3339 in UTC, with milliseconds.
    #[serde(skip)]
    pub arrived: SystemTime,
    #[serde(serialize_with = "text")]
    pub request_id: &'a str,
    pub client: IpAddr,
    #[serde(serialize_with = "text")]
    pub method: &'a str,
    #[serde(serialize_with = "text")]
    pub path: &'a str,
    #[serde(serialize_with = "optional_text")]
    pub query: Option<&'a str>,
    pub status: u16,
    /// Of the request's body.
    pub bytes_in: u64,
    /// Of the response's body.
    pub bytes_out: u64,
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    pub service: Option<&'a str>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<&'a str>,
    /// What the policy called the rule that decided.
    #[serde(serialize_with = "optional_text")]
    pub route: Option<&'a str>,
    pub attempts: u32,
    #[serde(rename = "decision_us", serialize_with = "optional_micros")]
    pub decision: Option<Duration>,
    /// How it ended: `done`, or what came between.
    pub why: &'static str,
}

/// The log's thread. Dropped without [`close`](Self::close), it still writes what there is, but
/// nobody waits for it.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    /// None where the log is off.
    writer: Option<(Thread, Receiver<()>)>,
}

/// A worker's end of the log.
#[derive(Debug)]
pub struct Producer {
    /// None where the log is off.
    ring: Option<(rtrb::Producer<u8>, Thread)>,
    shared: Arc<Shared>,
    /// Reused from line to line.
    line: Vec<u8>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Shared {
    /// The thread rests, or is about to: the next line has to wake it.
    resting: AtomicBool,
    closing: AtomicBool,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the log and starts its thread; a producer for each worker.
    pub fn start(config: &config::AccessLog, workers: usize) -> io::Result<(Self, Vec<Producer>)> {
        let out = match config {
            config::AccessLog::Off => return Ok(Self::off(workers)),
            // A descriptor of its own: no lock is shared with whoever else prints.
            config::AccessLog::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            config::AccessLog::File(path) => {
                OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })?
            }
        };
        Self::write_to(out, workers, RING_BYTES)
    }

    /// Lines that were not written: a ring was full, or writing failed.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.shared.dropped.clone()
    }

    /// Writes what the producers have handed over, and ends the thread. Waits two seconds at the
    /// most, for a reader may have stopped reading. `false`: it did not end in that time.
    pub fn close(mut self) -> bool {
        let Some((thread, ended)) = self.writer.take() else { return true };
        self.shared.closing.store(true, Ordering::SeqCst);
        thread.unpark();
        // Nothing is ever sent: the thread ends by dropping its side.
        ended.recv_timeout(CLOSE_TIME_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }

    fn off(workers: usize) -> (Self, Vec<Producer>) {
        let shared = Arc::new(Shared::default());
        let producers = (0..workers).map(|_| Producer::new(None, shared.clone())).collect();
        (Self { shared, writer: None }, producers)
    }

    fn write_to(
        out: impl Write + Send + 'static,
        workers: usize,
        ring_bytes: usize,
    ) -> io::Result<(Self, Vec<Producer>)> {
        let shared = Arc::new(Shared::default());
        let (producers, consumers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| RingBuffer::new(ring_bytes)).unzip();
        let (alive, ended) = sync_channel(1);
        let writer =
            Writer { out, rings: consumers, shared: shared.clone(), failed: false, _alive: alive };
        let thread = thread::Builder::new().name("access-log".into()).spawn(|| writer.run())?;
        let thread = thread.thread().clone();
        let producers = producers.into_iter();
        let producers = producers
            .map(|ring| Producer::new(Some((ring, thread.clone())), shared.clone()))
            .collect();
        Ok((Self { shared, writer: Some((thread, ended)) }, producers))
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if let Some((thread, _)) = &self.writer {
            self.shared.closing.store(true, Ordering::SeqCst);
            thread.unpark();
        }
    }
}

impl Producer {
    fn new(ring: Option<(rtrb::Producer<u8>, Thread)>, shared: Arc<Shared>) -> Self {
        Self { ring, shared, line: Vec::with_capacity(1 << 10), clock: Clock::default() }
    }

    /// Hands a line over; never waits.
    pub fn write(&mut self, line: &Line<'_>) {
        let Some((ring, thread)) = &mut self.ring else { return };
        self.line.clear();
        format(&mut self.line, &mut self.clock, line);
        if ring.push_entire_slice(&self.line).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The thread says that it rests and then looks at the rings; here it is the other way
        // round. Between the two fences one of them sees the other.
        fence(Ordering::SeqCst);
        if self.shared.resting.load(Ordering::Relaxed)
            && self.shared.resting.swap(false, Ordering::Relaxed)
        {
            thread.unpark();
        }
    }
}

/// The thread's own state.
struct Writer<W> {
    out: W,
    rings: Vec<rtrb::Consumer<u8>>,
    shared: Arc<Shared>,
    /// The last attempt to write failed: said in the log once, not for each line.
    failed: bool,
    _alive: SyncSender<()>,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut last_line = Instant::now();
        loop {
            // Read before the rings are: what was handed over before `close` is written.
            let closing = self.shared.closing.load(Ordering::SeqCst);
            if self.drain() {
                last_line = Instant::now();
            }
            if closing {
                return;
            }
            if last_line.elapsed() < REST_AFTER {
                thread::park_timeout(POLL);
            } else {
                self.rest();
            }
        }
    }

    /// Parks until the next line or `close`. It may also return for nothing.
    fn rest(&self) {
        self.shared.resting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let nothing_came = self.rings.iter().all(rtrb::Consumer::is_empty);
        // `close` unparks after it has set its flag: a park that comes later returns at once.
        if nothing_came && !self.shared.closing.load(Ordering::SeqCst) {
            thread::park();
        }
        self.shared.resting.store(false, Ordering::Relaxed);
    }

    /// Writes all that is there. Rings hold whole lines only, so that lines of two workers never
    /// mix. `false`: there was nothing.
    fn drain(&mut self) -> bool {
        let mut any = false;
        for ring in &mut self.rings {
            let chunk = ring.read_chunk(ring.slots()).expect("as many as there are");
            let (first, second) = chunk.as_slices();
            if first.is_empty() {
                continue;
            }
            any = true;
            let written = self.out.write_all(first).and_then(|()| self.out.write_all(second));
            let written = written.and_then(|()| self.out.flush());
            if let Err(error) = &written {
                let ends = first.iter().chain(second).filter(|&&byte| byte == b'\n').count();
                self.shared.dropped.fetch_add(ends as u64, Ordering::Relaxed);
                if !self.failed {
                    tracing::error!(%error, "cannot write the access log; its lines are dropped");
                }
            }
            self.failed = written.is_err();
            chunk.commit_all();
        }
        any
    }
}

/// Appends the line, with its end.
fn format(out: &mut Vec<u8>, clock: &mut Clock, line: &Line<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.write(out, line.arrived);
    out.push(b'"');
    let fields = out.len();
    // Neither memory nor a value of `Line` can make this fail; if it did, the line would end here.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        // The time stands before the other fields: their opening brace becomes a comma.
        out[fields] = b',';
    } else {
        out.truncate(fields);
        out.push(b'}');
    }
    out.push(b'\n');
}

/// Formats times; the text up to the second is kept until the second changes.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    /// `2026-01-31T12:00:00`; empty before the first use.
    text: Vec<u8>,
}

impl Clock {
    fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        /// 9999-12-31T23:59:59, the last that RFC 3339 can write.
        const SECOND_MAX: u64 = 253_402_300_799;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(SECOND_MAX);
        if second != self.second || self.text.is_empty() {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            self.text.clear();
            write!(self.text, "{}", humantime::format_rfc3339_seconds(time))
                .expect("a time that RFC 3339 can write, into memory");
            self.text.pop(); // The `Z`, which the milliseconds stand before.
            self.second = second;
        }
        let millis = since.subsec_millis();
        let digit = |place: u32| b'0' + (millis / place % 10) as u8;
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
    }
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.len() <= TEXT_BYTES_MAX {
        return serializer.serialize_str(text);
    }
    let cut = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    serializer.collect_str(&format_args!("{cut}…"))
}

fn optional_text<S: Serializer>(value: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => text(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// Milliseconds, to the microsecond.
fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e3)
}

/// Microseconds, to the nanosecond: a decision takes less than one.
fn optional_micros<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_f64(duration.as_nanos() as f64 / 1e3),
        None => serializer.serialize_none(),
    }
}
