//! The client: whole requests in one call, or byte by byte on a connection that a test keeps.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::wait::within;
use crate::wire::{Framing, Head, Wire};

/// A request to send. It names the host `gateway.test` unless a header says otherwise.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", target).body(body)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn names(&self, name: &str) -> bool {
        self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.names("host") {
            bytes.extend_from_slice(b"Host: gateway.test\r\n");
        }
        if !self.body.is_empty() && !self.names("content-length") {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A response that arrived whole.
#[derive(Debug, Clone)]
pub struct Reply {
    pub head: Head,
    pub body: Vec<u8>,
    /// The lines behind a chunked body.
    pub trailers: Vec<String>,
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}):\n{:?}{}", self.head, self.text()))
    }

    /// The `detail` of an error that the gateway made itself. Fails the test where the response is
    /// not a problem of RFC 9457 with this status.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status(), status, "{self:?} {}", self.text());
        assert_eq!(self.header("content-type").as_deref(), Some("application/problem+json"));
        let problem = self.json();
        if let Some(own) = problem.get("status") {
            assert_eq!(*own, status, "the problem's own status: {problem}");
        }
        problem["detail"].as_str().unwrap_or_else(|| panic!("no detail: {problem}")).to_owned()
    }
}

/// One connection to the gateway.
#[derive(Debug)]
pub struct Client {
    pub wire: Wire,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream =
            within("a connection to the gateway", TcpStream::connect(address)).await.unwrap();
        Self { wire: Wire::new(stream) }
    }

    /// The same, but from this address of this machine.
    pub async fn connect_from(own: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(own, 0)).unwrap();
        let connecting = socket.connect(address);
        let stream = within("a connection to the gateway", connecting).await.unwrap();
        Self { wire: Wire::new(stream) }
    }

    /// Sends a request and reads the whole response.
    pub async fn call(&mut self, request: Request) -> Reply {
        self.send(request.bytes()).await;
        self.reply_to(&request.method).await
    }

    /// Sends a request and returns without waiting for the answer.
    pub async fn begin(&mut self, request: &Request) {
        self.send(request.bytes()).await;
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("the gateway to read", self.wire.send(bytes.as_ref())).await.unwrap();
    }

    /// Sends until nothing more is taken for a while, or so many bytes were; how many were.
    pub async fn send_until_stuck(&mut self, most: u64) -> u64 {
        const A_WHILE: Duration = Duration::from_millis(500);
        let piece = vec![b'u'; 64 * 1024];
        let mut sent = 0;
        while sent < most {
            match tokio::time::timeout(A_WHILE, self.wire.stream.write(&piece)).await {
                Ok(written) => sent += written.unwrap() as u64,
                Err(_) => break,
            }
        }
        sent
    }

    /// The next response, whole, to a request that was not a HEAD.
    pub async fn reply(&mut self) -> Reply {
        self.reply_to("GET").await
    }

    /// The next response, whole. Fails the test where it is cut short.
    pub async fn reply_to(&mut self, method: &str) -> Reply {
        let head = self.head().await;
        let mut body = Vec::new();
        let framing = head.response_framing(method);
        within("a response's body", self.wire.body(framing, |piece| body.extend_from_slice(piece)))
            .await
            .unwrap_or_else(|error| {
                panic!("{error}, after {} bytes of the body\n{head:?}", body.len())
            });
        Reply { head, body, trailers: std::mem::take(&mut self.wire.trailers) }
    }

    /// The next response's head.
    pub async fn head(&mut self) -> Head {
        within("a response's head", self.wire.head())
            .await
            .unwrap()
            .expect("the gateway closed instead of answering")
    }

    /// The rest of a response: how many bytes came, and whether it ended as its framing says.
    pub async fn rest(&mut self, framing: Framing) -> (u64, io::Result<()>) {
        let mut length = 0;
        let end = self.wire.body(framing, |piece| length += piece.len() as u64);
        let end = within("a response's body", end).await;
        (length, end)
    }

    /// Waits for the gateway to close; what it still sends is an error.
    pub async fn ended(&mut self) {
        let rest = within("the gateway to close the connection", self.wire.some(1024)).await;
        if let Ok(bytes) = rest {
            assert!(bytes.is_empty(), "instead of closing: {}", String::from_utf8_lossy(&bytes));
        }
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.wire.reset();
    }
}
