//! Any outcome of an exchange into its response: the only place that chooses the status and body
//! of a response that the gateway makes itself.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, ORIGIN, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::body::ResponseBody;
use crate::exchange::Exchange;
use crate::forward::{Answer, Failure};
use crate::headers;
use crate::http1::{self, Incoming};
use crate::route::{Edit, PolicyAnswer};
use crate::telemetry::record::Record;
use crate::upgrade::{self, Tunnel};
use crate::upstream::pool::Lease;

/// A response that is not passed on is read up to here, so that its connection can be used again.
const DRAIN_BYTES_MAX: usize = 16 << 10;

/// And for no longer than this.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// What an exchange came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A service answered.
    Upstream {
        answer: Box<Answer>,
        edits: Vec<Edit>,
    },
    /// The routing policy answered.
    Policy(PolicyAnswer),
    /// One of the gateway's own pages.
    Page(Response<Bytes>),
    /// The answer to a CORS preflight.
    Preflight(HeaderMap),
    Refused(Refusal),
}

/// Why the gateway has no response to pass on.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request is not one that HTTP allows.
    BadRequest(String),
    /// The request's body has, or announces, more than `limits.body_bytes`.
    BodyTooLarge,
    /// The routing policy declined.
    NoRoute,
    /// A page of the gateway, asked for by a method that it does not have.
    PageMethod,
    /// No page of the gateway has this name; the text says which there are.
    NoPage(String),
    /// No policy could decide.
    PolicyFault,
    CircuitOpen {
        service: usize,
        retry_in: Duration,
    },
    Failed {
        service: usize,
        failure: Failure,
    },
    /// The control thread did not answer in time.
    NoHealth,
}

/// What of the request its response depends on.
#[derive(Debug)]
pub(crate) struct Client {
    origin: Option<HeaderValue>,
    takes_trailers: bool,
}

impl Client {
    pub(crate) fn of(head: &http::request::Parts) -> Client {
        Client {
            origin: head.headers.get(ORIGIN).cloned(),
            takes_trailers: headers::takes_trailers(head.version, &head.headers),
        }
    }
}

/// Makes the response, and hands it the record that is written when it has ended.
pub(crate) fn respond(
    exchange: &Exchange,
    client: Client,
    outcome: Outcome,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    let snapshot = &exchange.snapshot;
    let is_own = !matches!(outcome, Outcome::Upstream { .. });
    let mut response = match outcome {
        Outcome::Upstream { answer, edits } => {
            exchange.body.keep_no_more();
            let Answer { response, lease, in_flight } = *answer;
            let (mut head, incoming) = response.into_parts();
            let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
            let protocol = head.headers.get(UPGRADE).filter(|_| switched).cloned();
            let (id, trailers) = (&exchange.request_id, client.takes_trailers);
            headers::to_client(&mut head.headers, id, head.version, trailers);
            headers::apply(&edits, &mut head.headers);
            record.status = head.status.as_u16();
            // The version is the connection's own business, not the service's.
            head.version = Version::HTTP_11;
            if let Some(protocol) = protocol {
                upgrade::set(&protocol, &mut head.headers);
                *exchange.connection.tunnel.borrow_mut() =
                    Some(Tunnel { lease, in_flight, record });
                return Response::from_parts(head, ResponseBody::none());
            }
            let idle = in_flight.service().config.idle_timeout;
            let body = ResponseBody::upstream(incoming, lease, in_flight, idle, record);
            Response::from_parts(head, body)
        }
        Outcome::Policy(answer) => own(policy_response(answer), record),
        Outcome::Page(page) => own(page, record),
        Outcome::Preflight(headers) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = headers;
            let mut response = own(response, record);
            response.headers_mut().insert(headers::X_REQUEST_ID, exchange.request_id.clone());
            close_where_due(exchange, response.headers_mut());
            return response;
        }
        Outcome::Refused(refusal) => {
            record.refused(&refusal);
            own(problem_of(exchange, &refusal), record)
        }
    };
    snapshot.cors.apply(client.origin.as_ref(), response.headers_mut());
    if is_own {
        response.headers_mut().insert(headers::X_REQUEST_ID, exchange.request_id.clone());
    }
    close_where_due(exchange, response.headers_mut());
    response
}

/// Says so where the connection cannot serve another request.
fn close_where_due(exchange: &Exchange, headers: &mut HeaderMap) {
    // A client that was not asked for its body may send it or not: what follows would be a guess.
    let unasked = exchange.expectation.is_some() && !exchange.body.whole();
    if exchange.worker().draining() || unasked {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn own(mut response: Response<Bytes>, mut record: Box<Record>) -> Response<ResponseBody> {
    record.status = response.status().as_u16();
    if record.body().has_long_rest() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|bytes| ResponseBody::own(bytes, record))
}

fn policy_response(answer: PolicyAnswer) -> Response<Bytes> {
    let is_error = answer.status.as_u16() >= 400;
    let mut response = match answer.body {
        None if is_error => {
            problem(answer.status, answer.status.canonical_reason().unwrap_or("refused"))
        }
        body => {
            let mut response = Response::new(body.unwrap_or_default());
            if !response.body().is_empty() {
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, text);
            }
            response
        }
    };
    *response.status_mut() = answer.status;
    headers::apply(&answer.headers, response.headers_mut());
    response
}

/// Status and words for each way in which there is nothing to pass on. The client learns what it
/// can act on; causes are in the log.
fn problem_of(exchange: &Exchange, refusal: &Refusal) -> Response<Bytes> {
    let name = |service: &usize| &exchange.snapshot.services.all[*service].name;
    match refusal {
        Refusal::BadRequest(reason) => closing(problem(StatusCode::BAD_REQUEST, reason)),
        Refusal::BodyTooLarge => body_too_large(),
        Refusal::NoRoute => problem(StatusCode::NOT_FOUND, "no route leads from this path"),
        Refusal::NoPage(text) => problem(StatusCode::NOT_FOUND, text),
        Refusal::PageMethod => {
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, "this page is read with GET or HEAD");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        Refusal::PolicyFault => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway cannot route this request now")
        }
        Refusal::NoHealth => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the health of the services is not known now")
        }
        Refusal::CircuitOpen { service, retry_in } => {
            let detail = format!("{} service unavailable: circuit open", name(service));
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
            let seconds = retry_in.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Refusal::Failed { service, failure } => match failure {
            Failure::Connect(_) => unavailable(name(service), "no connection"),
            Failure::Lost(_) | Failure::Invalid(_) => unavailable(name(service), "connection lost"),
            Failure::AttemptTimeout(_)
            | Failure::RequestTimeout { .. }
            | Failure::BodyStalled(_) => {
                problem(StatusCode::GATEWAY_TIMEOUT, &format!("{} service timeout", name(service)))
            }
            Failure::BodyTooLarge => body_too_large(),
            Failure::ClientStalled(_) | Failure::ClientSlow => {
                let detail = "the request's body stopped coming";
                closing(problem(StatusCode::REQUEST_TIMEOUT, detail))
            }
            Failure::ClientBroke(_) => {
                closing(problem(StatusCode::BAD_REQUEST, "the request's body is broken"))
            }
        },
    }
}

fn body_too_large() -> Response<Bytes> {
    let detail = "the request's body is larger than this gateway takes here";
    closing(problem(StatusCode::PAYLOAD_TOO_LARGE, detail))
}

fn unavailable(service: &str, cause: &str) -> Response<Bytes> {
    let detail = format!("{service} service unavailable: {cause}");
    problem(StatusCode::SERVICE_UNAVAILABLE, &detail)
}

/// After a request that could not be read to its end, the connection cannot be understood either.
fn closing(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// RFC 9457. `type` is left out: its default, `about:blank`, says that the status is the type.
fn problem(status: StatusCode, detail: &str) -> Response<Bytes> {
    #[derive(Serialize)]
    struct Problem<'a> {
        title: &'a str,
        status: u16,
        detail: &'a str,
    }
    let title = status.canonical_reason().unwrap_or("Error");
    let body = serde_json::to_vec(&Problem { title, status: status.as_u16(), detail })
        .expect("strings and a number always serialise");
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The response to what is no request; none where nobody is there to read it.
pub(crate) fn unreadable(error: &http1::Error) -> Option<String> {
    use http1::Error::{
        Closed, HeadTooLarge, Incomplete, Io, Malformed, Request, TargetTooLong, TooManyFields,
    };
    let status = match error {
        Malformed(_) => StatusCode::BAD_REQUEST,
        TargetTooLong => StatusCode::URI_TOO_LONG,
        HeadTooLarge | TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Io(_) | Closed | Incomplete | Request(_) => return None,
    };
    let response = problem(status, &error.to_string());
    let body = std::str::from_utf8(response.body()).expect("it is JSON");
    Some(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// Says that there are too many connections, and lets the client read it: closing at once, with its
/// request unread, would reset the connection under the answer.
pub(crate) async fn too_many(mut stream: TcpStream) -> std::io::Result<()> {
    const BODY: &str =
        r#"{"title":"Service Unavailable","status":503,"detail":"too many connections"}"#;
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Reads a response that will not be passed on, so that its connection can serve again. What is
/// longer than [`DRAIN_BYTES_MAX`] or slower than [`DRAIN_TIME_MAX`] costs the connection instead.
pub(crate) fn drain(mut body: Incoming, lease: Lease) {
    tokio::task::spawn_local(async move {
        let read = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.ok()?.data_ref().map_or(0, Bytes::len);
                if bytes > DRAIN_BYTES_MAX {
                    return None;
                }
            }
            Some(())
        };
        if let Ok(Some(())) = tokio::time::timeout(DRAIN_TIME_MAX, read).await {
            lease.finish();
        }
    });
}
