//! `Expect: 100-continue`, from end to end: the client is told to send its body when the service has
//! asked for it, and not before (RFC 9110 section 10.1.1).
//!
//! A client that
//! sends its body unasked, because the service says nothing, is read all the same.

use std::cell::Cell;

use http::header::EXPECT;
use http::{HeaderValue, Version, request};

use crate::io::Meter;

/// A client that waits to be asked for its body.
#[derive(Debug, Default)]
pub(crate) struct Expectation {
    /// The client was told: no further attempt has to ask for what is on its way.
    is_met: Cell<bool>,
}

impl Expectation {
    pub(crate) const VALUE: HeaderValue = HeaderValue::from_static("100-continue");

    /// None where the client expects nothing, or where there is nothing to wait for.
    pub(crate) fn of(head: &request::Parts, has_body: bool) -> Option<Expectation> {
        let expects = head.headers.get(EXPECT)?.as_bytes().eq_ignore_ascii_case(b"100-continue");
        let waits = expects && has_body && head.version == Version::HTTP_11;
        waits.then(Expectation::default)
    }

    /// Whether the client has been asked for its body.
    pub(crate) fn is_met(&self) -> bool {
        self.is_met.get()
    }

    /// The service asks for the body: has the client told.
    pub(crate) fn pass_on(&self, client: &Meter) {
        self.is_met.set(true);
        client.owe_continue();
    }
}
