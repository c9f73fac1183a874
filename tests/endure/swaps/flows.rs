//! What is under way for seconds: streams of events and of bytes, and uploads, one after the other until
//! the end.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orchestrator_tests::wire::Wire;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bodies::down;
use crate::endpoint::STREAMED;
use crate::load::{Tally, get};
use crate::pattern;

/// How many of each kind are under way at any time.
const EACH: usize = 3;

/// Pieces of a stream, 50 a second.
const PIECES: u64 = 100;

/// An upload of 4 MiB, in pieces.
const UPLOADED: u64 = 4 << 20;
const PIECE: usize = 64 << 10;
const PIECE_EVERY: Duration = Duration::from_millis(25);

#[derive(Debug, Clone, Copy)]
enum Flow {
    Bytes,
    Events,
    Upload,
}

#[derive(Debug)]
pub(crate) struct Flows {
    stop: watch::Sender<bool>,
    flows: JoinSet<Tally>,
}

impl Flows {
    pub(crate) fn begin(gateway: SocketAddr) -> Flows {
        let (stop, stopped) = watch::channel(false);
        let mut flows = JoinSet::new();
        for flow in [Flow::Bytes, Flow::Events, Flow::Upload].repeat(EACH) {
            flows.spawn(repeat(flow, gateway, stopped.clone()));
        }
        Flows { stop, flows }
    }

    /// Waits for those that are under way.
    pub(crate) async fn end(self) -> Tally {
        self.stop.send_replace(true);
        let mut tally = Tally::default();
        self.flows.join_all().await.into_iter().for_each(|flow| tally.add(flow));
        tally
    }
}

async fn repeat(flow: Flow, gateway: SocketAddr, stopped: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    while !*stopped.borrow() {
        let began = Instant::now();
        let came = match flow {
            Flow::Bytes => down(gateway, &format!("/stream?{PIECES}"), PIECES * STREAMED).await,
            Flow::Events => events(gateway).await.map_err(|error| error.to_string()),
            Flow::Upload => upload(gateway).await.map_err(|error| error.to_string()),
        };
        let answer = came.map(|()| (200, Vec::new())).map_err(io::Error::other);
        tally.count(200, began, &answer);
    }
    tally
}

async fn events(gateway: SocketAddr) -> io::Result<()> {
    let mut wire = Wire::new(TcpStream::connect(gateway).await?);
    wire.send(&get(&format!("/events?{PIECES}"))).await?;
    let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut text = Vec::new();
    wire.body(head.response_framing("GET"), |piece| text.extend_from_slice(piece)).await?;
    let wanted: String = (0..PIECES).map(|number| format!("data: {number}\n\n")).collect();
    if text == wanted.as_bytes() { Ok(()) } else { Err(io::Error::other("other events")) }
}

async fn upload(gateway: SocketAddr) -> io::Result<()> {
    let mut wire = Wire::new(TcpStream::connect(gateway).await?);
    let head = format!(
        "PUT /up?{UPLOADED} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {UPLOADED}\r\n\r\n"
    );
    wire.send(head.as_bytes()).await?;
    let mut place = 0;
    while place < UPLOADED {
        let piece = pattern::piece(place, PIECE.min((UPLOADED - place) as usize));
        wire.send(piece).await?;
        place += piece.len() as u64;
        tokio::time::sleep(PIECE_EVERY).await;
    }
    let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut body = Vec::new();
    wire.body(head.response_framing("PUT"), |piece| body.extend_from_slice(piece)).await?;
    match head.status() {
        200 => Ok(()),
        status => {
            Err(io::Error::other(format!("{status} {}", String::from_utf8_lossy(&body).trim())))
        }
    }
}
