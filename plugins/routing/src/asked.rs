//! What is known of the request: asked for once, and only where a route wants to know.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};

use orchestrator_policy::{HeaderValue, Request};

use crate::method::Method;
use crate::table::Names;

/// A request, and what it was asked already: each question is a call into the gateway.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request,
    names: &'a Names,
    pub(crate) path: String,
    authority: OnceCell<String>,
    host: OnceCell<String>,
    method: OnceCell<Method>,
    query: OnceCell<Option<String>>,
    values: RefCell<Vec<(Source, Option<Vec<u8>>)>>,
}

/// Where a value stands that routes ask for, by its name's place in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    Header(u32),
    Query(u32),
}

impl<'a> Asked<'a> {
    pub(crate) fn new(request: &'a Request, names: &'a Names) -> Self {
        Asked {
            path: request.path(),
            request,
            names,
            authority: OnceCell::new(),
            host: OnceCell::new(),
            method: OnceCell::new(),
            query: OnceCell::new(),
            values: RefCell::default(),
        }
    }

    pub(crate) fn authority(&self) -> &str {
        self.authority.get_or_init(|| self.request.authority())
    }

    /// In lower case, without its port.
    pub(crate) fn host(&self) -> &str {
        self.host.get_or_init(|| host_of(self.authority()))
    }

    pub(crate) fn method(&self) -> &Method {
        self.method.get_or_init(|| Method::of(self.request.method()))
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.query.get_or_init(|| self.request.query()).as_deref()
    }

    /// What `look` makes of a header's value, or of the first value of a parameter; none where it is
    /// absent.
    pub(crate) fn with_value<R>(&self, source: Source, look: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let mut values = self.values.borrow_mut();
        let at = values.iter().position(|(of, _)| *of == source).unwrap_or_else(|| {
            values.push((source, self.fetch(source)));
            values.len() - 1
        });
        look(values[at].1.as_deref())
    }

    fn fetch(&self, source: Source) -> Option<Vec<u8>> {
        match source {
            Source::Header(name) => {
                self.request.header(self.names.header(name)).map(HeaderValue::into_bytes)
            }
            Source::Query(name) => parameter(self.query()?, self.names.query(name).as_bytes()),
        }
    }
}

/// The host of an authority, in lower case, without its port.
pub(crate) fn host_of(authority: &str) -> String {
    let host = split_port(authority).0;
    // `example.org.` is the same name, said in full.
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// An authority's host and its port, where it has one.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    // From behind, past what may be a port. In `[::1]` what follows the last colon is none.
    match authority.bytes().rposition(|byte| !byte.is_ascii_digit()) {
        Some(colon) if authority.as_bytes()[colon] == b':' => {
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        _ => (authority, None),
    }
}

/// The first value of a parameter, decoded; one without `=` is empty.
pub(crate) fn parameter(query: &str, name: &[u8]) -> Option<Vec<u8>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name).then(|| decoded(value).into_owned())
    })
}

/// As forms encode: `%` with two digits is a byte, `+` is a space; what is neither stays.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| b"%+".contains(byte)) {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
        at += 1;
    }
    Cow::Owned(decoded)
}
