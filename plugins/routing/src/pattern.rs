//! What paths does a route take, and which of two that take the same path is the more specific?

/// The index is walked by recursion, and [`Rank`] has a bit for each segment.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// A route's path, as configured.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) prefix: bool,
    /// `/a/b` has two, `/` has one, which is empty; as a prefix `/` has none.
    pub(crate) segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
pub(crate) enum Segment {
    Literal(String),
    /// `{name}`: any segment that is not empty.
    Any,
}

/// How specific a pattern is: of two that take the same path, the lower decides. First come whole
/// paths, then prefixes, the longer first; among equals those with fewer `{…}`, then those whose
/// `{…}` come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    prefix: bool,
    /// How many segments it is short of the longest possible; 0 for a whole path.
    short: u8,
    any: u8,
    /// The first segment is the highest bit.
    places: u64,
}

impl Pattern {
    pub(crate) fn rank(&self) -> Rank {
        let any = |segment: &Segment| matches!(segment, Segment::Any);
        let mut rank = Rank { prefix: self.prefix, short: 0, any: 0, places: 0 };
        if self.prefix {
            rank.short = (SEGMENTS_MAX - self.segments.len()) as u8;
        }
        for place in self.segments.iter().enumerate().filter(|(_, it)| any(it)).map(|(at, _)| at) {
            rank.any += 1;
            rank.places |= 1 << (63 - place);
        }
        rank
    }
}

/// The first segment of a path, without its slash, and what follows it: `/a/b` is `a` and then
/// `/b`; after `/` comes one empty segment, after nothing none.
pub(crate) fn next_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    // Segments are short: a search made for long texts takes longer.
    let slash = path.bytes().position(|byte| byte == b'/');
    Some(path.split_at(slash.unwrap_or(path.len())))
}

/// A segment by its place.
pub(crate) fn segment(path: &str, place: u8) -> &str {
    let from = end_of(path, usize::from(place));
    next_segment(&path[from..]).map_or("", |(segment, _)| segment)
}

/// Where so many first segments of a path end.
pub(crate) fn end_of(path: &str, segments: usize) -> usize {
    let slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    slashes.map(|(at, _)| at).nth(segments).unwrap_or(path.len())
}
