//! The state directory: the history of both policies' versions, and the components and configurations
//! that they are made of.
//!
//! ```text
//! state_dir/            0700, the gateway's user's
//!   lock                held while a gateway uses it
//!   routing.json        the history of the routing policy
//!   retry.json
//!   objects/<sha256>    components and configurations, by their contents
//!   compiled/           what they were compiled to, where `server.cache_dir` is off
//!   routing.json.bad    a history that made no sense: while it is there, no object is removed
//! ```
//! Every file appears whole, under its name, or not at all.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::Record;
use crate::policy::{Kind, Source, hex};
use crate::private;

/// What the files say of themselves: what is newer is left alone.
const FORMAT: u32 = 1;

/// What the names of files begin with that are not whole yet.
const UNFINISHED: &str = ".unfinished-";

/// How the name of a history ends that makes no sense.
const SET_ASIDE: &str = "json.bad";

/// What a policy's file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct History {
    format: u32,
    /// The SHA-256 of the version that the configuration file named when it was last looked at.
    pub(super) file: Option<String>,
    pub(super) active: Option<Arc<str>>,
    pub(super) previous: Option<Arc<str>>,
    /// The oldest first.
    pub(super) versions: Vec<Record>,
}

impl History {
    pub(super) fn new(
        file: Option<String>,
        active: Option<Arc<str>>,
        previous: Option<Arc<str>>,
        versions: Vec<Record>,
    ) -> History {
        History { format: FORMAT, file, active, previous, versions }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Store {
    /// Makes the folder where there is none, and keeps others out of it.
    ///
    /// Errors where it cannot be made, is another user's or open to others, or another gateway uses it.
    pub(super) fn open(folder: &Path) -> io::Result<Store> {
        private::folder(folder)?;
        private::folder(&folder.join("objects"))?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::other("another gateway uses it"),
            fs::TryLockError::Error(error) => error,
        })?;
        let store = Store { folder: folder.to_owned(), _lock: lock };
        store.sweep()?;
        for aside in Kind::ALL.map(|kind| store.history_file(kind).with_extension(SET_ASIDE)) {
            if aside.exists() {
                tracing::warn!(
                    file = %aside.display(),
                    "this history made no sense: while it is there, no component is removed; look at it, and \
                     remove it"
                );
            }
        }
        Ok(store)
    }

    /// Removes what a process that was killed had begun to write: nobody else writes here now.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The history of a policy; none where there is no file yet.
    ///
    /// Errors where the file cannot be read or made sense of.
    pub(super) fn history(&self, kind: Kind) -> io::Result<Option<History>> {
        let bytes = match fs::read(self.history_file(kind)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        #[derive(Deserialize)]
        struct OfFormat {
            format: u32,
        }
        match serde_json::from_slice::<OfFormat>(&bytes)?.format {
            FORMAT => Ok(serde_json::from_slice(&bytes)?),
            other => Err(io::Error::other(format!("it is of format {other}, not {FORMAT}"))),
        }
    }

    /// Puts a file that makes no sense out of the way, for somebody to look at. While one is there, nothing
    /// that it may name is removed.
    pub(super) fn set_aside(&self, kind: Kind) {
        let file = self.history_file(kind);
        let aside = file.with_extension(SET_ASIDE);
        // The first one has more history.
        if !aside.exists() {
            let _ = fs::rename(&file, aside); // It is overwritten, then.
        }
    }

    /// Writes a policy's history.
    pub(super) fn write(&self, kind: Kind, history: &History) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(history)?;
        bytes.push(b'\n');
        self.put(&self.history_file(kind), &bytes)
    }

    /// Keeps what a version is made of.
    pub(super) fn keep(&self, source: &Source) -> io::Result<()> {
        let digests = source.digests();
        let parts = [
            (&**source.component(), digests.component),
            (source.config().as_bytes(), digests.config),
        ];
        for (bytes, digest) in parts {
            let file = self.object(&hex(&digest));
            if !file.exists() {
                self.put(&file, bytes)?;
            }
        }
        Ok(())
    }

    /// What a version is made of, whole and as it was.
    pub(super) fn source(&self, record: &Record) -> io::Result<Source> {
        let read = |digest: &str| {
            let bytes = fs::read(self.object(digest))?;
            match hex(&Sha256::digest(&bytes)) == digest {
                true => Ok(bytes),
                false => Err(io::Error::other("it is not what it was")),
            }
        };
        let config = String::from_utf8(read(&record.config_sha256)?).map_err(io::Error::other)?;
        Ok(Source::new(read(&record.component_sha256)?.into(), config.into()))
    }

    /// Removes what none of these is made of, unless a history that was put aside may name it.
    pub(super) fn prune<'a>(&self, kept: impl Iterator<Item = &'a Record>) -> io::Result<()> {
        if Kind::ALL.iter().any(|kind| self.history_file(*kind).with_extension(SET_ASIDE).exists())
        {
            return Ok(());
        }
        let kept: HashSet<&str> =
            kept.flat_map(|record| [&*record.component_sha256, &*record.config_sha256]).collect();
        for entry in fs::read_dir(self.folder.join("objects"))? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn history_file(&self, kind: Kind) -> PathBuf {
        self.folder.join(kind.name()).with_extension("json")
    }

    fn object(&self, digest: &str) -> PathBuf {
        self.folder.join("objects").join(digest)
    }

    /// Written elsewhere first: a process that is killed leaves the old file or the new one.
    fn put(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut new = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        new.write_all(bytes)?;
        // Without this, a machine that loses power might keep the name and not the contents.
        new.as_file().sync_data()?;
        new.persist(file)?;
        Ok(())
    }
}
