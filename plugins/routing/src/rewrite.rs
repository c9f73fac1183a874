//! What path takes the place of the request's: for a request that is forwarded, and for a redirect.

use crate::pattern::{end_of, segment};

/// How a path changes.
#[derive(Debug, Default)]
pub(crate) enum Rewrite {
    #[default]
    None,
    /// So many first segments make way.
    Prefix(u8, Template),
    /// All of it does, and the query too where the template has a `?`.
    Whole(Template),
}

/// A text with holes for segments of the request's path.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) text: Box<str>,
    /// In the order of the text.
    pub(crate) holes: Box<[Hole]>,
}

#[derive(Debug)]
pub(crate) struct Hole {
    /// Where in the text.
    pub(crate) at: u32,
    /// Which segment of the path.
    pub(crate) place: u8,
    /// Behind the `?`: what separates parameters there is encoded, so that a segment stays one value.
    pub(crate) in_query: bool,
}

impl Rewrite {
    pub(crate) fn apply(&self, path: String) -> String {
        match self {
            Rewrite::None => path,
            Rewrite::Whole(template) => template.fill(&path),
            Rewrite::Prefix(segments, template) => {
                let cut = end_of(&path, usize::from(*segments));
                match &*template.holes {
                    [] => with_prefix(path, cut, &template.text),
                    _ => {
                        let prefix = template.fill(&path);
                        with_prefix(path, cut, &prefix)
                    }
                }
            }
        }
    }
}

/// `prefix` has no slash at its end; it is empty for `/`.
fn with_prefix(mut path: String, cut: usize, prefix: &str) -> String {
    // What is left begins with a slash or is empty. Of several slashes one stays: `//host/x` would be
    // read as an authority by some.
    let rest = &path[cut..];
    let slashes = rest.len() - rest.trim_start_matches('/').len();
    path.replace_range(..cut + slashes.saturating_sub(1), prefix);
    if path.is_empty() {
        path.push('/');
    }
    path
}

impl Template {
    fn fill(&self, path: &str) -> String {
        let mut filled = String::with_capacity(self.text.len() + path.len());
        let mut done = 0;
        for hole in &self.holes {
            let at = hole.at as usize;
            filled.push_str(&self.text[done..at]);
            done = at;
            let value = segment(path, hole.place);
            match hole.in_query {
                true => push_encoded(&mut filled, value, |byte| !b"&=+;?/".contains(&byte)),
                false => filled.push_str(value),
            }
        }
        filled.push_str(&self.text[done..]);
        filled
    }
}

/// Adds text that may stand in a path or a query, percent-encoding what a URI has no room for (RFC
/// 3986 section 3.3), or of which `keep` says so. What is encoded already stays as it is.
pub(crate) fn push_encoded(to: &mut String, text: &str, keep: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
        if allowed && keep(byte) {
            to.push(byte.into());
        } else {
            to.push('%');
            to.push(DIGITS[usize::from(byte >> 4)].into());
            to.push(DIGITS[usize::from(byte & 0xf)].into());
        }
    }
}
