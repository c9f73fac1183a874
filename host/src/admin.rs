//! The admin listener, on the control thread: `/metrics`, `/livez`, `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::telemetry::metrics::{self, Counters};
use crate::upstream::Services;

/// Connections of operators and scrapers at once.
const CONNECTIONS_MAX: usize = 64;

/// For the head of a request, and for idle connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the admin pages show.
#[derive(Debug)]
pub(crate) struct Shared {
    services: Arc<Services>,
    counters: Vec<Arc<Counters>>,
    access_dropped: Arc<AtomicU64>,
    ready: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        services: Arc<Services>,
        counters: Vec<Arc<Counters>>,
        access_dropped: Arc<AtomicU64>,
    ) -> Arc<Shared> {
        Arc::new(Shared { services, counters, access_dropped, ready: AtomicBool::new(false) })
    }

    /// Whether `/readyz` says that requests are welcome.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let text = "text/plain; charset=utf-8";
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, text, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => {
                let dropped = self.access_dropped.load(Ordering::Relaxed);
                let body = metrics::encode(&self.services, &self.counters, dropped);
                page(StatusCode::OK, metrics::CONTENT_TYPE, body)
            }
            "/livez" => page(StatusCode::OK, text, "ok\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => page(StatusCode::OK, text, "ok\n"),
            "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, text, "not ready\n"),
            _ => page(StatusCode::NOT_FOUND, text, "there are /metrics, /livez and /readyz\n"),
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
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let response = shared.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = http1::Builder::new() // What goes wrong here is the operator's own client.
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}
