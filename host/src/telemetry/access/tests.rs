//! Lines are valid, whole and in order; what does not fit is dropped and counted; nothing waits.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const TRIED: [Tried<'static>; 2] = [
    Tried {
        endpoint: "http://localhost:9001",
        outcome: Outcome::Failed("connect_failed"),
        took: Duration::from_micros(50),
        after: Duration::from_micros(12),
    },
    Tried {
        endpoint: "http://localhost:8001",
        outcome: Outcome::Status(200),
        took: Duration::from_micros(900),
        after: Duration::from_micros(40),
    },
];

fn a_line() -> Line<'static> {
    Line {
        arrived: UNIX_EPOCH + Duration::from_millis(1_767_225_600_007),
        request_id: "7f3a",
        client: "192.0.2.7",
        method: "GET",
        path: "/api/enrich",
        query: Some("q=1&r=%20"),
        protocol: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: u64::MAX,
        duration: Duration::from_micros(1234),
        head: Some(Duration::from_micros(1002)),
        upstream: Some(Duration::from_micros(950)),
        service: Some("research"),
        endpoint: Some("http://localhost:8001"),
        route: Some("enrich"),
        attempts: 2,
        tried: &TRIED,
        decision: Some(Duration::from_nanos(652)),
        routing_version: "0123456789ab",
        retry_version: "ba9876543210",
        why: "done",
    }
}

fn text(line: &Line<'_>) -> String {
    String::from_utf8(line::Format::default().line(line).to_vec()).expect("JSON is UTF-8")
}

fn parsed(line: &Line<'_>) -> Value {
    serde_json::from_str(&text(line)).expect("JSON")
}

#[test]
fn a_line_has_these_keys_in_this_order() {
    assert_eq!(
        text(&a_line()),
        concat!(
            r#"{"time":"2026-01-01T00:00:00.007Z","request_id":"7f3a","client":"192.0.2.7","#,
            r#""method":"GET","path":"/api/enrich","query":"q=1&r=%20","protocol":"HTTP/1.1","#,
            r#""status":200,"bytes_in":0,"bytes_out":18446744073709551615,"duration_ms":1.234,"#,
            r#""head_ms":1.002,"upstream_ms":0.950,"#,
            r#""service":"research","endpoint":"http://localhost:8001","route":"enrich","#,
            r#""attempts":2,"tried":[{"endpoint":"http://localhost:9001","outcome":"#,
            r#""connect_failed","ms":0.050,"after_ms":0.012},{"endpoint":"http://localhost:8001","#,
            r#""outcome":200,"ms":0.900,"after_ms":0.040}],"decision_us":0.652,"#,
            r#""routing_version":"0123456789ab","retry_version":"ba9876543210","why":"done"}"#,
            "\n",
        )
    );
}

#[test]
fn what_is_absent_is_null() {
    let line = Line {
        query: None,
        service: None,
        endpoint: None,
        route: None,
        decision: None,
        head: None,
        upstream: None,
        tried: &[],
        client: "::1",
        ..a_line()
    };
    let value = parsed(&line);
    for key in ["query", "head_ms", "upstream_ms", "service", "endpoint", "route", "decision_us"] {
        assert_eq!(value[key], Value::Null, "{key}");
    }
    assert_eq!(value["tried"], json!([]));
    assert_eq!(value["client"], "::1");
}

#[test]
fn hostile_text_stays_within_its_string() {
    for hostile in [
        "\",\"status\":999,\"x\":\"",
        "\n{\"time\":\"forged\"}\n",
        "\\",
        "\\\"",
        "\0\u{1}\u{1f}\u{7f}\t\r\u{8}\u{c}",
        "\u{2028}\u{feff}\u{10ffff} grün",
        "",
    ] {
        let line = Line { path: hostile, query: Some(hostile), request_id: hostile, ..a_line() };
        let text = text(&line);
        assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["path"], hostile);
        assert_eq!(value["query"], hostile);
        assert_eq!(value["request_id"], hostile);
        assert_eq!(value["status"], 200);
    }
}

#[test]
fn what_is_long_is_cut_and_says_so() {
    for (long, start) in [
        ("/".repeat(65_536), 1024),
        ("\0".repeat(65_536), 1024),
        ("x".to_owned() + &"\u{10ffff}".repeat(65_536), 1021),
    ] {
        let name = "\0".repeat(64);
        let url = format!("http://{}", "h".repeat(259));
        let tried = Tried {
            endpoint: &url,
            outcome: Outcome::Failed("connection_lost"),
            took: Duration::MAX,
            after: Duration::MAX,
        };
        let line = Line {
            request_id: &long,
            method: &long,
            path: &long,
            query: Some(&long),
            service: Some(&name),
            endpoint: Some(&url),
            route: Some(&name),
            tried: &[tried; TRIED_MAX],
            ..a_line()
        };
        let text = text(&line);
        assert!(text.len() < 20 << 10, "{} bytes", text.len());
        let value: Value = serde_json::from_str(&text).expect("JSON");
        for key in ["path", "query"] {
            let cut = value[key].as_str().expect("a string").strip_suffix('…').expect("a mark");
            assert_eq!((cut.len(), cut), (start, &long[..start]), "{key}");
        }
        assert!(value["method"].as_str().expect("a string").len() < 140);
    }
    let whole = "/".repeat(1024);
    let line = Line { path: &whole, ..a_line() };
    assert_eq!(parsed(&line)["path"], whole, "what fits stays as it is");
}

#[test]
fn the_time_is_that_of_the_line_and_never_panics() {
    let mut format = line::Format::default();
    let mut time = |arrived: SystemTime| {
        let line = Line { arrived, ..a_line() };
        let value: Value = serde_json::from_slice(format.line(&line)).expect("JSON");
        value["time"].as_str().expect("a string").to_owned()
    };
    assert_eq!(time(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    assert_eq!(time(UNIX_EPOCH + Duration::from_millis(1999)), "1970-01-01T00:00:01.999Z");
    assert_eq!(time(UNIX_EPOCH + Duration::from_millis(1042)), "1970-01-01T00:00:01.042Z");
    assert_eq!(time(UNIX_EPOCH + Duration::from_millis(999)), "1970-01-01T00:00:00.999Z");
    assert_eq!(time(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00.000Z");
    let late = UNIX_EPOCH + Duration::from_secs(400_000_000_000);
    assert_eq!(time(late), "9999-12-31T23:59:59.000Z");
}

proptest! {
    #[test]
    fn any_line_parses_back(
        texts in prop::collection::vec(any::<String>(), 4),
        some in prop::collection::vec(prop::option::of(any::<String>()), 4),
        numbers in any::<(u16, u64, u64, u32)>(),
        times in any::<(u32, u64, u32)>(),
        decision in prop::option::of(any::<u32>()),
        client in any::<IpAddr>(),
    ) {
        let (status, bytes_in, bytes_out, attempts) = numbers;
        let (arrived_s, arrived_ms, micros) = times;
        let arrived_ms = u64::from(arrived_s) * 1000 + arrived_ms % 1000;
        let arrived = Duration::from_millis(arrived_ms);
        let line = Line {
            arrived: UNIX_EPOCH + arrived,
            request_id: &texts[0],
            client: &client.to_string(),
            method: &texts[1],
            path: &texts[2],
            query: some[0].as_deref(),
            protocol: "HTTP/1.0",
            status,
            bytes_in,
            bytes_out,
            duration: Duration::from_micros(micros.into()),
            head: decision.map(|micros| Duration::from_micros(micros.into())),
            upstream: Some(Duration::from_micros(micros.into())),
            service: some[1].as_deref(),
            endpoint: some[2].as_deref(),
            route: some[3].as_deref(),
            attempts,
            tried: &[],
            decision: decision.map(|nanos| Duration::from_nanos(nanos.into())),
            routing_version: "a",
            retry_version: "b",
            why: "done",
        };
        let time = humantime::format_rfc3339_millis(line.arrived).to_string();
        let expected = json!({
            "time": time,
            "request_id": texts[0],
            "client": client.to_string(),
            "method": texts[1],
            "path": texts[2],
            "query": some[0],
            "protocol": "HTTP/1.0",
            "status": status,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "duration_ms": f64::from(micros) / 1000.0,
            "head_ms": decision.map(|micros| f64::from(micros) / 1000.0),
            "upstream_ms": f64::from(micros) / 1000.0,
            "service": some[1],
            "endpoint": some[2],
            "route": some[3],
            "attempts": attempts,
            "tried": [],
            "decision_us": decision.map(|nanos| f64::from(nanos) / 1000.0),
            "routing_version": "a",
            "retry_version": "b",
            "why": "done",
        });
        let text = text(&line);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), expected);
    }
}

/// A place to write to that the test can stop, fail and read.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    written: Vec<u8>,
    /// Takes so many bytes more, then fails with the error.
    fails_after: Option<(usize, ErrorKind)>,
}

impl Sink {
    fn set(&self, fails_after: Option<(usize, ErrorKind)>) {
        self.0.lock().expect("no test panics here").fails_after = fails_after;
    }

    /// Waits until everything that is there satisfies `done`.
    fn until(&self, done: impl Fn(&str) -> bool) {
        until(|| {
            let state = self.0.lock().expect("no test panics here");
            done(std::str::from_utf8(&state.written).expect("JSON is UTF-8"))
        });
    }

    /// The paths of the lines, every one of which is whole.
    fn paths(&self) -> Vec<String> {
        let state = self.0.lock().expect("no test panics here");
        let text = std::str::from_utf8(&state.written).expect("JSON is UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'));
        let path = |line| {
            let value: Value = serde_json::from_str(line).expect("a whole line");
            value["path"].as_str().expect("a string").to_owned()
        };
        text.lines().map(path).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().expect("no test panics here");
        let count = match &mut state.fails_after {
            None => bytes.len(),
            Some((0, kind)) => return Err((*kind).into()),
            Some((left, _)) => {
                let count = bytes.len().min(*left);
                *left -= count;
                count
            }
        };
        state.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long");
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn start(sink: &Sink, workers: usize, ring_bytes: usize) -> (AccessLog, Vec<Producer>) {
    AccessLog::start_with(sink.clone(), workers, ring_bytes).expect("a thread")
}

#[test]
fn lines_of_all_workers_arrive_whole_and_in_each_workers_order() {
    let sink = Sink::default();
    let (log, producers) = start(&sink, 4, 1 << 20);
    let workers = producers.into_iter().enumerate().map(|(worker, mut producer)| {
        thread::spawn(move || {
            for number in 0..500 {
                producer.write(&Line { path: &format!("{worker} {number}"), ..a_line() });
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.join().expect("a worker does not panic");
    }
    let dropped = log.dropped();
    log.close();
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    let mut next = [0; 4];
    for path in sink.paths() {
        let (worker, number) = path.split_once(' ').expect("two numbers");
        let next = &mut next[worker.parse::<usize>().expect("a number")];
        assert_eq!(number, next.to_string());
        *next += 1;
    }
    assert_eq!(next, [500; 4]);
}

#[test]
fn a_full_ring_drops_whole_lines_and_counts_them() {
    let sink = Sink::default();
    sink.set(Some((0, ErrorKind::WouldBlock)));
    let (log, mut producers) = start(&sink, 1, 3500);
    for number in 0..100 {
        producers[0].write(&Line { path: &number.to_string(), ..a_line() });
    }
    let dropped = log.dropped().load(Ordering::Relaxed);
    assert!((93..=97).contains(&dropped), "{dropped} of 100, where about five fit");
    // The reader is back: what was kept comes, and there is room again.
    sink.set(None);
    let mut written = 100;
    until(|| {
        let before = log.dropped().load(Ordering::Relaxed);
        producers[0].write(&Line { path: "later", ..a_line() });
        written += 1;
        log.dropped().load(Ordering::Relaxed) == before
    });
    let dropped = log.dropped();
    log.close();
    let paths = sink.paths();
    assert_eq!(paths.len() as u64, written - dropped.load(Ordering::Relaxed));
    assert_eq!(paths[..3], ["0", "1", "2"], "the oldest are kept");
    assert_eq!(paths.last().map(String::as_str), Some("later"));
}

#[test]
fn a_line_that_was_cut_by_an_error_is_finished_before_any_other() {
    for kind in [ErrorKind::StorageFull, ErrorKind::WouldBlock] {
        let sink = Sink::default();
        sink.set(Some((150, kind)));
        let (log, mut producers) = start(&sink, 2, 1 << 20);
        for producer in &mut producers {
            producer.write(&Line { path: "first", ..a_line() });
            producer.write(&Line { path: "second", ..a_line() });
        }
        sink.until(|text| text.len() == 150);
        sink.set(None);
        log.close();
        assert_eq!(sink.paths(), ["first", "second", "first", "second"], "{kind}");
    }
}

#[test]
fn the_first_line_after_a_rest_wakes_the_writer() {
    let sink = Sink::default();
    let (log, mut producers) = start(&sink, 2, 1 << 20);
    let signals = log.writer.as_ref().expect("the log is on").signals.clone();
    for path in ["before", "after"] {
        until(|| signals.resting.load(Ordering::SeqCst));
        producers[1].write(&Line { path, ..a_line() });
        sink.until(|text| text.contains(path));
    }
    log.close();
    assert_eq!(sink.paths(), ["before", "after"]);
}

/// Takes a write and does not return, as a pipe that is full does.
struct Stuck;

impl Write for Stuck {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        loop {
            thread::park();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_is_stuck_does_not_keep_the_process() {
    let (log, mut producers) = AccessLog::start_with(Stuck, 1, 1 << 20).expect("a thread");
    producers[0].write(&a_line());
    let began = Instant::now();
    log.close();
    assert!(began.elapsed() < 5 * CLOSE_PATIENCE);
}

#[test]
fn a_file_is_appended_to_and_off_is_silent() {
    let name = format!("orchestrator-access-{}.log", std::process::id());
    let path = std::env::temp_dir().join(name);
    for _ in 0..2 {
        let to = config::AccessLog::File(path.clone());
        let (log, mut producers) = AccessLog::start(&to, 1).expect("a file");
        producers[0].write(&a_line());
        log.close();
    }
    let text = std::fs::read_to_string(&path).expect("the file is there");
    std::fs::remove_file(&path).expect("the file is there");
    assert_eq!(text, super::tests::text(&a_line()).repeat(2));

    let no_file = config::AccessLog::File(path.join("not/a/folder"));
    assert!(AccessLog::start(&no_file, 1).is_err());

    let (log, mut producers) = AccessLog::start(&config::AccessLog::Off, 3).expect("nothing");
    assert_eq!(producers.len(), 3);
    producers[2].write(&a_line());
    assert_eq!(log.dropped().load(Ordering::Relaxed), 0);
    log.close();
}
