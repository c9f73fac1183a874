//! The head of a message: read, and what it says about the body and the connection.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    request, response,
};
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::body::Framing;
use super::chunked::Chunked;
use super::{Error, HeadLimits};
use crate::headers::lists;

/// Fields for which there is room on the stack.
const FIELDS_ON_STACK: usize = 100;

/// The `http` crate takes no longer one.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

const NO_LENGTH: Error = Error::Malformed("a content-length that is none");

/// What the gateway adds to a response: to make room for it later would be to move all of it.
const FIELDS_ADDED: usize = 4;

/// Takes a response's head from the front of what was read. None: it is not whole; `searched` is how far was
/// looked for its end.
pub(super) fn response(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<response::Parts>, Error> {
    let Some(head) = take(read, searched, limits)? else { return Ok(None) };
    with_fields(limits, |fields| response_of(&head, fields)).map(Some)
}

/// The same of a request's.
pub(super) fn request(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<request::Parts>, Error> {
    let Some(head) = take(read, searched, limits)? else { return Ok(None) };
    with_fields(limits, |fields| request_of(&head, fields)).map(Some)
}

/// Takes the bytes of a head.
fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<Bytes>, Error> {
    let Some(length) = end_of(read, searched) else {
        return match read.len() < limits.bytes {
            true => Ok(None),
            false => Err(Error::HeadTooLarge),
        };
    };
    if length > limits.bytes {
        return Err(Error::HeadTooLarge);
    }
    Ok(Some(read.split_to(length).freeze()))
}

/// Has a head read with room for as many fields as it may have.
fn with_fields<'a, R>(
    limits: HeadLimits,
    read: impl FnOnce(&mut [MaybeUninit<Header<'a>>]) -> R,
) -> R {
    if limits.fields <= FIELDS_ON_STACK {
        read(&mut [const { MaybeUninit::uninit() }; FIELDS_ON_STACK][..limits.fields])
    } else {
        read(&mut vec![MaybeUninit::uninit(); limits.fields])
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

fn response_of<'a>(
    head: &'a Bytes,
    fields: &mut [MaybeUninit<Header<'a>>],
) -> Result<response::Parts, Error> {
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, fields);
    is_whole(parsed, head, "a status line that is none")?;
    let (Some(code), Some(version)) = (response.code, response.version) else {
        return Err(Error::Malformed("no status line"));
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status =
        StatusCode::from_u16(code).map_err(|_| Error::Malformed("a status below 100"))?;
    parts.version = version_of(version);
    if let Some(reason) = response.reason.filter(|it| parts.status.canonical_reason() != Some(it))
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        parts.extensions.insert(reason);
    }
    parts.headers = map_of(head, response.headers)?;
    Ok(parts)
}

fn request_of<'a>(
    head: &'a Bytes,
    fields: &mut [MaybeUninit<Header<'a>>],
) -> Result<request::Parts, Error> {
    let mut request = httparse::Request::new(&mut []);
    let parsed =
        ParserConfig::default().parse_request_with_uninit_headers(&mut request, head, fields);
    is_whole(parsed, head, "a request line that is none")?;
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Error::Malformed("no request line"));
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Error::TargetTooLong);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Error::Malformed("a method that is none"))?;
    parts.uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| Error::Malformed("a request target that is none"))?;
    parts.version = version_of(version);
    parts.headers = map_of(head, request.headers)?;
    Ok(parts)
}

/// Whether httparse finds the head's end where it was found before.
fn is_whole(
    parsed: httparse::Result<usize>,
    head: &Bytes,
    wrong_line: &'static str,
) -> Result<(), Error> {
    match parsed {
        Ok(Status::Complete(length)) if length == head.len() => Ok(()),
        Ok(_) => Err(Error::Malformed("a head whose end is ambiguous")),
        Err(httparse::Error::TooManyHeaders) => Err(Error::TooManyFields),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
            Err(Error::Malformed("a header field that is none"))
        }
        Err(_) => Err(Error::Malformed(wrong_line)),
    }
}

fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
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

/// How the body behind a response's head ends (RFC 9112 section 6.3).
pub(super) fn response_framing(head: &response::Parts, method: &Method) -> Result<Framing, Error> {
    let bodiless = head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || method == Method::HEAD {
        return Ok(Framing::Ended);
    }
    Ok(framing(head.version, &head.headers)?.unwrap_or(Framing::UntilClosed))
}

/// How the body behind a request's head ends: without a word about it, there is none.
pub(super) fn request_framing(head: &request::Parts) -> Result<Framing, Error> {
    // A recipient may take `4, 4` for 4, and the next one need not.
    if head.headers.get_all(CONTENT_LENGTH).iter().any(|length| length.as_bytes().contains(&b',')) {
        return Err(NO_LENGTH);
    }
    Ok(framing(head.version, &head.headers)?.unwrap_or(Framing::Ended))
}

fn framing(version: Version, headers: &HeaderMap) -> Result<Option<Framing>, Error> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return match version {
            Version::HTTP_10 => Err(Error::Malformed("a transfer coding in HTTP/1.0")),
            // What else it may be is refused by who asked.
            _ => Ok(Some(Framing::Chunked(Chunked::default()))),
        };
    }
    let mut lengths = lists(headers, &CONTENT_LENGTH);
    let Some(first) = lengths.next() else { return Ok(None) };
    let length = std::str::from_utf8(first).ok();
    // `parse` alone would let a plus sign pass.
    let length = length.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    // Beyond that others count into the negative.
    match length.and_then(|it| it.parse().ok()).filter(|length| *length <= i64::MAX as u64) {
        Some(length) if lengths.all(|other| other == first) => Ok(Some(Framing::of_length(length))),
        _ => Err(NO_LENGTH),
    }
}

/// Whether another message may follow on the connection (RFC 9112 section 9.3).
pub(super) fn persists(version: Version, headers: &HeaderMap) -> bool {
    let says = |option: &str| {
        lists(headers, &CONNECTION).any(|it| it.eq_ignore_ascii_case(option.as_bytes()))
    };
    match version {
        Version::HTTP_10 => says("keep-alive") && !says("close"),
        // One that is framed twice may have been understood in another way by what is in between.
        _ => !says("close") && !is_framed_twice(headers),
    }
}

/// Whether a body would follow, were it not for the status or the request's method.
pub(super) fn announces_body(head: &response::Parts) -> bool {
    head.headers.contains_key(TRANSFER_ENCODING)
        || head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}
