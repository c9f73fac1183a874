//! What stands behind every proxy: 100 bytes for everything, but
//! - `/large`: 1 MiB;
//! - `/flaky`: every twentieth answer is a 503.
//!
//! A request's body is read to its end before the answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

static SMALL: [u8; 100] = [b'x'; 100];
static LARGE: [u8; 1 << 20] = [b'x'; 1 << 20];

const FAILS_EVERY: u64 = 20;

pub(crate) async fn serve(address: SocketAddr) {
    let listener = super::listener(address);
    let asked = Rc::new(Cell::new(0));
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let asked = asked.clone();
        let service = service_fn(move |request| answer(request, asked.clone()));
        tokio::task::spawn_local(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Rc<Cell<u64>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    while let Some(Ok(_)) = body.frame().await {}
    let (status, bytes): (_, &'static [u8]) = match head.uri.path() {
        "/large" => (StatusCode::OK, &LARGE),
        "/flaky" => {
            asked.set(asked.get() + 1);
            let fails = asked.get().is_multiple_of(FAILS_EVERY);
            (if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, &SMALL)
        }
        _ => (StatusCode::OK, &SMALL),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(bytes)));
    *response.status_mut() = status;
    Ok(response)
}
