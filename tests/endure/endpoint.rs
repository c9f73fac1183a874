//! An endpoint as a process of its own, which can be killed: this program again, with the words
//! `endpoint PORT RECORD`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use orchestrator_tests::upstream::bound;
use orchestrator_tests::wire::{Head, Wire};
use socket2::Socket;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::LocalSet;

use crate::pattern::{self, Checker};

/// The body of an answer: 100 bytes.
const BODY: &str = "123456789 123456789 123456789 123456789 123456789 \
                    123456789 123456789 123456789 123456789 12345678.\n";

/// An endpoint as its parent sees it. It keeps its port while it is down; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    record: String,
    child: Option<Child>,
    /// Bound and never listening.
    _holder: Socket,
}

impl Endpoint {
    /// A running one. It appends the ids of POSTs to `record`, before it answers them.
    pub(crate) async fn start(record: &str) -> Endpoint {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        let mut endpoint =
            Endpoint { address, record: record.to_owned(), child: None, _holder: holder };
        endpoint.up().await;
        endpoint
    }

    /// Starts it (again), and returns when it listens.
    pub(crate) async fn up(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["endpoint", &self.address.port().to_string(), &self.record]);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), said.next_line()).await;
        assert_eq!(line.unwrap().unwrap().as_deref(), Some("listening"));
        self.child = Some(child);
    }

    /// Ends it with signal 9: nothing in it can say goodbye.
    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// How many requests it was sent since it started, but for those on its own account.
    pub(crate) async fn count(&self) -> u64 {
        let mut wire = Wire::new(TcpStream::connect(self.address).await.unwrap());
        wire.send(b"GET /count HTTP/1.1\r\nHost: endpoint\r\n\r\n").await.unwrap();
        let head = wire.head().await.unwrap().unwrap();
        let mut text = Vec::new();
        let framing = head.response_framing("GET");
        wire.body(framing, |piece| text.extend_from_slice(piece)).await.unwrap();
        String::from_utf8(text).unwrap().trim().parse().unwrap()
    }
}

/// The lines of a gateway's service, `writer`, that these are, and its only route.
pub(crate) fn service(endpoints: &[&Endpoint]) -> String {
    let urls: Vec<String> =
        endpoints.iter().map(|endpoint| format!("http://{}", endpoint.address)).collect();
    format!("services.writer.endpoints = {urls:?}\n{}\n", orchestrator_tests::EVERYTHING_TO_WRITER)
}

/// The child's part: serves until it is killed.
pub(crate) async fn serve(port: u16, record: &str) {
    let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    socket.listen(4096).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    println!("listening");
    let record = File::options().append(true).create(true).open(record).unwrap();
    let (attempts, seen) = (RefCell::default(), RefCell::default());
    let shared = Rc::new(Shared { record, count: Cell::new(0), attempts, seen });
    let tasks = LocalSet::new();
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            tokio::task::spawn_local(async move {
                // A connection that breaks is the gateway's doing, and seen there.
                let _ = connection(stream, &shared).await;
            });
        }
    };
    tasks.run_until(accepting).await;
}

struct Shared {
    record: File,
    count: Cell<u64>,
    /// By target: the `x-version` of each attempt so far.
    attempts: RefCell<HashMap<String, String>>,
    /// Targets that were to be answered the second time.
    seen: RefCell<HashSet<String>>,
}

async fn connection(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await? {
        let target = head.target().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if path != "/health" && path != "/count" {
            shared.count.set(shared.count.get() + 1);
        }
        match path {
            "/count" => {
                take(&mut wire, &head).await?;
                answer(&mut wire, "200 OK", &shared.count.get().to_string()).await?;
            }
            "/record" => {
                let mut id = Vec::new();
                wire.body(head.request_framing(), |piece| id.extend_from_slice(piece)).await?;
                id.push(b'\n');
                // In one piece, and before the answer: whoever is killed in between has processed it.
                (&shared.record).write_all(&id)?;
                work().await;
                answer(&mut wire, "200 OK", BODY).await?;
            }
            "/fail" => {
                take(&mut wire, &head).await?;
                answer(&mut wire, "500 Internal Server Error", BODY).await?;
            }
            "/version" => {
                take(&mut wire, &head).await?;
                answer(&mut wire, "200 OK", &version(&head)).await?;
            }
            // The statuses of the attempts, one after the other; the body tells the versions of all.
            "/attempts" => {
                take(&mut wire, &head).await?;
                let seen = shared.attempted(&target, &version(&head));
                let statuses: Vec<&str> = query.split('&').next().unwrap().split(',').collect();
                let attempt = seen.split(' ').count().min(statuses.len());
                answer(&mut wire, &format!("{} As Told", statuses[attempt - 1]), &seen).await?;
            }
            "/stream" => {
                take(&mut wire, &head).await?;
                slowly(&mut wire, "application/octet-stream", query.parse().unwrap(), |number| {
                    pattern::piece(number * STREAMED, STREAMED as usize).to_vec()
                })
                .await?;
            }
            "/events" => {
                take(&mut wire, &head).await?;
                slowly(&mut wire, "text/event-stream", query.parse().unwrap(), |number| {
                    format!("data: {number}\n\n").into_bytes()
                })
                .await?;
            }
            "/up" => {
                let mut checker = Checker::default();
                wire.body(head.request_framing(), |piece| checker.see(piece)).await?;
                let wanted = query.parse().unwrap();
                match checker.is(wanted) {
                    Ok(()) => answer(&mut wire, "200 OK", BODY).await?,
                    Err(wrong) => answer(&mut wire, "422 Unprocessable Content", &wrong).await?,
                }
            }
            "/down" => {
                take(&mut wire, &head).await?;
                let length = query.parse().unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                wire.send(head.as_bytes()).await?;
                send(&mut wire, length).await?;
            }
            "/down/chunked" => {
                take(&mut wire, &head).await?;
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                send_chunked(&mut wire, query.parse().unwrap()).await?;
            }
            _ => {
                take(&mut wire, &head).await?;
                match query.split_once('=').map_or("", |(word, _)| word) {
                    "at-once" => answer(&mut wire, "200 OK", BODY).await?,
                    // The first time with a failure.
                    "second" if !shared.seen.borrow_mut().insert(target.clone()) => {
                        answer(&mut wire, "200 OK", BODY).await?;
                    }
                    "second" | "never" => {
                        answer(&mut wire, "503 Service Unavailable", BODY).await?;
                    }
                    _ => {
                        work().await;
                        answer(&mut wire, "200 OK", BODY).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

impl Shared {
    /// All attempts for this target, this one included.
    fn attempted(&self, target: &str, version: &str) -> String {
        let mut attempts = self.attempts.borrow_mut();
        let seen = attempts.entry(target.to_owned()).or_default();
        if !seen.is_empty() {
            seen.push(' ');
        }
        seen.push_str(version);
        seen.clone()
    }
}

/// Which version of a policy sent this.
fn version(head: &Head) -> String {
    head.get("x-version").unwrap_or_else(|| "none".into())
}

/// Bytes of each piece of a stream.
pub(crate) const STREAMED: u64 = 1024;

/// A body in so many pieces, 50 a second.
async fn slowly(
    wire: &mut Wire,
    content_type: &str,
    pieces: u64,
    piece: impl Fn(u64) -> Vec<u8>,
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    wire.send(head.as_bytes()).await?;
    for number in 0..pieces {
        chunk(wire, &piece(number)).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wire.send(b"0\r\n\r\n").await
}

/// What an answer takes, so that a kill meets requests that have taken effect and are not answered.
async fn work() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}

async fn take(wire: &mut Wire, head: &Head) -> io::Result<()> {
    wire.body(head.request_framing(), |_| ()).await
}

async fn answer(wire: &mut Wire, status: &str, body: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    // In one piece: what is killed has answered whole or not at all.
    wire.send((head + body).as_bytes()).await
}

/// A body of known bytes, from either side.
pub(crate) async fn send(wire: &mut Wire, length: u64) -> io::Result<()> {
    let mut place = 0;
    while place < length {
        let piece = next_piece(place, length);
        wire.send(piece).await?;
        place += piece.len() as u64;
    }
    Ok(())
}

/// The same in chunks.
pub(crate) async fn send_chunked(wire: &mut Wire, length: u64) -> io::Result<()> {
    let mut place = 0;
    while place < length {
        let piece = next_piece(place, length);
        chunk(wire, piece).await?;
        place += piece.len() as u64;
    }
    wire.send(b"0\r\n\r\n").await
}

async fn chunk(wire: &mut Wire, piece: &[u8]) -> io::Result<()> {
    wire.send(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
    wire.send(piece).await?;
    wire.send(b"\r\n").await
}

fn next_piece(place: u64, length: u64) -> &'static [u8] {
    pattern::piece(place, usize::try_from(length - place).unwrap_or(usize::MAX))
}
