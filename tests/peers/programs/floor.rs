//! The floor: what a proxy made of hyper costs that does nothing but pass requests on, over kept
//! connections, with `/api/writer` taken off their paths. No log, no timeouts, no headers of its own, no
//! checks: not a proxy to use.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use hyper::http::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Idle = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

pub(crate) async fn serve(address: SocketAddr, upstream: SocketAddr) {
    let listener = super::listener(address);
    let idle = Idle::default();
    let host = HeaderValue::from_str(&upstream.to_string()).unwrap();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let (idle, host) = (idle.clone(), host.clone());
        let service =
            service_fn(move |request| pass_on(request, upstream, host.clone(), idle.clone()));
        tokio::task::spawn_local(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn pass_on(
    mut request: Request<Incoming>,
    upstream: SocketAddr,
    host: HeaderValue,
    idle: Idle,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, hyper::Error> {
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let target = target.strip_prefix("/api/writer").unwrap_or(target).parse().unwrap();
    *request.uri_mut() = target;
    request.headers_mut().insert(HOST, host);
    let kept = loop {
        match idle.borrow_mut().pop() {
            Some(connection) if connection.is_closed() => {}
            kept => break kept,
        }
    };
    let mut connection = match kept {
        Some(connection) => connection,
        None => connect(upstream).await?,
    };
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    // Handed back before the body ends: `ready` waits for that.
    idle.borrow_mut().push(connection);
    Ok(response.map(BodyExt::boxed))
}

async fn connect(upstream: SocketAddr) -> Result<SendRequest<Incoming>, hyper::Error> {
    let socket = TcpStream::connect(upstream).await.expect("the upstream listens");
    let _ = socket.set_nodelay(true);
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
