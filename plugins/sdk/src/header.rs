//! What a header holds: bytes, which need not be text; and which headers are not a policy's.

use std::fmt;
use std::ops::Deref;

/// The value of a header. Bytes: RFC 9110 section 5.5 allows more than ASCII.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue(Vec<u8>);

impl HeaderValue {
    /// The value as text, or nothing where it is not UTF-8. Nothing is ever replaced or lost.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The value as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as it came, to keep.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for HeaderValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for HeaderValue {
    fn from(bytes: Vec<u8>) -> Self {
        HeaderValue(bytes)
    }
}

/// As a byte string: `b"caf\xe9"`.
impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// True for the headers that a policy may not edit, the name in any case: those that frame a message
/// or are for one hop, those that tell of the hops before, and some that the gateway sets itself. An
/// answer that names one is invalid; a policy with headers in its configuration refuses them there.
pub fn belongs_to_gateway(name: &str) -> bool {
    // To a CGI-like service `x_forwarded_for` and `x-forwarded-for` are one.
    let name = name.to_ascii_lowercase().replace('_', "-");
    name.starts_with("x-forwarded")
        || matches!(
            &*name,
            "connection"
                | "content-length"
                | "date"
                | "expect"
                | "forwarded"
                | "host"
                | "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "via"
                | "x-real-ip"
                | "x-request-id"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_kept_and_have_no_text() {
        let value = HeaderValue::from(b"caf\xe9".to_vec());
        assert_eq!(value.text(), None);
        assert_eq!(value.bytes(), b"caf\xe9");
        assert_eq!(format!("{value:?}"), r#"b"caf\xe9""#);
    }

    #[test]
    fn an_underscore_makes_no_header_a_policys_own() {
        for name in ["Transfer_Encoding", "x_request_id", "X_Real-Ip", "x-forwarded_for", "Host"] {
            assert!(belongs_to_gateway(name), "{name}");
        }
        for name in ["x-own", "x_own", "hosts", "transfer"] {
            assert!(!belongs_to_gateway(name), "{name}");
        }
    }

    #[test]
    fn utf_8_is_text() {
        assert_eq!(HeaderValue::from("café".as_bytes().to_vec()).text(), Some("café"));
    }
}
