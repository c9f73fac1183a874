//! Who may change policies: whoever has one of the tokens that the configuration names.

use std::env::VarError;
use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{AdminToken, TokenSource};

/// A file of tokens is one line: what is longer is none.
const TOKEN_BYTES_MAX: u64 = 4 << 10;

/// Why a call may not change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nobody may.
    NoTokens,
    NoneGiven,
    Wrong,
}

/// The name of the token that these headers have.
///
/// Tokens are read each time, so that one can be replaced while the gateway runs. All of them are
/// compared, each in the same time: neither says how much of a guess was right.
pub(super) fn name_of(headers: &HeaderMap, tokens: &[AdminToken]) -> Result<String, Denied> {
    if tokens.is_empty() {
        return Err(Denied::NoTokens);
    }
    let given = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    let given = Sha256::digest(given.ok_or(Denied::NoneGiven)?);
    let mut found = None;
    for token in tokens {
        let Ok(secret) = read(&token.source) else { continue };
        if bool::from(Sha256::digest(secret.as_bytes()).ct_eq(&given)) {
            found = Some(token.name.clone());
        }
    }
    found.ok_or(Denied::Wrong)
}

/// RFC 6750 section 2.1; the scheme's name in any case (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// Names the tokens that nobody could use, as things are.
pub(super) fn warn_of_missing(tokens: &[AdminToken]) {
    for token in tokens {
        if let Err(error) = read(&token.source) {
            let token = &*token.name;
            tracing::warn!(token, %error, "nobody can use this token");
        }
    }
}

fn read(source: &TokenSource) -> std::io::Result<String> {
    let text = match source {
        TokenSource::File(path) => read_file(path)?,
        // An error's own words would show what is in the variable.
        TokenSource::Env(name) => match std::env::var(name) {
            Ok(text) => text,
            Err(VarError::NotPresent) => return Err(std::io::Error::other("it is not set")),
            Err(VarError::NotUnicode(_)) => return Err(std::io::Error::other("it is not UTF-8")),
        },
    };
    let token = text.lines().next().unwrap_or_default().trim();
    match token.is_empty() {
        true => Err(std::io::Error::other("it is empty")),
        false => Ok(token.to_owned()),
    }
}

fn read_file(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let other = std::io::Error::other;
    // To open a pipe would be to wait for somebody who writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TOKEN_BYTES_MAX {
        return Err(other("it is larger than any token"));
    }
    String::from_utf8(bytes).map_err(|_| other("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tokens(contents: &[(&str, &str)]) -> (Vec<tempfile::NamedTempFile>, Vec<AdminToken>) {
        let mut files = Vec::new();
        let mut tokens = Vec::new();
        for (name, text) in contents {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("it is written");
            let source = TokenSource::File(file.path().to_owned());
            tokens.push(AdminToken { name: (*name).to_owned(), source });
            files.push(file);
        }
        (files, tokens)
    }

    fn with(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().expect("a value"))])
    }

    #[test]
    fn a_token_is_known_by_its_name() {
        let (_files, tokens) = tokens(&[("ci", "s3cret\n"), ("ops", "other\nnotes\n")]);
        assert_eq!(name_of(&with("Bearer s3cret"), &tokens), Ok("ci".into()));
        assert_eq!(name_of(&with("bearer   other "), &tokens), Ok("ops".into()));
        for wrong in ["Bearer s3cre", "Bearer s3crett", "Bearer ", "Bearer notes"] {
            assert_eq!(name_of(&with(wrong), &tokens), Err(Denied::Wrong), "{wrong}");
        }
        for none in ["Basic s3cret", "s3cret", "Bearer"] {
            assert_eq!(name_of(&with(none), &tokens), Err(Denied::NoneGiven), "{none}");
        }
        assert_eq!(name_of(&HeaderMap::new(), &tokens), Err(Denied::NoneGiven));
        assert_eq!(name_of(&with("Bearer s3cret"), &[]), Err(Denied::NoTokens));
    }

    #[test]
    fn an_empty_token_lets_nobody_in() {
        let (_files, tokens) = tokens(&[("empty", "\n")]);
        assert_eq!(name_of(&with("Bearer "), &tokens), Err(Denied::Wrong));
    }
}
