//! The admin API over one kept connection, as a pipeline that releases policies uses it. What goes wrong
//! is an answer here: the gateway may be killed meanwhile.

use std::io;
use std::time::{Duration, Instant};

use orchestrator_tests::operator::{TOKEN, activation, rollback};
use orchestrator_tests::{Gateway, Push, Request};
use serde_json::Value;

use crate::load::Caller;

#[derive(Debug)]
pub(crate) struct Admin {
    caller: Caller,
}

/// What the gateway said, and how long that took.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) took: Duration,
}

impl Said {
    /// A field of text; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }
}

impl Admin {
    pub(crate) fn of(gateway: &Gateway) -> Admin {
        Admin { caller: Caller::new(gateway.admin) }
    }

    /// `GET /policies/{kind}`.
    pub(crate) async fn policy(&mut self, kind: &str) -> io::Result<Value> {
        let said = self.call(&Request::get(&format!("/policies/{kind}"))).await?;
        if said.status == 200 { Ok(said.json) } else { Err(io::Error::other(format!("{said:?}"))) }
    }

    pub(crate) async fn active(&mut self, kind: &str) -> io::Result<String> {
        Ok(self.policy(kind).await?["active"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn push(&mut self, kind: &str, push: &Push) -> io::Result<Said> {
        self.call(&push.request(kind)).await
    }

    /// The same with so many zeros for a component; in chunks: without saying beforehand how many.
    pub(crate) async fn push_zeros(
        &mut self,
        kind: &str,
        bytes: usize,
        in_chunks: bool,
    ) -> io::Result<Said> {
        static PIECE: [u8; 0x10000] = [0; 0x10000];
        let framing = match in_chunks {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", bytes.next_multiple_of(PIECE.len())),
        };
        let head = format!(
            "POST /policies/{kind}/versions HTTP/1.1\r\nHost: admin.test\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/wasm\r\n{framing}\r\n\r\n"
        );
        let pieces = bytes.div_ceil(PIECE.len());
        let piece: &[&[u8]] = if in_chunks { &[b"10000\r\n", &PIECE, b"\r\n"] } else { &[&PIECE] };
        let last: &[u8] = if in_chunks { b"0\r\n\r\n" } else { b"" };
        let body = std::iter::repeat_n(piece, pieces).flatten().copied();
        self.call_in_pieces([head.as_bytes()].into_iter().chain(body).chain([last])).await
    }

    pub(crate) async fn activate(&mut self, kind: &str, version: &str) -> io::Result<Said> {
        self.call(&activation(kind, version)).await
    }

    pub(crate) async fn rollback(&mut self, kind: &str) -> io::Result<Said> {
        self.call(&rollback(kind)).await
    }

    async fn call(&mut self, request: &Request) -> io::Result<Said> {
        self.call_in_pieces([&request.bytes()[..]]).await
    }

    async fn call_in_pieces<'a>(
        &mut self,
        request: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<Said> {
        let began = Instant::now();
        let (status, body) = self.caller.call_in_pieces(request).await?;
        let json = serde_json::from_slice(&body).map_err(|_| {
            io::Error::other(format!("{status} {}", String::from_utf8_lossy(&body)))
        })?;
        Ok(Said { status, json, took: began.elapsed() })
    }
}
