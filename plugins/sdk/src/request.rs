//! The request to decide about.
//!
//! On wasm32 each method asks the gateway; natively a [`RequestBuilder`] holds the facts.

use crate::HeaderValue;

#[cfg(not(target_arch = "wasm32"))]
use self::desk::Facts;
#[cfg(target_arch = "wasm32")]
use crate::wire::RequestFacts as Facts;

/// The request to decide about, as it was when it arrived.
///
/// Nothing is fetched beforehand and nothing is kept: a method that is called twice asks the
/// gateway twice.
#[derive(Debug)]
pub struct Request {
    facts: Facts,
}

impl Request {
    /// The method, as sent: `GET`. Methods are case-sensitive.
    pub fn method(&self) -> String {
        self.facts.method()
    }

    /// How the client reached the gateway: `http` or `https`.
    pub fn scheme(&self) -> String {
        self.facts.scheme()
    }

    /// Host and port the client asked for, as sent: `example.org:8003`. Empty where an HTTP/1.0
    /// client named none.
    pub fn authority(&self) -> String {
        self.facts.authority()
    }

    /// The path, still percent-encoded, without the query, in the one spelling that the gateway gives
    /// each path: these are the bytes that the service gets, unless the decision has a path. It begins
    /// with `/`, but for the `*` of `OPTIONS *`.
    pub fn path(&self) -> String {
        self.facts.path()
    }

    /// The query, without its `?`; none where the request has no `?`.
    pub fn query(&self) -> Option<String> {
        self.facts.query()
    }

    /// The values of a header, joined by `, `; none where it is absent. The name's case does not
    /// matter.
    pub fn header(&self, name: &str) -> Option<HeaderValue> {
        self.facts.header(name).map(HeaderValue::from)
    }

    /// The values of a header, one by one, in the order they came.
    pub fn header_values(&self, name: &str) -> Vec<HeaderValue> {
        self.facts.header_values(name).into_iter().map(HeaderValue::from).collect()
    }

    /// All headers, names in lower case, a pair for each value.
    pub fn headers(&self) -> Vec<(String, HeaderValue)> {
        self.facts.headers().into_iter().map(|(name, value)| (name, value.into())).collect()
    }

    /// The client's IP address, without a port.
    pub fn client(&self) -> String {
        self.facts.client()
    }

    /// When the request arrived, in milliseconds since 1970 UTC: the same however often it is
    /// asked.
    pub fn now_ms(&self) -> u64 {
        self.facts.now_ms()
    }

    /// The next number of this call's random stream.
    pub fn random(&self) -> u64 {
        self.facts.random()
    }

    /// How a service stood when the request arrived; none where no service has that name.
    pub fn service(&self, name: &str) -> Option<ServiceState> {
        self.facts.service(name)
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn of_this_call() -> Self {
        Request { facts: Facts }
    }
}

/// A service's circuit and health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceState {
    /// Closed if any endpoint's circuit is, open if all are, else half-open.
    pub circuit: Circuit,
    /// What the health monitor last saw.
    pub health: Health,
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Attempts are let through.
    Closed,
    /// Attempts are refused.
    Open,
    /// Single attempts are let through, to find out.
    HalfOpen,
}

/// The health of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Every endpoint passed its last check.
    Healthy,
    /// Some endpoints are down, or the circuit is half-open.
    Degraded,
    /// No endpoint passed its last check, or the circuit is open.
    Unhealthy,
    /// Not checked yet.
    Unknown,
}

#[cfg(not(target_arch = "wasm32"))]
pub use desk::RequestBuilder;

/// Requests made by hand, for tests on the desk.
#[cfg(not(target_arch = "wasm32"))]
mod desk {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    use super::{Request, ServiceState};

    #[derive(Debug)]
    pub(super) struct Facts {
        method: String,
        scheme: String,
        authority: String,
        path: String,
        query: Option<String>,
        headers: Vec<(String, Vec<u8>)>,
        client: String,
        now_ms: u64,
        random: RefCell<VecDeque<u64>>,
        random_state: Cell<u64>,
        services: Vec<(String, ServiceState)>,
    }

    impl Facts {
        pub(super) fn method(&self) -> String {
            self.method.clone()
        }

        pub(super) fn scheme(&self) -> String {
            self.scheme.clone()
        }

        pub(super) fn authority(&self) -> String {
            self.authority.clone()
        }

        pub(super) fn path(&self) -> String {
            self.path.clone()
        }

        pub(super) fn query(&self) -> Option<String> {
            self.query.clone()
        }

        pub(super) fn header(&self, name: &str) -> Option<Vec<u8>> {
            let values = self.header_values(name);
            (!values.is_empty()).then(|| values.join(&b", "[..]))
        }

        pub(super) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
            let of_name = |(n, _): &&(String, Vec<u8>)| n.eq_ignore_ascii_case(name);
            self.headers.iter().filter(of_name).map(|(_, value)| value.clone()).collect()
        }

        pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
            self.headers.clone()
        }

        pub(super) fn client(&self) -> String {
            self.client.clone()
        }

        pub(super) fn now_ms(&self) -> u64 {
            self.now_ms
        }

        pub(super) fn random(&self) -> u64 {
            self.random.borrow_mut().pop_front().unwrap_or_else(|| {
                // SplitMix64: plain, and never the same number twice in a row.
                let state = self.random_state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
                self.random_state.set(state);
                let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            })
        }

        pub(super) fn service(&self, name: &str) -> Option<ServiceState> {
            self.services.iter().find(|(n, _)| n == name).map(|(_, state)| *state)
        }
    }

    impl Request {
        /// Starts a request for a test: `GET http://localhost/` from 127.0.0.1, without headers.
        pub fn builder() -> RequestBuilder {
            RequestBuilder {
                facts: Facts {
                    method: "GET".to_owned(),
                    scheme: "http".to_owned(),
                    authority: "localhost".to_owned(),
                    path: "/".to_owned(),
                    query: None,
                    headers: Vec::new(),
                    client: "127.0.0.1".to_owned(),
                    now_ms: 1_700_000_000_000,
                    random: RefCell::default(),
                    random_state: Cell::default(),
                    services: Vec::new(),
                },
            }
        }
    }

    /// Builds a [`Request`]. Exists off wasm32 only.
    #[derive(Debug)]
    pub struct RequestBuilder {
        facts: Facts,
    }

    impl RequestBuilder {
        /// The method; else `GET`.
        pub fn method(mut self, method: impl Into<String>) -> Self {
            self.facts.method = method.into();
            self
        }

        /// The scheme; else `http`.
        pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
            self.facts.scheme = scheme.into();
            self
        }

        /// Host and port; else `localhost`.
        pub fn authority(mut self, authority: impl Into<String>) -> Self {
            self.facts.authority = authority.into();
            self
        }

        /// The path, without the query; else `/`.
        pub fn path(mut self, path: impl Into<String>) -> Self {
            self.facts.path = path.into();
            self
        }

        /// The query, without its `?`; else the request has none.
        pub fn query(mut self, query: impl Into<String>) -> Self {
            self.facts.query = Some(query.into());
            self
        }

        /// One more header, or one more value of a header.
        pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
            self.facts.headers.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
            self
        }

        /// The client's address; else `127.0.0.1`.
        pub fn client(mut self, address: impl Into<String>) -> Self {
            self.facts.client = address.into();
            self
        }

        /// When the request arrived; else some fixed time.
        pub fn now_ms(mut self, now_ms: u64) -> Self {
            self.facts.now_ms = now_ms;
            self
        }

        /// The numbers that [`Request::random`] gives first; then (or else) it goes on with a fixed
        /// stream.
        pub fn random(self, numbers: impl IntoIterator<Item = u64>) -> Self {
            self.facts.random.borrow_mut().extend(numbers);
            self
        }

        /// A service and how it stands.
        pub fn service(mut self, name: impl Into<String>, state: ServiceState) -> Self {
            self.facts.services.push((name.into(), state));
            self
        }

        /// The request.
        pub fn build(self) -> Request {
            Request { facts: self.facts }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_header_are_joined_whatever_the_case_of_its_name() {
        let request = Request::builder().header("X-A", "1").header("x-a", b"\xff").build();
        assert_eq!(request.header("X-a"), Some(b"1, \xff".to_vec().into()));
        assert_eq!(request.header_values("x-A").len(), 2);
        assert_eq!(request.header("x-b"), None);
        assert_eq!(request.headers()[0].0, "x-a");
    }

    #[test]
    fn random_gives_the_chosen_numbers_and_then_a_fixed_stream() {
        let stream = || {
            let request = Request::builder().random([7, 8]).build();
            [(); 4].map(|()| request.random())
        };
        assert_eq!(stream()[..2], [7, 8]);
        assert_ne!(stream()[2], stream()[3]);
        assert_eq!(stream(), stream());
    }
}
