//! `Expect: 100-continue`, from end to end: the client is told to send its body when the service has
//! asked for it, and not before (RFC 9110 section 10.1.1).
//!
//! hyper's server would say so itself as soon as the body is read; `io.rs` swallows that. A client that
//! sends its body unasked, because the service says nothing, is read all the same.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http::header::EXPECT;
use http::{HeaderValue, Request, StatusCode, Version, request};

use crate::body::AttemptBody;
use crate::io::Meter;

/// A client that waits to be asked for its body.
#[derive(Debug)]
pub(crate) struct Expectation {
    asked: Arc<Asked>,
    /// The client was told: no further attempt has to ask for what is on its way.
    is_met: Cell<bool>,
}

/// Shared with hyper's task for the service's connection.
#[derive(Debug, Default)]
struct Asked {
    by_service: AtomicBool,
    exchange: AtomicWaker,
}

impl Expectation {
    pub(crate) const VALUE: HeaderValue = HeaderValue::from_static("100-continue");

    /// None where the client expects nothing, or where there is nothing to wait for.
    pub(crate) fn of(head: &request::Parts, has_body: bool) -> Option<Expectation> {
        let expects = head.headers.get(EXPECT)?.as_bytes().eq_ignore_ascii_case(b"100-continue");
        let waits = expects && has_body && head.version == Version::HTTP_11;
        waits.then(|| Expectation { asked: Arc::default(), is_met: Cell::new(false) })
    }

    /// Whether the client has been asked for its body.
    pub(crate) fn is_met(&self) -> bool {
        self.is_met.get()
    }

    /// Listens for what the service says before its response.
    pub(crate) fn watch(&self, request: &mut Request<AttemptBody>) {
        let asked = self.asked.clone();
        // What an earlier attempt's service said in its last moment is not this one's word.
        asked.by_service.store(false, Relaxed);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                asked.by_service.store(true, Relaxed);
                asked.exchange.wake();
            }
        });
    }

    /// Has the client told, once the service has asked.
    pub(crate) fn pass_on(&self, client: &Meter, cx: &Context<'_>) {
        self.asked.exchange.register(cx.waker());
        if self.asked.by_service.swap(false, Relaxed) {
            self.is_met.set(true);
            client.owe_continue();
        }
    }
}
