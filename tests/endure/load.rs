//! Clients that send one request after the other over kept connections, at a pace, and count what
//! they get.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orchestrator_tests::wire::Wire;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

/// An answer that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of the errors, so many are kept to be shown.
const SHOWN: usize = 5;

/// One client's connection, made anew when it was closed.
#[derive(Debug)]
pub(crate) struct Caller {
    gateway: SocketAddr,
    wire: Option<Wire>,
}

impl Caller {
    pub(crate) fn new(gateway: SocketAddr) -> Caller {
        Caller { gateway, wire: None }
    }

    /// Sends a request and returns the status and the body of its answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.call_in_pieces([request]).await
    }

    /// The same for a request that is not in one place, since it is large.
    pub(crate) async fn call_in_pieces<'a>(
        &mut self,
        request: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<(u16, Vec<u8>)> {
        let called = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        let called = called.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if called.is_err() {
            self.wire = None;
        }
        called
    }

    async fn exchange<'a>(
        &mut self,
        request: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<(u16, Vec<u8>)> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::new(TcpStream::connect(self.gateway).await?),
        };
        let mut sent = Ok(());
        for piece in request {
            sent = wire.send(piece).await;
            if sent.is_err() {
                break;
            }
        }
        // Who has read enough may have answered before it closed.
        let whole = sent.is_ok();
        let head = match (wire.head().await, sent) {
            (Ok(Some(head)), _) => head,
            (_, Err(error)) | (Err(error), _) => return Err(error),
            (Ok(None), Ok(())) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let mut body = Vec::new();
        let framing = head.response_framing("GET");
        wire.body(framing, |piece| body.extend_from_slice(piece)).await?;
        let closes = head.get("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
        if whole && !closes {
            self.wire = Some(wire);
        }
        Ok((head.status(), body))
    }
}

/// What became of requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// The first of them, in words.
    pub(crate) shown: Vec<String>,
    micros: Vec<u32>,
}

impl Tally {
    /// Counts one, which is an error unless it has this status. True: it was none.
    pub(crate) fn count(
        &mut self,
        wanted: u16,
        began: Instant,
        result: &io::Result<(u16, Vec<u8>)>,
    ) -> bool {
        self.requests += 1;
        self.micros.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        let words = match result {
            Ok((status, _)) if *status == wanted => return true,
            Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(body).trim()),
            Err(error) => error.to_string(),
        };
        self.errors += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(words);
        }
        false
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.shown.extend(other.shown);
        self.shown.truncate(SHOWN);
        self.micros.extend(other.micros);
    }

    /// `p50 0.4 ms, p99 3.1 ms, longest 1021.0 ms`
    pub(crate) fn durations(&mut self) -> String {
        let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| self.ms_at(part));
        format!("p50 {p50:.1} ms, p99 {p99:.1} ms, longest {longest:.1} ms")
    }

    /// What this part of all did not exceed, in milliseconds.
    pub(crate) fn ms_at(&mut self, part: f64) -> f64 {
        self.micros.sort_unstable();
        let index = (self.micros.len() as f64 * part) as usize;
        let micros = self.micros.get(index.min(self.micros.len().saturating_sub(1)));
        f64::from(micros.copied().unwrap_or(0)) / 1000.0
    }

    /// The errors, for a verdict.
    pub(crate) fn said(&self) -> String {
        let shown =
            if self.shown.is_empty() { String::new() } else { format!(": {:?}", self.shown) };
        format!("{} of {}{shown}", self.errors, self.requests)
    }
}

/// The ticks of one of `clients` that together make `per_s` requests a second. Who falls behind
/// catches up.
pub(crate) fn pace(per_s: u32, clients: u32) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) * clients / per_s);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

/// The same for one of them, by its number: they take turns.
pub(crate) fn in_turn(per_s: u32, clients: u32, number: u32) -> tokio::time::Interval {
    let period = Duration::from_secs(1) * clients / per_s;
    let first = tokio::time::Instant::now() + period * number / clients;
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n").into_bytes()
}

pub(crate) fn post(target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
