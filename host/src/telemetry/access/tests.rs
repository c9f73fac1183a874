use super::*;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

fn line() -> Line<'static> {
    Line {
        arrived: SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_042),
        request_id: "id-1",
        client: "2001:db8::7".parse().unwrap(),
        method: "GET",
        path: "/api/writer/a",
        query: Some("b=%20"),
        status: 200,
        bytes_in: 0,
        bytes_out: 17,
        duration: Duration::from_nanos(1_234_999),
        service: Some("writer"),
        endpoint: Some("http://localhost:8000"),
        route: None,
        attempts: 1,
        decision: Some(Duration::from_nanos(650)),
        why: "done",
    }
}

fn formatted(line: &Line<'_>) -> Value {
    let mut out = Vec::new();
    format(&mut out, &mut Clock::default(), line);
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    serde_json::from_slice(&out).expect("a line is JSON")
}

/// A file in memory.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        bytes
            .split_inclusive(|&byte| byte == b'\n')
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect()
    }
}

#[test]
fn a_line_has_everything_in_its_order() {
    let expected = json!({
        "time": "2026-01-01T00:00:00.042Z",
        "request_id": "id-1",
        "client": "2001:db8::7",
        "method": "GET",
        "path": "/api/writer/a",
        "query": "b=%20",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": 17,
        "duration_ms": 1.234,
        "service": "writer",
        "endpoint": "http://localhost:8000",
        "route": null,
        "attempts": 1,
        "decision_us": 0.65,
        "why": "done",
    });
    assert_eq!(formatted(&line()).to_string(), expected.to_string());
}

#[test]
fn what_a_client_chose_is_escaped_and_cut() {
    let path = "/\"\\\n\u{1}\u{2028}é";
    assert_eq!(formatted(&Line { path, ..line() })["path"], path);

    let long = "é\u{1}".repeat(TEXT_BYTES_MAX);
    let cut = formatted(&Line { path: &long, query: Some(&long), request_id: &long, ..line() });
    for field in ["path", "query", "request_id"] {
        let cut = cut[field].as_str().unwrap();
        assert!(long.starts_with(cut.strip_suffix('…').unwrap()));
        assert!((TEXT_BYTES_MAX - 3..=TEXT_BYTES_MAX + 3).contains(&cut.len()));
    }
}

#[test]
fn the_longest_line_fits_into_a_ring() {
    let longest = "\u{1}".repeat(2 * TEXT_BYTES_MAX);
    let fields = Line { request_id: &longest, method: &longest, path: &longest, ..line() };
    let fields = Line { query: Some(&longest), route: Some(&longest), ..fields };
    let mut out = Vec::new();
    format(&mut out, &mut Clock::default(), &fields);
    assert!(out.len() < RING_BYTES / 4);
}

#[test]
fn times_are_right_across_seconds_and_at_the_ends_of_time() {
    let mut clock = Clock::default();
    let mut check = |millis: u64, expected: &str| {
        let mut out = Vec::new();
        clock.write(&mut out, SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(0, "1970-01-01T00:00:00.000Z");
    check(999, "1970-01-01T00:00:00.999Z");
    check(1_000, "1970-01-01T00:00:01.000Z");
    check(951_782_400_000, "2000-02-29T00:00:00.000Z");
    check(1_767_225_599_120, "2025-12-31T23:59:59.120Z");
    check(400_000_000_000_000, "9999-12-31T23:59:59.000Z");
    let mut out = Vec::new();
    clock.write(&mut out, SystemTime::UNIX_EPOCH - Duration::from_secs(1));
    assert_eq!(out, b"1970-01-01T00:00:00.000Z");
}

#[test]
fn what_the_workers_handed_over_is_written_by_close() {
    let out = Memory::default();
    let (log, mut producers) = AccessLog::write_to(out.clone(), 2, RING_BYTES).unwrap();
    for attempts in 0..100 {
        for producer in &mut producers {
            producer.write(&Line { attempts, ..line() });
        }
    }
    let dropped = log.dropped();
    assert!(log.close());
    assert_eq!(out.lines().len(), 200);
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn the_first_line_after_a_rest_wakes_the_thread() {
    let out = Memory::default();
    let (log, mut producers) = AccessLog::write_to(out.clone(), 1, RING_BYTES).unwrap();
    let until = |what: &str, reached: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !reached() {
            assert!(Instant::now() < deadline, "{what}");
            thread::park_timeout(Duration::from_millis(1));
        }
    };
    for lines in 1..=2 {
        until("it rests", &|| log.shared.resting.load(Ordering::Relaxed));
        producers[0].write(&line());
        until("it wrote", &|| out.lines().len() == lines);
    }
    assert!(log.close());
}

#[test]
fn a_reader_that_does_not_read_costs_whole_lines_and_no_waiting() {
    let (reader, out) = UnixStream::pair().unwrap();
    let (log, mut producers) = AccessLog::write_to(out, 1, 4 << 10).unwrap();
    let dropped = log.dropped();
    let mut written = 0;
    // More than the socket and the ring can hold together.
    while dropped.load(Ordering::Relaxed) < 1_000 {
        producers[0].write(&line());
        written += 1;
    }
    let lines = thread::spawn(move || -> u64 {
        let mut lines = 0;
        for line in io::BufRead::lines(io::BufReader::new(reader)) {
            serde_json::from_str::<Value>(&line.unwrap()).expect("a whole line");
            lines += 1;
        }
        lines
    });
    assert!(log.close());
    assert_eq!(lines.join().unwrap() + dropped.load(Ordering::Relaxed), written);
}

#[test]
fn close_does_not_wait_for_ever() {
    let (reader, out) = UnixStream::pair().unwrap();
    let (log, mut producers) = AccessLog::write_to(out, 1, RING_BYTES).unwrap();
    let dropped = log.dropped();
    while dropped.load(Ordering::Relaxed) == 0 {
        producers[0].write(&line());
    }
    assert!(!log.close());
    drop(reader);
}

#[test]
fn a_reader_that_is_gone_is_counted() {
    let (reader, out) = UnixStream::pair().unwrap();
    drop(reader);
    let (log, mut producers) = AccessLog::write_to(out, 1, RING_BYTES).unwrap();
    let dropped = log.dropped();
    for _ in 0..3 {
        producers[0].write(&line());
    }
    assert!(log.close());
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
}

#[test]
fn a_log_that_is_off_writes_nothing_and_one_that_cannot_be_opened_says_so() {
    let (log, mut producers) = AccessLog::start(&config::AccessLog::Off, 2).unwrap();
    assert_eq!(producers.len(), 2);
    producers[0].write(&line());
    assert!(log.close());

    let nowhere = config::AccessLog::File("/nonexistent/access.log".into());
    let error = AccessLog::start(&nowhere, 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/nonexistent/access.log"));
}
