//! What is in a line of the access log: one JSON object, its keys always the same and in one order.
//!
//! This runs for every request and allocates nothing once its buffer has grown.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, where RFC 3339 ends.
const SECOND_MAX: u64 = 253_402_300_799;

/// The length of `2026-01-31T12:00:00`.
const STAMP_BYTES: usize = 19;

/// Attempts that a line shows one by one; `attempts` counts the rest too.
pub(crate) const TRIED_MAX: usize = 10;

/// What is longer than so many bytes is cut off, with `…` in its place: what a client sends must not
/// make the log's lines as long as a head may be.
const TEXT_BYTES_MAX: usize = 1024;

/// For what has no reason to be long: a method, an id.
const WORD_BYTES_MAX: usize = 128;

/// What the log says about one request. Its line, escapes and all, has less than 20 KiB.
#[derive(Debug, Clone)]
pub(crate) struct Line<'a> {
    /// `time`, RFC 3339 in UTC with milliseconds.
    pub(crate) arrived: SystemTime,
    pub(crate) request_id: &'a str,
    /// The client's IP address.
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub(crate) protocol: &'static str,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// `duration_ms`, with microseconds behind the point.
    pub(crate) duration: Duration,
    /// `head_ms`: from the request's arrival to the head of the response that was passed on.
    pub(crate) head: Option<Duration>,
    /// `upstream_ms`: all attempts together, each until its response's head or its failure.
    pub(crate) upstream: Option<Duration>,
    pub(crate) service: Option<&'a str>,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) attempts: u32,
    /// The first [`TRIED_MAX`] of them, in their order.
    pub(crate) tried: &'a [Tried<'a>],
    /// `decision_us`, with nanoseconds behind the point: what the routing policy took, with the wait for it.
    pub(crate) decision: Option<Duration>,
    /// The policies' versions that decided: those that the request began with, unless one of them failed.
    pub(crate) routing_version: &'a str,
    pub(crate) retry_version: &'a str,
    /// How it ended, in a word.
    pub(crate) why: &'static str,
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) outcome: Outcome,
    /// `ms`: until the response's head, or the failure.
    pub(crate) took: Duration,
    /// `after_ms`: since the attempt before it ended; since the request's arrival for the first.
    pub(crate) after: Duration,
}

/// What came of an attempt: a number or a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(u16),
    Failed(&'static str),
}

impl Default for Tried<'_> {
    fn default() -> Self {
        let none = Duration::ZERO;
        Tried { endpoint: "", outcome: Outcome::Status(0), took: none, after: none }
    }
}

/// Writes lines, each over the last.
#[derive(Debug, Default)]
pub(super) struct Format {
    line: Vec<u8>,
    /// The second that `stamp` shows. Most lines are of the same second as the one before.
    second: u64,
    stamp: Vec<u8>,
}

impl Format {
    /// The bytes of a line, its newline included.
    pub(super) fn line(&mut self, line: &Line<'_>) -> &[u8] {
        let since_epoch = line.arrived.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.stamp_of(since_epoch.as_secs());
        let out = &mut self.line;
        out.clear();
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(&self.stamp);
        put_thousandths(out, since_epoch.subsec_millis());
        out.extend_from_slice(b"Z\",\"request_id\":");
        put_text(out, line.request_id, WORD_BYTES_MAX);
        out.extend_from_slice(b",\"client\":\"");
        out.extend_from_slice(line.client.as_bytes());
        out.extend_from_slice(b"\",\"method\":");
        put_text(out, line.method, WORD_BYTES_MAX);
        out.extend_from_slice(b",\"path\":");
        put_text(out, line.path, TEXT_BYTES_MAX);
        out.extend_from_slice(b",\"query\":");
        put_text_or_null(out, line.query);
        out.extend_from_slice(b",\"protocol\":\"");
        out.extend_from_slice(line.protocol.as_bytes());
        out.extend_from_slice(b"\",\"status\":");
        put_number(out, line.status.into());
        out.extend_from_slice(b",\"bytes_in\":");
        put_number(out, line.bytes_in);
        out.extend_from_slice(b",\"bytes_out\":");
        put_number(out, line.bytes_out);
        out.extend_from_slice(b",\"duration_ms\":");
        put_fraction(out, line.duration.as_micros());
        out.extend_from_slice(b",\"head_ms\":");
        put_fraction_or_null(out, line.head.map(|head| head.as_micros()));
        out.extend_from_slice(b",\"upstream_ms\":");
        put_fraction_or_null(out, line.upstream.map(|upstream| upstream.as_micros()));
        out.extend_from_slice(b",\"service\":");
        put_text_or_null(out, line.service);
        out.extend_from_slice(b",\"endpoint\":");
        put_text_or_null(out, line.endpoint);
        out.extend_from_slice(b",\"route\":");
        put_text_or_null(out, line.route);
        out.extend_from_slice(b",\"attempts\":");
        put_number(out, line.attempts.into());
        out.extend_from_slice(b",\"tried\":[");
        for (index, tried) in line.tried.iter().enumerate() {
            put_tried(out, index, tried);
        }
        out.extend_from_slice(b"],\"decision_us\":");
        put_fraction_or_null(out, line.decision.map(|took| took.as_nanos()));
        out.extend_from_slice(b",\"routing_version\":\"");
        out.extend_from_slice(line.routing_version.as_bytes());
        out.extend_from_slice(b"\",\"retry_version\":\"");
        out.extend_from_slice(line.retry_version.as_bytes());
        out.extend_from_slice(b"\",\"why\":\"");
        out.extend_from_slice(line.why.as_bytes());
        out.extend_from_slice(b"\"}\n");
        out
    }

    fn stamp_of(&mut self, second: u64) {
        if second == self.second && !self.stamp.is_empty() {
            return;
        }
        // `humantime` panics beyond.
        let time = UNIX_EPOCH + Duration::from_secs(second.min(SECOND_MAX));
        self.second = second;
        self.stamp.clear();
        write!(self.stamp, "{}", humantime::format_rfc3339_seconds(time))
            .expect("a vector takes all");
        self.stamp.truncate(STAMP_BYTES);
    }
}

fn put_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text, TEXT_BYTES_MAX),
        None => out.extend_from_slice(b"null"),
    }
}

fn put_fraction_or_null(out: &mut Vec<u8>, thousandths: Option<u128>) {
    match thousandths {
        Some(thousandths) => put_fraction(out, thousandths),
        None => out.extend_from_slice(b"null"),
    }
}

fn put_tried(out: &mut Vec<u8>, index: usize, tried: &Tried<'_>) {
    out.extend_from_slice(if index == 0 { b"{\"endpoint\":" } else { b",{\"endpoint\":" });
    put_text(out, tried.endpoint, TEXT_BYTES_MAX);
    out.extend_from_slice(b",\"outcome\":");
    match tried.outcome {
        Outcome::Status(status) => put_number(out, status.into()),
        Outcome::Failed(word) => put_text(out, word, WORD_BYTES_MAX),
    }
    out.extend_from_slice(b",\"ms\":");
    put_fraction(out, tried.took.as_micros());
    out.extend_from_slice(b",\"after_ms\":");
    put_fraction(out, tried.after.as_micros());
    out.push(b'}');
}

/// A JSON string (RFC 8259 section 7): quotes, backslashes and control characters are escaped.
fn put_text(out: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let kept = match text.len() <= bytes_max {
        true => text,
        false => &text[..text.floor_char_boundary(bytes_max)],
    };
    let bytes = kept.as_bytes();
    out.push(b'"');
    // Without an early end, so that it becomes vector instructions.
    if bytes.iter().fold(false, |found, byte| found | is_escaped(*byte)) {
        put_escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    if kept.len() < text.len() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cold]
fn put_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => write!(out, "\\u{byte:04x}").expect("a vector takes all"),
            _ => out.push(byte),
        }
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    // As many digits as u64::MAX has.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A thousandth of a number, exactly: 1234 is `1.234`.
fn put_fraction(out: &mut Vec<u8>, thousandths: u128) {
    let thousandths = u64::try_from(thousandths).unwrap_or(u64::MAX);
    put_number(out, thousandths / 1000);
    put_thousandths(out, (thousandths % 1000) as u32);
}

/// Three digits behind a point.
fn put_thousandths(out: &mut Vec<u8>, number: u32) {
    let digit = |ten: u32| b'0' + (number / ten % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}
