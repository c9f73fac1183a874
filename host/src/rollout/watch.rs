//! Files that the configuration names: when one changes, what it says now is proposed.
//!
//! Folders are watched, not files: an editor, an atomic rename and a volume of Kubernetes, which turns a
//! link to another folder, all put another file in the old one's place. Where the folder itself is
//! replaced, nobody tells; so the files are also looked at now and then.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
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

/// What tells one file from another that took its place.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// Calls `changed` after each change of the configuration's file or of one that it names.
pub(crate) async fn watch(rollout: Rc<Rollout>, config: Option<PathBuf>, changed: impl AsyncFn()) {
    let (touched, mut touches) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = touched.try_send(()); // One is enough.
    })
    .inspect_err(|error| tracing::warn!(%error, "cannot watch files: they are looked at instead"))
    .ok();
    let mut watched = BTreeSet::new();
    let mut files = files(&rollout, config.as_deref());
    let mut stamps: Vec<Stamp> = files.iter().map(|file| stamp(file)).collect();
    loop {
        follow(&mut watcher, &mut watched, &files);
        let woken = tokio::time::timeout(LOOK_EVERY, touches.recv()).await.is_ok();
        if woken {
            let until = Instant::now() + UNREST_MAX;
            while Instant::now() < until
                && tokio::time::timeout(QUIET, touches.recv()).await.is_ok()
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

/// Watches the folders of these files, as far as they are not.
fn follow(
    watcher: &mut Option<RecommendedWatcher>,
    watched: &mut BTreeSet<PathBuf>,
    files: &[PathBuf],
) {
    let Some(watcher) = watcher else { return };
    for file in files {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if watched.insert(folder.to_owned())
            && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot watch a folder");
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}
