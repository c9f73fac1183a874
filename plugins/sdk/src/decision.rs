//! What a routing policy answers.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// What to do with a request: forward it, answer it, decline it, or say that the policy cannot
/// decide; and, with the first two, how.
///
/// Nothing is checked here. The gateway checks the whole answer, and an answer of which any part
/// is invalid counts as a fault of the policy; `wit/policy.wit` has the rules.
///
/// A decision may borrow from the policy: a service's name need not be copied for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Decision<'a> {
    /// What to do.
    pub action: Action<'a>,
    /// See [`Decision::path`].
    pub path: Option<Cow<'a, str>>,
    /// See [`Decision::body`].
    pub body: Option<Cow<'a, [u8]>>,
    /// See [`Decision::timeout`].
    pub timeout: Option<Duration>,
    /// See [`Decision::attempt_timeout`].
    pub attempt_timeout: Option<Duration>,
    /// See [`Decision::request_body_max`].
    pub request_body_max: Option<u64>,
    /// See [`Decision::request_header`], in the order they were given.
    pub request_headers: Vec<HeaderEdit<'a>>,
    /// See [`Decision::response_header`], in the order they were given.
    pub response_headers: Vec<HeaderEdit<'a>>,
    /// See [`Decision::affinity`].
    pub affinity: Option<Cow<'a, [u8]>>,
    /// See [`Decision::route_name`].
    pub route_name: Option<Cow<'a, str>>,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send it to this service.
    Forward(Cow<'a, str>),
    /// Answer it with this status.
    Respond(u16),
    /// No rule for it: the client gets 404.
    Decline,
    /// The policy cannot decide, for this reason, and the last good version is asked.
    CannotDecide(Cow<'a, str>),
}

/// A header to set or to remove.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderEdit<'a> {
    /// The header's name; its case does not matter.
    pub name: Cow<'a, str>,
    /// The only value it is to have, or none to remove it.
    pub value: Option<Cow<'a, [u8]>>,
}

impl<'a> Decision<'a> {
    /// Send the request to this service.
    pub fn forward(service: impl Into<Cow<'a, str>>) -> Self {
        Decision::of(Action::Forward(service.into()))
    }

    /// Answer the client at once, with a status from 200 to 599. From 400 on the gateway adds a
    /// problem+json body where the policy gives none.
    pub fn respond(status: u16) -> Self {
        Decision::of(Action::Respond(status))
    }

    /// No rule for this request: the client gets 404.
    pub fn decline() -> Self {
        Decision::of(Action::Decline)
    }

    /// The policy cannot decide. The reason is for the log.
    pub fn cannot_decide(reason: impl Into<Cow<'a, str>>) -> Self {
        Decision::of(Action::CannotDecide(reason.into()))
    }

    /// The path to forward instead of the request's, beginning with `/`. Where it has a `?`, what
    /// follows replaces the query too.
    pub fn path(mut self, path: impl Into<Cow<'a, str>>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The body of a response: `text/plain; charset=utf-8`, unless a `content-type` is set.
    pub fn body(mut self, body: impl IntoBytes<'a>) -> Self {
        self.body = Some(body.into_bytes());
        self
    }

    /// The time for the whole request, all attempts and delays up to the response head. The
    /// gateway's own limit counts where it is lower. A fraction of a millisecond counts as a whole.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The time for one attempt.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// The most bytes that the request's body may have: for more, the client gets 413. The gateway's
    /// own limit counts where it is lower.
    pub fn request_body_max(mut self, bytes: u64) -> Self {
        self.request_body_max = Some(bytes);
        self
    }

    /// Sets a header of the forwarded request, in place of all its values.
    pub fn request_header(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl IntoBytes<'a>,
    ) -> Self {
        self.request_headers.push(HeaderEdit::set(name.into(), value.into_bytes()));
        self
    }

    /// Removes a header from the forwarded request.
    pub fn remove_request_header(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.request_headers.push(HeaderEdit { name: name.into(), value: None });
        self
    }

    /// Sets a header of the response that the client gets, in place of all its values.
    pub fn response_header(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl IntoBytes<'a>,
    ) -> Self {
        self.response_headers.push(HeaderEdit::set(name.into(), value.into_bytes()));
        self
    }

    /// Removes a header from the response that the client gets.
    pub fn remove_response_header(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.response_headers.push(HeaderEdit { name: name.into(), value: None });
        self
    }

    /// What requests that belong together have in common (a user, a cart), for services that keep
    /// such requests on one endpoint.
    pub fn affinity(mut self, key: impl IntoBytes<'a>) -> Self {
        self.affinity = Some(key.into_bytes());
        self
    }

    /// The name of the rule that decided, for the access log and the metrics: at most 64 bytes, and
    /// few different ones.
    pub fn route_name(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.route_name = Some(name.into());
        self
    }

    fn of(action: Action<'a>) -> Self {
        Decision {
            action,
            path: None,
            body: None,
            timeout: None,
            attempt_timeout: None,
            request_body_max: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            affinity: None,
            route_name: None,
        }
    }
}

impl<'a> HeaderEdit<'a> {
    fn set(name: Cow<'a, str>, value: Cow<'a, [u8]>) -> Self {
        HeaderEdit { name, value: Some(value) }
    }
}

impl fmt::Debug for HeaderEdit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {}", self.name, value.escape_ascii()),
            None => write!(f, "remove {}", self.name),
        }
    }
}

/// Text or bytes, borrowed or owned: what a header's value or a body can be given as.
pub trait IntoBytes<'a> {
    /// The bytes, borrowed where the value was.
    fn into_bytes(self) -> Cow<'a, [u8]>;
}

impl<'a> IntoBytes<'a> for &'a str {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl<'a> IntoBytes<'a> for &'a [u8] {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a, const N: usize> IntoBytes<'a> for &'a [u8; N] {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a> IntoBytes<'a> for String {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(String::into_bytes(self))
    }
}

impl<'a> IntoBytes<'a> for Vec<u8> {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(self)
    }
}

impl<'a> IntoBytes<'a> for crate::HeaderValue {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(crate::HeaderValue::into_bytes(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_decision_does_not_depend_on_the_order_of_saying() {
        let one = Decision::forward("writer").path("/x").timeout(Duration::from_secs(1));
        let other = Decision::forward("writer").timeout(Duration::from_secs(1)).path("/x");
        assert_eq!(one, other);
    }

    #[test]
    fn a_failed_assertion_shows_headers_as_text() {
        let decision =
            Decision::decline().response_header("x-a", b"\xff").remove_response_header("server");
        let shown = format!("{:?}", decision.response_headers);
        assert_eq!(shown, r"[x-a: \xff, remove server]");
    }

    #[test]
    fn bytes_and_text_are_the_same_value() {
        let text = Decision::respond(200).body("hello");
        assert_eq!(text, Decision::respond(200).body(b"hello"));
        assert_eq!(text, Decision::respond(200).body("hello".to_owned()));
        assert_eq!(text, Decision::respond(200).body(b"hello".to_vec()));
    }
}
