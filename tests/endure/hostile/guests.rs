//! The components that misbehave. Those made with the SDK are compiled already, one for each kind of
//! policy; those by hand are put together and compiled here (`tests/guests/wat/README.md`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use orchestrator_tests::component;
use tempfile::TempDir;

use super::table::{Behaviour, Kind, Made};

#[derive(Debug)]
pub(crate) struct Guests {
    folder: TempDir,
}

impl Guests {
    pub(crate) fn new() -> Guests {
        Guests { folder: TempDir::new().unwrap() }
    }

    /// The component that behaves like this.
    pub(crate) fn of(&self, behaviour: &Behaviour, kind: Kind) -> PathBuf {
        match behaviour.made {
            Made::WithSdk => with_sdk(kind),
            Made::ByHand => {
                let name = behaviour.guest;
                let file = self.folder.path().join(format!("{name}-{}.wasm", kind.word()));
                std::fs::write(&file, by_hand(name, kind)).unwrap();
                file
            }
        }
    }
}

/// The one component of a kind that has all of its behaviours, `good` among them.
pub(crate) fn with_sdk(kind: Kind) -> PathBuf {
    component(&format!("hostile-{}", kind.word()))
}

fn by_hand(name: &str, kind: Kind) -> Vec<u8> {
    let mut parts = parts(&read("common"));
    parts.extend(self::parts(&read(name)));
    let mut text = read(kind.word());
    // A part may have places for parts.
    while let Some((before, place, after)) = place(&text) {
        let part = parts.get(place).map_or("", String::as_str);
        text = format!("{before}{part}{after}");
    }
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}, {}: {error}", kind.word()))
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
