//! What the verbs that speak to a running gateway have in common: where it is, who asks, and how its
//! answers are read.

use std::env::VarError;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{REFUSED, say, say_json, tell};

/// The environment's word for where the gateway is, and for the token.
const ADMIN_VARIABLE: &str = "ORCHESTRATOR_ADMIN";
const TOKEN_VARIABLE: &str = "ORCHESTRATOR_TOKEN";

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// An answer to a question is there at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A version may take its time to be compiled: as long as `compile_timeout` may be, and what follows.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(2 * 3600);

const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Gateway {
    /// The gateway's `admin.listen`: an address and port, or `unix:/path`; else ORCHESTRATOR_ADMIN
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
    /// The file whose first line is the token for changes; else ORCHESTRATOR_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the gateway's answer as it came: JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Address::Unix(path.into())),
            None => text.parse().map(Address::Tcp).map_err(|_| {
                format!("{text:?} is no address: write 127.0.0.1:8004, or unix:/run/o.sock")
            }),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket of either kind.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// What the gateway said.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Json,
}

impl Gateway {
    /// A question, which anybody may ask.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(request(Method::GET, path, Bytes::new()), ANSWER_TIME_MAX).await
    }

    /// A change, which needs a token, and happens only while the version that was seen is active.
    pub(super) async fn change(
        &self,
        kind: &str,
        what: &str,
        content_type: &str,
        body: Bytes,
        if_match: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let tag = match if_match {
            Some(version) => HeaderValue::try_from(format!("\"{version}\""))?,
            None => {
                let seen = self.get(&format!("/policies/{kind}")).await?;
                seen.headers.get(ETAG).cloned().context("this is no gateway: it sent no ETag")?
            }
        };
        let mut request = request(Method::POST, &format!("/policies/{kind}/{what}"), body);
        let headers = request.headers_mut();
        headers.insert(IF_MATCH, tag);
        headers.insert(CONTENT_TYPE, HeaderValue::try_from(content_type)?);
        if let Some(token) = self.token()? {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .context("the token has characters that no header may have")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        self.call(request, CHANGE_TIME_MAX).await
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        let (text, from) = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the token in {}", path.display()))?;
                (text, path.display().to_string())
            }
            None => match variable(TOKEN_VARIABLE)? {
                Some(token) => (token, TOKEN_VARIABLE.to_owned()),
                None => return Ok(None),
            },
        };
        let token = text.lines().next().map(str::trim).filter(|token| !token.is_empty());
        Ok(Some(token.with_context(|| format!("there is no token in {from}"))?.to_owned()))
    }

    fn address(&self) -> anyhow::Result<Address> {
        if let Some(address) = &self.admin {
            return Ok(address.clone());
        }
        match variable(ADMIN_VARIABLE)? {
            Some(text) => {
                text.parse().map_err(|error| anyhow::anyhow!("{ADMIN_VARIABLE}: {error}"))
            }
            None => Ok(Address::Tcp(([127, 0, 0, 1], 8004).into())),
        }
    }

    async fn call(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let address = self.address()?;
        let connecting = async {
            Ok::<Box<dyn Duplex>, std::io::Error>(match &address {
                Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        let connected = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await;
        let stream = connected
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))
            .flatten()
            .with_context(|| {
                format!(
                    "no gateway answers at {address}: is it running, and is this its \
                     `admin.listen`? Say --admin ADDRESS"
                )
            })?;
        let speaking = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            anyhow::Ok((head, body))
        };
        let (head, body) = tokio::time::timeout(patience, speaking)
            .await
            .with_context(|| {
                format!(
                    "no answer in {patience:?}; a change that was begun is finished all the same"
                )
            })?
            .with_context(|| format!("the gateway at {address} broke off"))?;
        let body = serde_json::from_slice(&body)
            .with_context(|| format!("what answers at {address} is no gateway's admin listener"))?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("paths are made here, of known words");
    request.headers_mut().insert(HOST, HeaderValue::from_static("orchestrator"));
    request
}

impl Answer {
    /// Prints the answer: as JSON where that is wanted, else as `told` has it; or what is wrong.
    pub(super) fn print(
        &self,
        gateway: &Gateway,
        told: impl FnOnce(&Json) -> String,
    ) -> anyhow::Result<ExitCode> {
        let code = match self.status {
            status if status.is_success() => ExitCode::SUCCESS,
            StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::CONFLICT => ExitCode::from(REFUSED),
            _ => ExitCode::FAILURE,
        };
        if gateway.json {
            say_json(&self.body)?;
        } else if self.status.is_success() {
            say(&told(&self.body))?;
        } else {
            tell(&self.wrong());
        }
        Ok(code)
    }

    fn wrong(&self) -> String {
        let detail = self.body["detail"].as_str().unwrap_or_default();
        let mut all = format!("error: {}\n", printable(detail));
        for error in self.body["errors"].as_array().into_iter().flatten() {
            let of = |key: &str| error[key].as_str().map(printable);
            match of("pointer").filter(|pointer| !pointer.is_empty()) {
                Some(pointer) => all += &format!("  at `{pointer}`: "),
                None => all += "  ",
            }
            all += &format!("{}\n", of("message").unwrap_or_default());
            if let Some(suggestion) = of("suggestion") {
                all += &format!("    help: {suggestion}\n");
            }
        }
        all += match self.status {
            StatusCode::UNAUTHORIZED => {
                "  help: say --token-file FILE, or set ORCHESTRATOR_TOKEN, to a token of \
                 [admin.tokens.<name>]\n"
            }
            StatusCode::PRECONDITION_FAILED => {
                "  help: somebody else was faster: look at `orchestrator policy list`, and try again\n"
            }
            _ => "",
        };
        all
    }
}

/// What policies and tools say must neither move a terminal's cursor nor look like a line of ours.
pub(super) fn printable(text: &str) -> String {
    // Directions of writing, by which what is shown is in another order than what is there.
    let turns = |it| matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let show = |it: char| match it {
        '\n' => ' ',
        _ if it.is_control() || turns(it) => '\u{fffd}',
        _ => it,
    };
    text.chars().map(show).collect()
}

/// A variable of the environment; an error, which does not show it, where it is no text.
fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => anyhow::bail!("{name} is not UTF-8"),
    }
}

/// Rows in columns, as wide as they need to be.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|it| it.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        match bold && number == 0 {
            true => text += &format!("\x1b[1m{line}\x1b[0m\n"),
            false => text += &format!("{line}\n"),
        }
    }
    text
}

/// A number with a unit that people read.
pub(super) fn microseconds(value: &Json) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(us) if us < 1000.0 => format!("{us:.1} µs"),
        Some(us) => format!("{:.1} ms", us / 1000.0),
    }
}

pub(super) fn bytes(value: &Json) -> String {
    bytesize::ByteSize(value.as_u64().unwrap_or(0)).to_string()
}

/// Text, or a dash for what is not there.
pub(super) fn word(value: &Json) -> String {
    match value {
        Json::String(text) => printable(text),
        Json::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
