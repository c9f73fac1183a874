//! Files that the configuration names: when one changes, what it says now is proposed.
//!
//! Folders are watched, not files: an editor, an atomic rename and a volume of Kubernetes, which turns a
//! link to another folder, all put another file in the old one's place. Where the folder itself is
//! replaced, nobody tells; so the files are also looked at now and then.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use inotify::{Inotify, WatchMask, Watches};
use tokio::time::Instant;

use super::Rollout;
use crate::config::{self, Component};
use crate::policy::Kind;

/// After a change nothing more may change for so long: files are written in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// A file that never comes to rest is read all the same.
const UNREST_MAX: Duration = Duration::from_secs(2);

/// Between two looks at the files themselves.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Room for what the system tells at once.
const EVENTS_BYTES: usize = 4 << 10;

/// What tells one file from another that took its place; nothing where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(Option<(u64, u64, i64, i64, u64)>);

impl Stamp {
    /// As it is now: to be taken before the file is read, so that no change is missed.
    pub fn of(file: &Path) -> Stamp {
        let found = fs::metadata(file).ok();
        Stamp(found.map(|it| (it.dev(), it.ino(), it.mtime(), it.mtime_nsec(), it.size())))
    }
}

/// Calls `changed` after each change of the configuration's file or of one that it names. `read` are the
/// stamps of those that were read: the configuration's first, where it has a file.
pub(crate) async fn watch(
    rollout: Rc<Rollout>,
    config: Option<PathBuf>,
    read: Vec<Stamp>,
    changed: impl AsyncFn(),
) {
    let (mut watches, mut touches) = match watcher() {
        Ok((watches, touches)) => (Some(watches), touches.left_stream()),
        Err(error) => {
            tracing::warn!(%error, "cannot watch files: they are looked at now and then instead");
            (None, stream::pending().right_stream())
        }
    };
    let mut files = files(&rollout, config.as_deref());
    let mut stamps = read;
    let mut is_first = true;
    loop {
        if let Some(watches) = &mut watches {
            follow(watches, &files);
        }
        // What has changed since it was read, nobody tells.
        if !std::mem::take(&mut is_first)
            && tokio::time::timeout(LOOK_EVERY, touches.next()).await.is_ok()
        {
            let until = Instant::now() + UNREST_MAX;
            while Instant::now() < until
                && tokio::time::timeout(QUIET, touches.next()).await.is_ok()
            {}
        }
        let now: Vec<Stamp> = files.iter().map(|file| Stamp::of(file)).collect();
        if now == stamps {
            continue;
        }
        changed().await;
        files = self::files(&rollout, config.as_deref());
        // As they were before they were read: what came meanwhile is a change of its own.
        stamps = match now.len() == files.len() {
            true => now,
            false => files.iter().map(|file| Stamp::of(file)).collect(),
        };
    }
}

fn watcher() -> std::io::Result<(Watches, impl Stream<Item = ()>)> {
    let inotify = Inotify::init()?;
    let watches = inotify.watches();
    let events = inotify.into_event_stream([0; EVENTS_BYTES])?;
    Ok((watches, events.map(|_| ()).chain(stream::pending())))
}

fn files(rollout: &Rollout, config: Option<&Path>) -> Vec<PathBuf> {
    let named = Kind::ALL.into_iter().flat_map(|kind| files_of(&rollout.book(kind).policy));
    config.into_iter().map(Path::to_owned).chain(named).collect()
}

/// The files that a policy is read from.
pub(crate) fn files_of(policy: &config::Policy) -> impl Iterator<Item = PathBuf> + use<> {
    let files = match &policy.component {
        Component::File(path) => vec![path.clone(), path.with_extension("cases.json")],
        _ => Vec::new(),
    };
    files.into_iter()
}

/// Watches the folders of these files: anew each time, since one may be another than before.
fn follow(watches: &mut Watches, files: &[PathBuf]) {
    // Not each write: the access log may be in the same folder.
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::ONLYDIR;
    for file in files {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if let Err(error) = watches.add(folder, mask) {
            tracing::debug!(folder = %folder.display(), %error, "cannot watch a folder");
        }
    }
}
