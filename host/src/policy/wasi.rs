//! WASI 0.2 with nothing behind it: standard-library guests import it, so it has to be there.
//!
//! No files, environment, arguments or network. Clocks and randomness restart in each call from
//! what was recorded, so that a decision can be replayed. Waiting traps: a guest that waits would
//! really wait, whatever its clock says. What a guest prints goes to the log, under its name.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::Result;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::bindings::Host;

/// The most random bytes that one call may ask for: the host cannot be interrupted meanwhile.
const RANDOM_BYTES_MAX: u64 = 4 << 10;

/// The most bytes that one write may have: the host cannot be interrupted while it looks for lines in them.
const WRITE_BYTES_MAX: usize = 4 << 10;

/// The longest line that is kept.
const LINE_BYTES_MAX: usize = 1 << 10;

/// The version of WASI 0.2 that wasmtime defines; its functions are replaced under this name.
const POLL: &str = "wasi:io/poll@0.2.12";

/// What clocks and randomness begin with in a call; written before it.
#[derive(Debug, Default)]
pub(super) struct CallSeed {
    pub(super) now_ms: AtomicU64,
    pub(super) random: AtomicU64,
}

/// Adds WASI 0.2, with waiting replaced by a trap.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance(POLL)?;
    type Waitable = Resource<wasmtime_wasi::p2::DynPollable>;
    poll.func_wrap("poll", |_, _: (Vec<Waitable>,)| -> Result<(Vec<u32>,)> { Err(waiting()) })?;
    poll.func_wrap("[method]pollable.block", |_, _: (Waitable,)| -> Result<()> { Err(waiting()) })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn waiting() -> wasmtime::Error {
    wasmtime::format_err!("a policy may not wait or sleep")
}

/// The context of one instance of the policy `name`.
pub(super) fn context(
    name: &'static str,
    seed: &Arc<CallSeed>,
    version_seed: u128,
    output: &Arc<Mutex<OutputLimit>>,
) -> WasiCtx {
    let log = || Log { policy: name, limit: output.clone() };
    WasiCtxBuilder::new()
        .stdout(log())
        .stderr(log())
        .secure_random(Stream(seed.clone()))
        .insecure_random(Stream(seed.clone()))
        .insecure_random_seed(version_seed)
        .max_random_size(RANDOM_BYTES_MAX)
        .wall_clock(Recorded(seed.clone()))
        .monotonic_clock(Recorded(seed.clone()))
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

/// SplitMix64: one multiplication-free step of state, a finaliser for the output.
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Stream(Arc<CallSeed>);

impl rand::TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        // Only the instance's own call is running, so load and store need not be one step.
        let mut state = self.0.random.load(Ordering::Relaxed);
        let number = split_mix(&mut state);
        self.0.random.store(state, Ordering::Relaxed);
        Ok(number)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

/// A clock that stands at the request's arrival.
struct Recorded(Arc<CallSeed>);

impl Recorded {
    fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }
}

impl HostWallClock for Recorded {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }
}

impl HostMonotonicClock for Recorded {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        self.now_ms().saturating_mul(1_000_000)
    }
}

/// How much the instances of one version have printed on a worker: it outlives them, since a guest that
/// panics prints and costs its instance.
#[derive(Debug)]
pub(super) struct OutputLimit {
    lines_per_s_max: u32,
    second: Instant,
    printed: u32,
    dropped: u32,
    /// Of all versions of the policy and all workers.
    all_dropped: Arc<AtomicU64>,
}

impl OutputLimit {
    pub(super) fn new(lines_per_s_max: u32, all_dropped: Arc<AtomicU64>) -> OutputLimit {
        OutputLimit { lines_per_s_max, second: Instant::now(), printed: 0, dropped: 0, all_dropped }
    }

    /// Whether one more line may be printed now.
    fn admits(&mut self, policy: &str) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.dropped > 0 {
                tracing::warn!(policy, lines = self.dropped, "policy output dropped");
            }
            *self = OutputLimit::new(self.lines_per_s_max, self.all_dropped.clone());
        }
        let admits = self.printed < self.lines_per_s_max;
        self.printed += u32::from(admits);
        if !admits {
            self.dropped = self.dropped.saturating_add(1);
            self.all_dropped.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }
}

/// Standard output or error of a guest, line by line into the log.
struct Log {
    policy: &'static str,
    limit: Arc<Mutex<OutputLimit>>,
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines { policy: self.policy, limit: self.limit.clone(), line: Vec::new() })
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, and it is not offered.
        Box::new(tokio::io::sink())
    }
}

struct Lines {
    policy: &'static str,
    limit: Arc<Mutex<OutputLimit>>,
    line: Vec<u8>,
}

impl Lines {
    fn print(&mut self) {
        let admitted =
            self.limit.lock().expect("nobody panics while holding it").admits(self.policy);
        if admitted {
            // Debug form: a guest must not be able to write to the terminal or forge a line.
            let text = String::from_utf8_lossy(&self.line);
            tracing::info!(policy = self.policy, output = ?text, "policy output");
        }
        self.line.clear();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("it wrote more than `check-write` permits"));
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < part.len() {
                self.print();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
