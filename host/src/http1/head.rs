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

/// Fields for which there is room on the stack.
const FIELDS_ON_STACK: usize = 100;

/// The `http` crate takes no longer one.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

const NO_LENGTH: Error = Error::Malformed("a content-length that is none");

/// What the gateway adds to most responses: to make room for it later would be to move all of it.
const FIELDS_ADDED: usize = 3;

/// Takes a response's head from the front of what was read. None: it is not whole; `searched` is how far was
/// looked for its end.
pub(super) fn response(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<(response::Parts, Said)>, Error> {
    let Some(head) = take(read, searched, limits)? else { return Ok(None) };
    with_fields(limits, |fields| response_of(&head, fields)).map(Some)
}

/// The same of a request's.
pub(super) fn request(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<(request::Parts, Said)>, Error> {
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
    Ok(Some(super::take(read, length)))
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
) -> Result<(response::Parts, Said), Error> {
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
    let mut said = Said::default();
    let fields = response.headers;
    parts.headers = map_of(head, fields, FIELDS_ADDED, |name, value| said.note(name, value))?;
    Ok((parts, said))
}

fn request_of<'a>(
    head: &'a Bytes,
    fields: &mut [MaybeUninit<Header<'a>>],
) -> Result<(request::Parts, Said), Error> {
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
    let mut said = Said::default();
    parts.headers = map_of(head, request.headers, 0, |name, value| said.note(name, value))?;
    Ok((parts, said))
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

/// The fields as a map with room for some more, whose values are pieces of `block`; `note` is told of each.
fn map_of(
    block: &Bytes,
    fields: &[Header<'_>],
    more: usize,
    mut note: impl FnMut(&HeaderName, &[u8]),
) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(fields.len() + more);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Error::Malformed("a header field that is none"));
        };
        note(&name, field.value);
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
            map_of(&block, fields, 0, |_, _| {}).map(Some).map(Some)
        }
        _ => Err(Error::Malformed("trailers that are none, or too many")),
    }
}

/// What a head says about the body behind it and about the connection: noted while its fields are read.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// How many fields name transfer codings.
    codings: u32,
    /// The last of them names `chunked` alone.
    is_chunked: bool,
    length: Length,
    /// One length is a list of them.
    lists_lengths: bool,
    closes: bool,
    keeps_alive: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Length {
    #[default]
    Unsaid,
    Is(u64),
    /// It is none, or not the same as before.
    Wrong,
}

impl Said {
    fn note(&mut self, name: &HeaderName, value: &[u8]) {
        let items = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        match *name {
            CONNECTION => {
                for option in items() {
                    self.closes |= option.eq_ignore_ascii_case(b"close");
                    self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            CONTENT_LENGTH => {
                self.lists_lengths |= value.contains(&b',');
                for length in items() {
                    let length = length_of(length);
                    self.length = match self.length {
                        Length::Unsaid => length,
                        same if same == length => same,
                        _ => Length::Wrong,
                    };
                }
            }
            TRANSFER_ENCODING => {
                self.codings += 1;
                self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }

    /// Whether there are transfer codings other than the one that the gateway undoes: who gets the message
    /// would find others undone by nobody.
    pub(super) fn is_coded_otherwise(&self) -> bool {
        self.codings > 1 || self.codings == 1 && !self.is_chunked
    }

    /// How the body behind a response's head ends (RFC 9112 section 6.3).
    pub(super) fn response_framing(
        &self,
        head: &response::Parts,
        method: &Method,
    ) -> Result<Framing, Error> {
        let bodiless = head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || method == Method::HEAD {
            return Ok(Framing::Ended);
        }
        Ok(self.framing(head.version)?.unwrap_or(Framing::UntilClosed))
    }

    /// The same of a request's: without a word about it, there is none.
    pub(super) fn request_framing(&self, version: Version) -> Result<Framing, Error> {
        // A recipient may take `4, 4` for 4, and the next one need not.
        if self.lists_lengths {
            return Err(NO_LENGTH);
        }
        Ok(self.framing(version)?.unwrap_or(Framing::Ended))
    }

    fn framing(&self, version: Version) -> Result<Option<Framing>, Error> {
        match (self.codings, self.length) {
            (1.., _) if version == Version::HTTP_10 => {
                Err(Error::Malformed("a transfer coding in HTTP/1.0"))
            }
            // What else it may be is refused by who asked.
            (1.., _) => Ok(Some(Framing::Chunked(Chunked::default()))),
            (0, Length::Unsaid) => Ok(None),
            (0, Length::Is(length)) => Ok(Some(Framing::of_length(length))),
            (0, Length::Wrong) => Err(NO_LENGTH),
        }
    }

    /// Whether another message may follow on the connection (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        // One that is framed twice may have been understood in another way by what is in between.
        let is_framed_twice = self.codings > 0 && self.length != Length::Unsaid;
        match version {
            Version::HTTP_10 => self.keeps_alive && !self.closes,
            _ => !self.closes && !is_framed_twice,
        }
    }

    /// Whether a body would follow, were it not for the status or the request's method.
    pub(super) fn announces_body(&self) -> bool {
        self.codings > 0 || !matches!(self.length, Length::Unsaid | Length::Is(0))
    }
}

fn length_of(text: &[u8]) -> Length {
    // `parse` alone would let a plus sign pass.
    let digits =
        std::str::from_utf8(text).ok().filter(|it| it.bytes().all(|it| it.is_ascii_digit()));
    // Beyond that others count into the negative.
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) if length <= i64::MAX as u64 => Length::Is(length),
        _ => Length::Wrong,
    }
}
