//! The admin API, as a pipeline that releases policies uses it: one kept connection, with a token.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use orchestrator_tests::{Gateway, toml_path};
use serde_json::{Value, json};

use crate::load::Caller;

const TOKEN: &str = "the token of the endurance programs";

/// The lines of a gateway that takes the token; its file goes into this folder.
pub(crate) fn token(folder: &Path) -> String {
    let file = folder.join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    format!("admin.tokens.endure.file = {}\n", toml_path(&file))
}

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

/// What is pushed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Push<'a> {
    pub(crate) component: &'a [u8],
    /// None: the active version's.
    pub(crate) config: Option<Value>,
    pub(crate) cases: Option<Value>,
    /// Without saying beforehand how many bytes it is.
    pub(crate) in_chunks: bool,
}

impl Admin {
    pub(crate) fn of(gateway: &Gateway) -> Admin {
        Admin { caller: Caller::new(gateway.admin) }
    }

    /// `GET /policies/{kind}`.
    pub(crate) async fn policy(&mut self, kind: &str) -> io::Result<Value> {
        let head = format!("GET /policies/{kind} HTTP/1.1\r\nHost: admin.test\r\n\r\n");
        let said = self.call([head.as_bytes()]).await?;
        if said.status == 200 { Ok(said.json) } else { Err(io::Error::other(format!("{said:?}"))) }
    }

    pub(crate) async fn active(&mut self, kind: &str) -> io::Result<String> {
        Ok(self.policy(kind).await?["active"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn push(&mut self, kind: &str, push: &Push<'_>) -> io::Result<Said> {
        let form;
        let (content_type, body) = match (&push.config, &push.cases) {
            (None, None) => ("application/wasm".to_owned(), push.component),
            _ => {
                form = multipart(push);
                (format!("multipart/form-data; boundary={BOUNDARY}"), &form[..])
            }
        };
        let framing = match push.in_chunks {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", body.len()),
        };
        let head = format!(
            "POST /policies/{kind}/versions HTTP/1.1\r\nHost: admin.test\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
        );
        if !push.in_chunks {
            return self.call([head.as_bytes(), body]).await;
        }
        let size = format!("{CHUNK:x}\r\n");
        let last = format!("{:x}\r\n", body.len() % CHUNK);
        let mut pieces = vec![head.as_bytes()];
        for piece in body.chunks(CHUNK) {
            let size = if piece.len() == CHUNK { &size } else { &last };
            pieces.extend([size.as_bytes(), piece, b"\r\n"]);
        }
        pieces.push(b"0\r\n\r\n");
        self.call(pieces).await
    }

    pub(crate) async fn activate(&mut self, kind: &str, version: &str) -> io::Result<Said> {
        self.post(&format!("/policies/{kind}/activate"), &json!({ "version": version })).await
    }

    pub(crate) async fn rollback(&mut self, kind: &str) -> io::Result<Said> {
        self.post(&format!("/policies/{kind}/rollback"), &json!({})).await
    }

    async fn post(&mut self, target: &str, body: &Value) -> io::Result<Said> {
        let body = body.to_string();
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: admin.test\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.call([request.as_bytes()]).await
    }

    async fn call<'a>(&mut self, request: impl IntoIterator<Item = &'a [u8]>) -> io::Result<Said> {
        let began = Instant::now();
        let (status, body) = self.caller.call_in_pieces(request).await?;
        let json = serde_json::from_slice(&body).map_err(|_| {
            io::Error::other(format!("{status} {}", String::from_utf8_lossy(&body)))
        })?;
        Ok(Said { status, json, took: began.elapsed() })
    }
}

const BOUNDARY: &str = "----endure";

/// Bytes of each chunk of a body that does not say its length.
const CHUNK: usize = 64 << 10;

fn multipart(push: &Push<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut part = |name: &str, content_type: &str, contents: &[u8]| {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: {content_type}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(contents);
        body.extend_from_slice(b"\r\n");
    };
    part("component", "application/wasm", push.component);
    for (name, value) in [("config", &push.config), ("cases", &push.cases)] {
        if let Some(value) = value {
            part(name, "application/json", value.to_string().as_bytes());
        }
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}
