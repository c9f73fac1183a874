//! The head of a response: read, and what it says about the body and the connection.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::body::Framing;
use super::chunked::Chunked;
use super::{Error, HeadLimits};
use crate::headers::lists;

/// Fields for which there is room on the stack.
const FIELDS_ON_STACK: usize = 100;

/// What the gateway adds to a response: to make room for it later would be to move all of it.
const FIELDS_ADDED: usize = 4;

/// Takes a head from the front of what was read. None: it is not whole; `searched` is how far was looked
/// for its end.
pub(super) fn parse(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<Parts>, Error> {
    let Some(length) = end_of(read, searched) else {
        return match read.len() < limits.bytes {
            true => Ok(None),
            false => Err(Error::HeadTooLarge),
        };
    };
    if length > limits.bytes {
        return Err(Error::HeadTooLarge);
    }
    let head = read.split_to(length).freeze();
    if limits.fields <= FIELDS_ON_STACK {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
        parts_of(&head, &mut fields[..limits.fields]).map(Some)
    } else {
        parts_of(&head, &mut vec![MaybeUninit::uninit(); limits.fields]).map(Some)
    }
}

/// Behind the first empty line. What was searched without finding it is not searched again.
fn end_of(read: &[u8], searched: &mut usize) -> Option<usize> {
    // The line's end before it may be what was seen last.
    let from = searched.saturating_sub(2);
    let found =
        memchr::memchr_iter(b'\n', &read[from..]).find_map(|at| match &read[from + at + 1..] {
            [b'\n', ..] => Some(from + at + 2),
            [b'\r', b'\n', ..] => Some(from + at + 3),
            _ => None,
        });
    *searched = if found.is_some() { 0 } else { read.len() };
    found
}

fn parts_of<'a>(head: &'a Bytes, fields: &mut [MaybeUninit<Header<'a>>]) -> Result<Parts, Error> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, head, fields)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => Error::HeadTooLarge,
            httparse::Error::HeaderName | httparse::Error::HeaderValue => {
                Error::Malformed("a header field that is none")
            }
            _ => Error::Malformed("a status line that is none"),
        })?;
    if parsed != Status::Complete(head.len()) {
        return Err(Error::Malformed("a head whose end is ambiguous"));
    }
    let (Some(code), Some(version)) = (response.code, response.version) else {
        return Err(Error::Malformed("no status line"));
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status =
        StatusCode::from_u16(code).map_err(|_| Error::Malformed("a status below 100"))?;
    parts.version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    if let Some(reason) = response.reason.filter(|it| parts.status.canonical_reason() != Some(it))
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        parts.extensions.insert(reason);
    }
    parts.headers = map_of(head, response.headers)?;
    Ok(parts)
}

/// The fields as a map, whose values are pieces of `block`.
fn map_of(block: &Bytes, fields: &[Header<'_>]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(fields.len() + FIELDS_ADDED);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Error::Malformed("a header field that is none"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// Takes the fields behind a body in chunks, and the empty line behind them, from the front of what was
/// read. None: they are not whole.
pub(super) fn trailers(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<Option<HeaderMap>>, Error> {
    if read.starts_with(b"\n") {
        return Err(Error::Malformed("a line that ends without a carriage return"));
    }
    if read.starts_with(b"\r\n") {
        let _ = read.split_to(2);
        return Ok(Some(None));
    }
    let length = end_of(read, searched);
    if length.unwrap_or(read.len()) > limits.bytes {
        return Err(Error::Malformed("trailers that are larger than a head may be"));
    }
    let Some(length) = length else { return Ok(None) };
    let block = read.split_to(length).freeze();
    let mut fields = vec![httparse::EMPTY_HEADER; limits.fields];
    match httparse::parse_headers(&block, &mut fields) {
        Ok(Status::Complete((count, fields))) if count == block.len() => {
            map_of(&block, fields).map(Some).map(Some)
        }
        _ => Err(Error::Malformed("trailers that are none, or too many")),
    }
}

/// How the body behind a head ends (RFC 9112 section 6.3).
pub(super) fn framing_of(head: &Parts, method: &Method) -> Result<Framing, Error> {
    let bodiless = head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || method == Method::HEAD {
        return Ok(Framing::Ended);
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return match head.version {
            Version::HTTP_10 => Err(Error::Malformed("a transfer coding in HTTP/1.0")),
            // What else it may be is refused by who asked.
            _ => Ok(Framing::Chunked(Chunked::default())),
        };
    }
    let mut lengths = lists(&head.headers, &CONTENT_LENGTH);
    let Some(first) = lengths.next() else { return Ok(Framing::UntilClosed) };
    let length = std::str::from_utf8(first).ok();
    // `parse` alone would let a plus sign pass.
    let length = length.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    match length.and_then(|it| it.parse().ok()) {
        Some(length) if lengths.all(|other| other == first) => Ok(Framing::of_length(length)),
        _ => Err(Error::Malformed("a content-length that is none")),
    }
}

/// Whether the connection may serve again (RFC 9112 section 9.3).
pub(super) fn persists(head: &Parts) -> bool {
    let says = |option: &str| {
        lists(&head.headers, &CONNECTION).any(|it| it.eq_ignore_ascii_case(option.as_bytes()))
    };
    match head.version {
        Version::HTTP_10 => says("keep-alive") && !says("close"),
        // One that is framed twice may have been understood in another way by what is in between.
        _ => !says("close") && !is_framed_twice(&head.headers),
    }
}

/// Whether a body would follow, were it not for the status or the request's method.
pub(super) fn announces_body(head: &Parts) -> bool {
    head.headers.contains_key(TRANSFER_ENCODING)
        || head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}
