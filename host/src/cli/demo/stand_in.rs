//! A stand-in for a service: it answers with what it got, and fails, dawdles or goes away when a
//! request tells it to.
//!
//! | a request with | gets |
//! |---|---|
//! | `?fail=2` | 503 for its first two attempts: those that carry one `X-Request-Id` |
//! | `?status=500` | that status |
//! | `?delay=2s` | its answer so much later |
//! | `…/_stand-in/down?for=10s` | an answer, and then nobody gets one for so long |

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// Requests whose attempts are remembered.
const REMEMBERED_MAX: usize = 256;

/// Of a request's body, so much is repeated.
const BODY_SHOWN_MAX: usize = 1024;

/// The longest that a request can wish for, of either.
const DELAY_MAX: Duration = Duration::from_secs(60);
const DOWN_MAX: Duration = Duration::from_secs(300);

/// After a port could not be had, or a connection not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What of the gateway's doing is worth showing.
const HEADERS_SHOWN: [&str; 6] =
    ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via", "x-request-id"];

#[derive(Debug)]
pub(super) struct StandIn {
    name: String,
    /// The requests of late, by id, and how many attempts of each came.
    attempts: RefCell<VecDeque<(String, u32)>>,
    /// For how long to be gone from now; each change is a new wish.
    down: watch::Sender<Duration>,
}

impl StandIn {
    /// Serves on this thread's local runtime, for as long as that runs.
    pub(super) fn start(name: &str, listener: TcpListener) -> std::io::Result<()> {
        let address = listener.local_addr()?;
        let stand_in = Rc::new(StandIn {
            name: name.to_owned(),
            attempts: RefCell::default(),
            down: watch::Sender::new(Duration::ZERO),
        });
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::task::spawn_local(stand_in.live(listener, address));
        Ok(())
    }

    /// Up, and down when told to, and up again.
    async fn live(self: Rc<Self>, mut listener: tokio::net::TcpListener, address: SocketAddr) {
        let mut down = self.down.subscribe();
        loop {
            tokio::select! {
                () = self.accept(&listener) => {}
                _ = down.changed() => {}
            }
            let gone = *down.borrow_and_update();
            // Without its listener the port refuses; the connections end by the same signal.
            drop(listener);
            tokio::time::sleep(gone).await;
            listener = loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
        }
    }

    async fn accept(self: &Rc<Self>, listener: &tokio::net::TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::task::spawn_local(self.clone().connection(stream))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn connection(self: Rc<Self>, stream: tokio::net::TcpStream) {
        let mut down = self.down.subscribe();
        let service = service_fn(|request| {
            let stand_in = self.clone();
            async move { Ok::<_, Infallible>(stand_in.answer(request).await) }
        });
        let mut http =
            std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        // However it ends: the gateway on the other side tells what it saw.
        let _ = tokio::select! {
            ended = http.as_mut() => ended,
            _ = down.changed() => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/health" {
            return page(StatusCode::OK, &json!({"status": "ok", "service": self.name}));
        }
        if head.uri.path().ends_with("/_stand-in/down") {
            return self.go_down(&head);
        }
        let body = shown(body).await;
        let attempt = self.count_attempt(&head);
        match Wish::of(head.uri.query().unwrap_or_default()) {
            Err(text) => page(StatusCode::BAD_REQUEST, &json!({"error": text})),
            Ok(wish) => {
                tokio::time::sleep(wish.delay).await;
                let status = match wish.fail >= attempt {
                    true => StatusCode::SERVICE_UNAVAILABLE,
                    false => wish.status,
                };
                let method = head.method.as_str();
                let mut answer = json!({
                    "service": self.name,
                    "attempt": attempt,
                    "method": method,
                    "path": head.uri.path(),
                    "query": head.uri.query(),
                    "body": body,
                    "headers": headers_shown(&head.headers),
                });
                if status.is_client_error() || status.is_server_error() {
                    answer["error"] = format!("{} as it was told to", status.as_u16()).into();
                }
                page(status, &answer)
            }
        }
    }

    fn go_down(&self, head: &http::request::Parts) -> Response<Full<Bytes>> {
        if head.method != Method::POST {
            let hint = json!({"error": "POST takes this stand-in down"});
            return page(StatusCode::METHOD_NOT_ALLOWED, &hint);
        }
        let wished = value_of(head.uri.query().unwrap_or_default(), "for");
        match duration(wished.unwrap_or("10s"), DOWN_MAX) {
            Err(text) => page(StatusCode::BAD_REQUEST, &json!({"error": text})),
            Ok(gone) => {
                self.down.send_replace(gone);
                let gone = humantime::format_duration(gone).to_string();
                let mut response =
                    page(StatusCode::OK, &json!({"service": self.name, "down_for": gone}));
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }

    /// Which attempt at its request this is: the gateway keeps a request's id through all of them.
    fn count_attempt(&self, head: &http::request::Parts) -> u32 {
        let Some(id) = head.headers.get("x-request-id").and_then(|id| id.to_str().ok()) else {
            return 1;
        };
        let mut attempts = self.attempts.borrow_mut();
        if let Some((_, count)) = attempts.iter_mut().rev().find(|(known, _)| known == id) {
            *count += 1;
            return *count;
        }
        if attempts.len() == REMEMBERED_MAX {
            attempts.pop_front();
        }
        attempts.push_back((id.to_owned(), 1));
        1
    }
}

/// What a request's query tells a stand-in to do.
struct Wish {
    fail: u32,
    status: StatusCode,
    delay: Duration,
}

impl Wish {
    fn of(query: &str) -> Result<Wish, String> {
        let mut wish = Wish { fail: 0, status: StatusCode::OK, delay: Duration::ZERO };
        if let Some(text) = value_of(query, "fail") {
            wish.fail = text.parse().map_err(|_| format!("fail={text} is not a number"))?;
        }
        if let Some(text) = value_of(query, "status") {
            let status = text.parse().ok().filter(|status| (200..=599).contains(status));
            let status = status.and_then(|status: u16| StatusCode::from_u16(status).ok());
            wish.status = status.ok_or_else(|| format!("status={text} is not from 200 to 599"))?;
        }
        if let Some(text) = value_of(query, "delay") {
            wish.delay = duration(text, DELAY_MAX)?;
        }
        Ok(wish)
    }
}

fn value_of<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn duration(text: &str, max: Duration) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= max => Ok(duration),
        Ok(_) => Err(format!("{text} is longer than {max:?}")),
        Err(_) => Err(format!("{text} is not a duration like 2s or 500ms")),
    }
}

/// Reads a body to its end and keeps its beginning, as text.
async fn shown(mut body: Incoming) -> String {
    let mut shown = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            let room = BODY_SHOWN_MAX - shown.len();
            shown.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}

fn headers_shown(headers: &http::HeaderMap) -> Value {
    let shown = HEADERS_SHOWN.iter().filter_map(|name| {
        let value = headers.get(*name)?;
        Some(((*name).to_owned(), String::from_utf8_lossy(value.as_bytes()).into()))
    });
    Value::Object(shown.collect::<Map<_, _>>())
}

/// Lines, for a terminal.
fn page(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut text = format!("{value:#}");
    text.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
