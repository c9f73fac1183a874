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
use crate::config::Component;
use crate::policy::Kind;

/// After a change nothing more may change for so long: files are written in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// A file that never comes to rest is read all the same.
const UNREST_MAX: Duration = Duration::from_secs(2);

/// Between two looks at the files themselves.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Room for what the system tells at once.
const EVENTS_BYTES: usize = 4 << 10;

/// What tells one file from another that took its place.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// Calls `changed` after each change of the configuration's file or of one that it names.
pub(crate) async fn watch(rollout: Rc<Rollout>, config: Option<PathBuf>, changed: impl AsyncFn()) {
    let (mut watches, mut touches) = match watcher() {
        Ok((watches, touches)) => (Some(watches), touches.left_stream()),
        Err(error) => {
            tracing::warn!(%error, "cannot watch files: they are looked at now and then instead");
            (None, stream::pending().right_stream())
        }
    };
    let mut files = files(&rollout, config.as_deref());
    let mut stamps: Vec<Stamp> = files.iter().map(|file| stamp(file)).collect();
    loop {
        if let Some(watches) = &mut watches {
            follow(watches, &files);
        }
        if tokio::time::timeout(LOOK_EVERY, touches.next()).await.is_ok() {
            let until = Instant::now() + UNREST_MAX;
            while Instant::now() < until
                && tokio::time::timeout(QUIET, touches.next()).await.is_ok()
            {}
        }
        let now: Vec<Stamp> = files.iter().map(|file| stamp(file)).collect();
        if now == stamps {
            continue;
        }
        changed().await;
        files = self::files(&rollout, config.as_deref());
        // As they were before they were read: what came meanwhile is a change of its own.
        stamps = match now.len() == files.len() {
            true => now,
            false => files.iter().map(|file| stamp(file)).collect(),
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
    let mut files: Vec<PathBuf> = config.into_iter().map(Path::to_owned).collect();
    for kind in Kind::ALL {
        if let Component::File(path) = &rollout.book(kind).policy.component {
            files.push(path.clone());
            files.push(path.with_extension("cases.json"));
        }
    }
    files
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

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}
