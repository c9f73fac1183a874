//! Which bytes are a request's path? One rule, applied once, before anything looks: the gateway's own
//! pages, the policies and the services all see what comes out of here.
//!
//! A path that can be read in two ways is the way round a rule: the policy reads one, the service the
//! other. So spellings of the same path become one (RFC 3986 section 6.2.2), and those that servers
//! are known to disagree about are refused. `host/README.md` has the rule as a table.

use std::borrow::Cow;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Uri};

#[cfg(test)]
mod tests;

/// Why a request's target is refused. Its words are for the client, with a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the path has a backslash, which some servers take for a slash")]
    Backslash,
    #[error("the path has a control character (percent-encoded)")]
    Control,
    #[error("the path has a `%` without two hexadecimal digits behind it (RFC 3986 section 2.1)")]
    Encoding,
    #[error(
        "the path has a segment `.` or `..`: clients resolve these before they send \
         (RFC 3986 section 5.2.4)"
    )]
    DotSegment,
    #[error(
        "the path has a `;` or a percent-encoded `/`, `;` or `%`, which servers read in different \
         ways"
    )]
    Ambiguous,
    #[error("the path is too long once it is percent-encoded")]
    TooLong,
    #[error("the request target is neither a path nor an http:// address (RFC 9112 section 3.2)")]
    Form,
}

/// Brings a request's target into the form that everything else sees; one that is in it already, as
/// nearly all are, costs a look at each byte. The query stays as it was sent.
///
/// `strict` also refuses what is unambiguous by the standards but not in practice: see
/// `server.strict_paths`.
pub(crate) fn settle(uri: &mut Uri, method: &Method, strict: bool) -> Result<(), TargetError> {
    match uri.path() {
        // Only a server as a whole can be asked for its options (RFC 9112 section 3.2.4).
        "*" if method == Method::OPTIONS => return Ok(()),
        // A host and a port alone: `exchange.rs` refuses to be a tunnel.
        "" if method == Method::CONNECT => return Ok(()),
        "*" | "" => return Err(TargetError::Form),
        _ => {}
    }
    if uri.scheme().is_some_and(|it| *it != Scheme::HTTP && *it != Scheme::HTTPS) {
        return Err(TargetError::Form);
    }
    let Cow::Owned(path) = normal(uri.path(), strict)? else { return Ok(()) };
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(
        PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| TargetError::TooLong)?,
    );
    *uri = Uri::from_parts(parts).map_err(|_| TargetError::Form)?;
    Ok(())
}

/// The path in normal form: no two slashes in a row, nothing percent-encoded that need not be, all
/// encoded that must be, in capital letters. Borrowed where it is so already.
pub(crate) fn normal(path: &str, strict: bool) -> Result<Cow<'_, str>, TargetError> {
    let bytes = path.as_bytes();
    if strict && bytes.contains(&b';') {
        return Err(TargetError::Ambiguous);
    }
    if is_plain(bytes) {
        return Ok(Cow::Borrowed(path));
    }
    let mut normal = String::with_capacity(path.len() + 16);
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => return Err(TargetError::Backslash),
            b'%' => {
                let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(TargetError::Encoding);
                };
                match (high * 16 + low) as u8 {
                    b'\\' => return Err(TargetError::Backslash),
                    0..0x20 | 0x7f => return Err(TargetError::Control),
                    b'/' | b';' | b'%' if strict => return Err(TargetError::Ambiguous),
                    byte if is_unreserved(byte) => normal.push(char::from(byte)),
                    byte => push_encoded(&mut normal, byte),
                }
            }
            b'/' if normal.ends_with('/') => {}
            // `Uri` lets some pass that are no characters of a URI.
            byte if is_path_byte(byte) => normal.push(char::from(byte)),
            0..0x20 | 0x7f => return Err(TargetError::Control),
            byte => push_encoded(&mut normal, byte),
        }
    }
    if has_dot_segment(&normal) {
        return Err(TargetError::DotSegment);
    }
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// Whether there is nothing to do and nothing to refuse. False negatives are only slow.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    path.iter().all(|&byte| {
        // A slash or a dot behind a slash may be one of several slashes or of a dot segment.
        let plain = is_path_byte(byte) && !(after_slash && matches!(byte, b'/' | b'.'));
        after_slash = byte == b'/';
        plain
    })
}

/// Whether a segment is `.` or `..`, also for servers that take an encoded slash for a separator, or
/// cut off what follows a semicolon. The path is in normal form: its dots are not encoded.
fn has_dot_segment(path: &str) -> bool {
    path.split('/').flat_map(|segment| segment.split("%2F")).any(|segment| {
        let name = segment.split(';').next().unwrap_or_default();
        let name = name.split("%3B").next().unwrap_or_default();
        matches!(name, "." | "..")
    })
}

/// `unreserved` in RFC 3986 section 2.3: encoded or not, these are the same.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a path as it is: `pchar` in RFC 3986 section 3.3, but for `%`, and the slash.
fn is_path_byte(byte: u8) -> bool {
    const PATH_BYTES: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric()
                || matches!(
                    byte as u8,
                    b'-' | b'.'
                        | b'_'
                        | b'~'
                        | b'/'
                        | b':'
                        | b'@'
                        | b'!'
                        | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                        | b';'
                        | b'='
                );
            byte += 1;
        }
        table
    };
    PATH_BYTES[usize::from(byte)]
}

fn push_encoded(path: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    path.push('%');
    path.push(char::from(DIGITS[usize::from(byte >> 4)]));
    path.push(char::from(DIGITS[usize::from(byte & 0xf)]));
}
