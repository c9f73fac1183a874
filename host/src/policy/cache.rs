//! Compiled policies in a folder, so that a start need not compile what an earlier one has compiled.
//!
//! What is read here becomes native code of this process. So the folder belongs to the gateway's user
//! alone, or it is not used. A file's name says what it was compiled from and what decides about the
//! code; its contents begin with the SHA-256 of the rest, so that half a file is none. The folder can
//! be shared by gateways, and emptied at any time.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::private;

/// The files that are kept; the oldest make way.
const FILES_MAX: usize = 64;

const SUM_BYTES: usize = 32;

const EXTENSION: &str = "cwasm";

/// What the names of files begin with that are not whole yet. Another gateway may be writing one; one that
/// is older than [`WRITING_TIME_MAX`] belongs to nobody any more.
const UNFINISHED: &str = ".unfinished-";
const WRITING_TIME_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Makes the folder where there is none.
    ///
    /// Errors where it cannot be made, is another user's, or is open to others.
    pub(super) fn open(folder: &Path) -> io::Result<Cache> {
        private::folder(folder)?;
        Ok(Cache { folder: folder.to_owned() })
    }

    /// What was compiled from these bytes, if it is there and whole.
    pub(super) fn get(&self, engine: &Engine, bytes: &[u8]) -> Option<Component> {
        let contents = fs::read(self.file(engine, bytes)).ok()?;
        let (sum, code) = contents.split_at_checked(SUM_BYTES)?;
        if *sum != *Sha256::digest(code) {
            return None;
        }
        // Nobody but this user could have written into the folder, and the sum says that these bytes
        // are what `put` was handed, whole.
        component_of(engine, code).ok()
    }

    /// Keeps what was compiled from these bytes. The file appears under its name when it is whole.
    pub(super) fn put(&self, engine: &Engine, bytes: &[u8], code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.persist(self.file(engine, bytes))?;
        self.prune()
    }

    fn file(&self, engine: &Engine, bytes: &[u8]) -> PathBuf {
        let mut compiler = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut compiler);
        let name = Sha256::new()
            .chain_update(bytes)
            .chain_update(compiler.finish().to_le_bytes())
            .finalize();
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name).with_extension(EXTENSION)
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            let unfinished =
                entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
            let age = entry.metadata().and_then(|it| it.modified()).map(|it| it.elapsed());
            if unfinished && age.is_ok_and(|age| age.is_ok_and(|age| age > WRITING_TIME_MAX)) {
                let _ = fs::remove_file(&path); // As below.
            }
            // Another gateway may have removed it by now.
            if path.extension().is_some_and(|it| it == EXTENSION)
                && let Ok(found) = fs::metadata(&path)
            {
                files.push((found.modified().unwrap_or(SystemTime::UNIX_EPOCH), path));
            }
        }
        files.sort_unstable();
        for (_, oldest) in files.iter().take(files.len().saturating_sub(FILES_MAX)) {
            let _ = fs::remove_file(oldest); // As above.
        }
        Ok(())
    }
}

/// What the compiler wrote, as something that can run. Only for bytes that come from the compiler:
/// forged ones would be native code. wasmtime itself refuses what another version or configuration of it
/// has compiled.
pub(super) fn component_of(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: all callers have the bytes from the compiling child, or from the folder that only this
    // user can write to.
    #[allow(unsafe_code, reason = "compiled code cannot be checked, only its origin")]
    unsafe {
        Component::deserialize(engine, code)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use tempfile::TempDir;
    use wasmtime::Config;

    use super::*;

    /// The empty component: what is behind it is a custom section, so that no two are alike.
    fn component(number: u8) -> Vec<u8> {
        [b"\0asm\x0d\0\x01\0\0\x02\x01".as_slice(), &[number]].concat()
    }

    fn cache() -> (TempDir, Cache, Engine) {
        let folder = TempDir::new().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("its mode");
        let cache = Cache::open(folder.path()).expect("a cache");
        (folder, cache, Engine::default())
    }

    fn put(cache: &Cache, engine: &Engine, bytes: &[u8]) {
        let code = engine.precompile_component(bytes).expect("a component");
        cache.put(engine, bytes, &code).expect("it is kept");
    }

    #[test]
    fn what_was_put_is_found_for_the_same_bytes_and_compiler_only() {
        let (_folder, cache, engine) = cache();
        assert!(cache.get(&engine, &component(b'a')).is_none(), "nothing is there");
        put(&cache, &engine, &component(b'a'));
        assert!(cache.get(&engine, &component(b'a')).is_some());
        assert!(cache.get(&engine, &component(b'b')).is_none());
        let other = Engine::new(Config::new().epoch_interruption(true)).expect("an engine");
        assert!(cache.get(&other, &component(b'a')).is_none());
    }

    #[test]
    fn what_is_not_whole_is_not_there() {
        let (_folder, cache, engine) = cache();
        let bytes = component(b'a');
        put(&cache, &engine, &bytes);
        let file = cache.file(&engine, &bytes);
        let whole = fs::read(&file).expect("the file");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let forged = [&Sha256::digest(b"native code")[..], b"native code"].concat();
        for spoilt in [&whole[..whole.len() - 1], &whole[..20], b"", &flipped, &forged] {
            fs::write(&file, spoilt).expect("it is spoilt");
            assert!(cache.get(&engine, &bytes).is_none());
        }
        put(&cache, &engine, &bytes);
        assert_eq!(fs::read(&file).expect("the file"), whole);
    }

    #[test]
    fn a_folder_that_others_can_reach_is_refused() {
        let folder = TempDir::new().expect("a folder");
        for mode in [0o755, 0o770, 0o701] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("its mode");
            let error = Cache::open(folder.path()).expect_err("it is open");
            assert!(error.to_string().contains("chmod 700"), "{error}");
        }
        let made = folder.path().join("a/b");
        Cache::open(&made).expect("it is made");
        assert_eq!(fs::metadata(made).expect("it is there").mode() & 0o777, 0o700);
    }

    #[test]
    fn the_oldest_make_way() {
        let (folder, cache, engine) = cache();
        fs::write(folder.path().join("notes"), "not the cache's own").expect("a file");
        put(&cache, &engine, &component(0));
        let oldest = fs::File::open(cache.file(&engine, &component(0))).expect("the first");
        oldest.set_modified(SystemTime::UNIX_EPOCH).expect("its time");
        for number in 1..=FILES_MAX as u8 {
            put(&cache, &engine, &component(number));
        }
        assert!(cache.get(&engine, &component(0)).is_none());
        assert!(cache.get(&engine, &component(1)).is_some());
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), FILES_MAX + 1);
    }
}
