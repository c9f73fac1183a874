//! The admin listener, on the control thread: `/metrics`, `/livez`, `/readyz`, and what operators ask of
//! the policies (`admin/api.rs`).

mod api;
mod listener;
mod receive;
mod tokens;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Config;
use crate::io::{Meter, Patience, Socket};
use crate::rollout::Rollout;
use crate::telemetry::metrics::{Format, Metrics};
pub(crate) use listener::Listener;
use listener::Stream;

/// Connections of operators and scrapers at once.
const CONNECTIONS_MAX: usize = 64;

/// Of them, so many may follow the events: none is to keep out who asks whether the gateway lives.
const FOLLOWERS_MAX: usize = 32;

/// Versions that may wait for the compiler, each with its component.
const PROPOSERS_MAX: usize = 4;

/// Who guesses tokens does not fill the log.
const WRONG_TOKENS_TOLD_EVERY: Duration = Duration::from_secs(1);

/// Bytes and fields that the head of a request may have.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEAD_FIELDS_MAX: usize = 64;

/// For the head of a request, for the next one, and for a response that is not taken.
const PATIENCE: Patience = Patience {
    header: Duration::from_secs(10),
    keep_alive: Duration::from_secs(120),
    write_stall: Duration::from_secs(10),
    rate_min: None,
    wakes: true,
};

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A response of the admin listener. Only that of `/events` has no end.
type Page = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What the admin pages show.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Arc<Config>,
    rollout: Rc<Rollout>,
    metrics: Arc<Metrics>,
    /// Held while a page of metrics is made: one at a time, whoever asks.
    making: Semaphore,
    ready: AtomicBool,
    /// When the log last told of a wrong token.
    wrong_token_told: Cell<Option<Instant>>,
    /// Places of those who follow the events.
    followers: Arc<Semaphore>,
    /// Places of versions that were pushed and are not looked at yet.
    proposers: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(metrics: Metrics, rollout: Rc<Rollout>, config: &Arc<Config>) -> Rc<Shared> {
        tokens::warn_of_missing(&config.admin.tokens);
        Rc::new(Shared {
            config: config.clone(),
            rollout,
            metrics: Arc::new(metrics),
            making: Semaphore::new(1),
            ready: AtomicBool::new(false),
            wrong_token_told: Cell::new(None),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            proposers: Arc::new(Semaphore::new(PROPOSERS_MAX)),
        })
    }

    /// Somebody guesses, or a token cannot be read any more.
    fn note_wrong_token(&self) {
        let now = Instant::now();
        let told = self.wrong_token_told.get();
        if told.is_some_and(|told| now.duration_since(told) < WRONG_TOKENS_TOLD_EVERY) {
            return;
        }
        self.wrong_token_told.set(Some(now));
        tracing::warn!("a change was refused: its token is none of [admin.tokens]");
        tokens::warn_of_missing(&self.config.admin.tokens);
    }

    /// Whether `/readyz` says that requests are welcome.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    async fn answer(&self, request: Request<Incoming>) -> Page {
        let text = "text/plain; charset=utf-8";
        let path = request.uri().path();
        let is_plain = matches!(path, "/metrics" | "/livez" | "/readyz");
        if !is_plain {
            return api::answer(self, request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, text, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/livez" => page(StatusCode::OK, text, "ok\n"),
            "/readyz" if self.ready() => page(StatusCode::OK, text, "ok\n"),
            "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, text, "not ready\n"),
            _ => {
                let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
                self.metrics_page(Format::accepted(accept)).await
            }
        }
    }

    /// Made on a thread of its own: with thousands of series it takes long enough to delay the
    /// checks that this one makes.
    async fn metrics_page(&self, format: Format) -> Page {
        let _making = self.making.acquire().await.expect("the semaphore is never closed");
        let metrics = self.metrics.clone();
        match tokio::task::spawn_blocking(move || metrics.page(format)).await {
            Ok(body) => {
                let mut response = page(StatusCode::OK, format.content_type(), body);
                response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
                response
            }
            // The process ends: a thread that panics does that, and nobody cancels this one.
            Err(error) => {
                tracing::error!(%error, "the metrics could not be put together");
                let text = "text/plain; charset=utf-8";
                page(StatusCode::INTERNAL_SERVER_ERROR, text, "no metrics\n")
            }
        }
    }
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Serves until its task is aborted.
pub(crate) async fn serve(listener: Listener, shared: Rc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            serve_connection(stream, shared).await;
            drop(place);
        });
    }
}

async fn serve_connection(stream: Stream, shared: Rc<Shared>) {
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEAD_FIELDS_MAX);
    match stream {
        Stream::Tcp(stream) => {
            let (socket, meter) = Socket::accepted(stream, PATIENCE);
            // `io.rs` keeps this time: hyper's timer would also count idleness.
            http.header_read_timeout(None);
            answer_all(&http, socket, Some(meter), shared).await;
        }
        Stream::Unix(socket) => {
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE.keep_alive);
            answer_all(&http, socket, None, shared).await;
        }
    }
}

/// Answers what comes on this connection. `meter` is that of `io.rs`, where the socket is one of its.
async fn answer_all(
    http: &http1::Builder,
    socket: impl AsyncRead + AsyncWrite + Unpin,
    meter: Option<Rc<Meter>>,
    shared: Rc<Shared>,
) {
    let service = service_fn(move |request| {
        let (shared, meter) = (shared.clone(), meter.clone());
        if let Some(meter) = &meter {
            meter.exchange_begins();
        }
        async move {
            let response = shared.answer(request).await;
            // What follows events lasts as long as they do: nobody waits for a next request meanwhile.
            if let Some(meter) = &meter
                && response.body().size_hint().exact().is_some()
            {
                meter.exchange_ends(Instant::now(), false);
            }
            Ok::<_, Infallible>(response)
        }
    });
    // What goes wrong here is the operator's own client.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}
