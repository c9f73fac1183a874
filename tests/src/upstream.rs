//! A service behind the gateway: a real server that answers as a test tells it and keeps every
//! request as it came.
//!
//! Checks of the monitor are kept and answered apart, so that a test of traffic need not think of
//! them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait::eventually;
use crate::wire::{Head, Wire};

/// Of a body, so much is kept; the rest is only counted.
const BODY_KEPT: usize = 1024 * 1024;

/// Something that answers wait for until the test opens it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// What an upstream does about one request.
#[derive(Debug, Clone)]
pub struct Answer {
    before_body: bool,
    /// Between the request's head and its body: waits, and asks for the body.
    asking: Option<Option<Gate>>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Gate),
    Pause(Duration),
    Flood,
    Echo,
    Hang,
    Close,
    Reset,
}

impl Answer {
    fn of(step: Step) -> Self {
        Self { before_body: false, asking: None, steps: vec![step] }
    }

    /// 200 with this body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, &[], body)
    }

    /// This status, with a body that says who answers.
    pub fn status(status: u16) -> Self {
        Self::new(status, &[], format!("{status} by the upstream"))
    }

    pub fn json(body: &Value) -> Self {
        Self::new(200, &[("Content-Type", "application/json")], body.to_string())
    }

    /// A response with its `Content-Length`.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 {status} Told\r\n");
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        Self::bytes([bytes.as_bytes(), body].concat())
    }

    /// Exactly these bytes; then the connection is kept, unless more steps follow.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::of(Step::Send(bytes.as_ref().to_vec()))
    }

    /// A closed connection instead of a response.
    pub fn close() -> Self {
        Self::of(Step::Close)
    }

    /// A reset connection instead of a response.
    pub fn reset() -> Self {
        Self::of(Step::Reset)
    }

    /// Nothing, for as long as the gateway keeps the connection.
    pub fn hang() -> Self {
        Self::of(Step::Hang)
    }

    /// Agrees to another protocol, in which it sends back all that it gets, until that ends.
    pub fn switch_to(protocol: &str) -> Self {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        Self::bytes(head).then_echo()
    }

    /// Then all that it gets, until that ends.
    #[must_use]
    pub fn then_echo(self) -> Self {
        self.then(Step::Echo)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    #[must_use]
    pub fn then_send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(bytes.as_ref().to_vec()))
    }

    #[must_use]
    pub fn then_wait(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    #[must_use]
    pub fn then_hang(self) -> Self {
        self.then(Step::Hang)
    }

    #[must_use]
    pub fn then_close(self) -> Self {
        self.then(Step::Close)
    }

    #[must_use]
    pub fn then_reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Then bytes without end, as fast as the gateway takes them; see [`Upstream::flooded`].
    #[must_use]
    pub fn then_flood(self) -> Self {
        self.then(Step::Flood)
    }

    /// The same, but not before the gate is open.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.steps.insert(0, Step::Wait(gate.clone()));
        self
    }

    /// The same, but so much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.steps.insert(0, Step::Pause(delay));
        self
    }

    /// The same, but asking for the request's body first: `100 Continue`.
    #[must_use]
    pub fn asking_for_the_body(mut self) -> Self {
        self.asking = Some(None);
        self
    }

    /// The same, but asking only when the gate is open.
    #[must_use]
    pub fn asking_behind(mut self, gate: &Gate) -> Self {
        self.asking = Some(Some(gate.clone()));
        self
    }

    /// The same, but without reading the request's body first.
    #[must_use]
    pub fn before_body(mut self) -> Self {
        self.before_body = true;
        self
    }
}

/// A request as it reached the upstream.
#[derive(Debug, Clone)]
pub struct Received {
    /// Which connection it came over, counted from 0.
    pub connection: usize,
    pub head: Head,
    /// The content so far, without chunk framing, at most 1 MiB of it.
    pub body: Vec<u8>,
    /// How much content came so far.
    pub body_bytes: u64,
    /// The lines behind a chunked body.
    pub trailers: Vec<String>,
    /// Whether the body has arrived to its end.
    pub whole: bool,
}

impl Received {
    /// Method and target: `GET /notes?x=1`.
    pub fn line(&self) -> String {
        format!("{} {}", self.head.method(), self.head.target())
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.get(name)
    }
}

type Handler = Arc<dyn Fn(&Head) -> Answer + Send + Sync>;

struct State {
    traffic: Vec<Received>,
    checks: Vec<Received>,
    connections: usize,
    open: usize,
    on_traffic: Handler,
    on_check: Handler,
}

struct Shared {
    state: Mutex<State>,
    flooded: AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// One endpoint of a service, alone on its port from `start` to drop.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    /// Bound and never listening: keeps the port while the upstream is down.
    _holder: Socket,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.address)
    }
}

impl Upstream {
    /// Answers 200 to everything.
    pub async fn start() -> Self {
        let mut upstream = Self::down();
        upstream.up();
        upstream
    }

    /// Gives these answers to the first requests, and the last of them to all others.
    pub async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let upstream = Self::start().await;
        upstream.answer(answers);
        upstream
    }

    /// Answers what the function says.
    pub async fn with(handler: impl Fn(&Head) -> Answer + Send + Sync + 'static) -> Self {
        let upstream = Self::start().await;
        upstream.shared.state().on_traffic = Arc::new(handler);
        upstream
    }

    /// Has a port of its own and refuses every connection, until it goes [`up`](Self::up).
    pub fn down() -> Self {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        let state = State {
            traffic: Vec::new(),
            checks: Vec::new(),
            connections: 0,
            open: 0,
            on_traffic: Arc::new(|_| Answer::ok("hello")),
            on_check: Arc::new(|_| Answer::json(&json!({"status": "ok"}))),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), flooded: AtomicU64::new(0) });
        Self { address, shared, accepting: None, _holder: holder }
    }

    /// Neither accepts nor refuses: a connection to it never comes about.
    pub fn unreachable() -> Unreachable {
        let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        // The queue of a listener that never accepts holds one connection more than it was told;
        // when it is full, the kernel drops whoever comes next.
        let filling = (0..4).map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address);
            filler
        });
        let filling = filling.collect();
        Unreachable { address: address.as_socket().unwrap(), _listener: socket, _filling: filling }
    }

    /// Starts to accept connections.
    pub fn up(&mut self) {
        let socket = bound(self.address);
        socket.listen(1024).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }

    /// Breaks all connections and refuses new ones, until it goes [`up`](Self::up) again.
    pub async fn go_down(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Joined, so that the listener is closed when this returns.
            let _ = accepting.await;
        }
    }

    /// Gives these answers to the next requests, and the last of them to all others.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().on_traffic = in_turn(answers);
    }

    /// Gives these answers to the next checks, and the last of them to all others.
    pub fn answer_checks(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().on_check = in_turn(answers);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests so far that were not checks.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.state().traffic.clone()
    }

    /// How many requests came so far that were not checks.
    pub fn count(&self) -> usize {
        self.shared.state().traffic.len()
    }

    /// The one request that came. Fails the test where there were none or several.
    pub fn request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests: {requests:?}");
        requests.remove(0)
    }

    /// The requests for which `wanted` is true, as soon as there is one.
    pub async fn received(&self, wanted: impl Fn(&Received) -> bool) -> Received {
        eventually("a request to reach the upstream", async || {
            self.shared.state().traffic.iter().find(|request| wanted(request)).cloned()
        })
        .await
    }

    pub fn checks(&self) -> Vec<Received> {
        self.shared.state().checks.clone()
    }

    /// Waits until so many checks have come.
    pub async fn checked(&self, times: usize) {
        eventually(format!("{times} checks"), async || {
            (self.shared.state().checks.len() >= times).then_some(())
        })
        .await;
    }

    /// How many connections were made so far, and how many of them are open.
    pub fn connections(&self) -> (usize, usize) {
        let state = self.shared.state();
        (state.connections, state.open)
    }

    /// How many bytes a flood got rid of.
    pub fn flooded(&self) -> u64 {
        self.shared.flooded.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// An address where connecting neither succeeds nor fails.
#[derive(Debug)]
pub struct Unreachable {
    address: SocketAddr,
    _listener: Socket,
    _filling: Vec<Socket>,
}

impl Unreachable {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A socket that has this address, and may share it with one that listens.
pub fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Two sockets may share the port as long as only one of them listens.
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn in_turn(answers: impl IntoIterator<Item = Answer>) -> Handler {
    let answers: VecDeque<Answer> = answers.into_iter().collect();
    assert!(!answers.is_empty(), "an upstream needs an answer");
    let answers = Mutex::new(answers);
    Arc::new(move |_| {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    })
}

/// Accepts until aborted; the connections are its children and end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut state = shared.state();
            state.connections += 1;
            state.open += 1;
            state.connections - 1
        };
        let open = Open(Arc::clone(&shared));
        connections.spawn(async move {
            // A broken connection is the gateway's doing; the test sees what came of it.
            let _ = serve(stream, number, &open.0).await;
        });
    }
}

/// Counts an open connection until dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}

async fn serve(stream: TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await? {
        // Nobody stands behind a check: it is not forwarded for anyone.
        let is_check = !head.has("x-forwarded-for")
            && head.get("user-agent").is_some_and(|agent| agent.starts_with("orchestrator/"));
        let handler = {
            let state = shared.state();
            Arc::clone(if is_check { &state.on_check } else { &state.on_traffic })
        };
        let framing = head.request_framing();
        // Decided before the request is visible: a test that has seen it may change the answers.
        let answer = handler(&head);
        let index = {
            let mut state = shared.state();
            let kept = if is_check { &mut state.checks } else { &mut state.traffic };
            kept.push(Received {
                connection,
                head,
                body: Vec::new(),
                body_bytes: 0,
                trailers: Vec::new(),
                whole: false,
            });
            kept.len() - 1
        };
        let edit = |change: &dyn Fn(&mut Received)| {
            let mut state = shared.state();
            let kept = if is_check { &mut state.checks } else { &mut state.traffic };
            change(&mut kept[index]);
        };
        if let Some(gate) = answer.asking {
            if let Some(gate) = gate {
                gate.opened().await;
            }
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if !answer.before_body {
            wire.body(framing, |piece| {
                edit(&|received| {
                    let room = BODY_KEPT.saturating_sub(received.body.len()).min(piece.len());
                    received.body.extend_from_slice(&piece[..room]);
                    received.body_bytes += piece.len() as u64;
                });
            })
            .await?;
            let trailers = std::mem::take(&mut wire.trailers);
            edit(&|received| {
                received.trailers.clone_from(&trailers);
                received.whole = true;
            });
        }
        for step in answer.steps {
            match step {
                Step::Send(bytes) => wire.send(&bytes).await?,
                Step::Wait(gate) => until(gate.opened(), &wire).await?,
                Step::Pause(delay) => until(tokio::time::sleep(delay), &wire).await?,
                Step::Hang => until(std::future::pending(), &wire).await?,
                Step::Flood => loop {
                    wire.send(&[b'f'; 16 * 1024]).await?;
                    shared.flooded.fetch_add(16 * 1024, Ordering::Relaxed);
                },
                Step::Echo => loop {
                    let bytes = wire.some(16 * 1024).await?;
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    wire.send(&bytes).await?;
                },
                Step::Close => return Ok(()),
                Step::Reset => {
                    wire.reset();
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Waits for the future, or fails where the gateway leaves before.
async fn until(what: impl Future<Output = ()>, wire: &Wire) -> io::Result<()> {
    tokio::select! {
        () = what => Ok(()),
        () = wire.closed() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
