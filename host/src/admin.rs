//! The admin listener, on the control thread: `/metrics`, `/livez`, `/readyz`.

mod listener;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::io::{Meter, Patience, Socket};
use crate::telemetry::metrics::{Format, Metrics};
pub(crate) use listener::Listener;
use listener::Stream;

/// Connections of operators and scrapers at once.
const CONNECTIONS_MAX: usize = 64;

/// Bytes and fields that the head of a request may have.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEAD_FIELDS_MAX: usize = 64;

/// For the head of a request, for the next one, and for a response that is not taken.
const PATIENCE: Patience = Patience {
    header: Duration::from_secs(10),
    keep_alive: Duration::from_secs(120),
    write_stall: Duration::from_secs(10),
    rate_min: None,
};

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the admin pages show.
#[derive(Debug)]
pub(crate) struct Shared {
    metrics: Arc<Metrics>,
    /// Held while a page of metrics is made: one at a time, whoever asks.
    making: Semaphore,
    ready: AtomicBool,
}

impl Shared {
    pub(crate) fn new(metrics: Metrics) -> Arc<Shared> {
        Arc::new(Shared {
            metrics: Arc::new(metrics),
            making: Semaphore::new(1),
            ready: AtomicBool::new(false),
        })
    }

    /// Whether `/readyz` says that requests are welcome.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let text = "text/plain; charset=utf-8";
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, text, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => {
                let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
                self.metrics_page(Format::accepted(accept)).await
            }
            "/livez" => page(StatusCode::OK, text, "ok\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => page(StatusCode::OK, text, "ok\n"),
            "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, text, "not ready\n"),
            _ => page(StatusCode::NOT_FOUND, text, "there are /metrics, /livez and /readyz\n"),
        }
    }

    /// Made on a thread of its own: with thousands of series it takes long enough to delay the
    /// checks that this one makes.
    async fn metrics_page(&self, format: Format) -> Response<Full<Bytes>> {
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

fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Serves until its task is aborted.
pub(crate) async fn serve(listener: Listener, shared: Arc<Shared>) {
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

async fn serve_connection(stream: Stream, shared: Arc<Shared>) {
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
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| {
        let (shared, meter) = (shared.clone(), meter.clone());
        if let Some(meter) = &meter {
            meter.exchange_begins();
        }
        async move {
            let response = shared.answer(&request).await;
            if let Some(meter) = &meter {
                meter.exchange_ends(Instant::now(), false);
            }
            Ok::<_, Infallible>(response)
        }
    });
    // What goes wrong here is the operator's own client.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}
