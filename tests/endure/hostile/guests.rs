//! The components that misbehave. Those made with the SDK are compiled already, one for each kind of
//! policy; those by hand are put together here (`tests/guests/wat/README.md`).

use std::path::PathBuf;

use orchestrator_tests::{by_hand, component};
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
                std::fs::write(&file, by_hand(name, kind.word())).unwrap();
                file
            }
        }
    }
}

/// The one component of a kind that has all of its behaviours, `good` among them.
pub(crate) fn with_sdk(kind: Kind) -> PathBuf {
    component(&format!("hostile-{}", kind.word()))
}
