//! Policies that no compiler would produce, put together from their text (`tests/guests/wat/README.md`).

use std::collections::HashMap;
use std::path::Path;

/// The component that behaves like this: a policy of the kind, `routing` or `retry`.
pub fn by_hand(name: &str, kind: &str) -> Vec<u8> {
    let mut parts = parts(&read("common"));
    parts.extend(self::parts(&read(name)));
    let mut text = read(kind);
    // A part may have places for parts.
    while let Some((before, place, after)) = place(&text) {
        let part = parts.get(place).map_or("", String::as_str);
        text = format!("{before}{part}{after}");
    }
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}, {kind}: {error}"))
}

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/wat");
    let file = folder.join(name).with_extension("wat");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What follows each line `;;; name`, up to the next.
fn parts(text: &str) -> HashMap<String, String> {
    let parts = text.split("\n;;; ").skip(1);
    parts
        .map(|part| part.split_once('\n').unwrap_or((part, "")))
        .map(|(name, body)| (name.to_owned(), format!("{body}\n")))
        .collect()
}

/// The first `(; name ;)`, with what is before and behind it.
fn place(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("(; ")?;
    let (name, after) = rest.split_once(" ;)")?;
    Some((before, name, after))
}
