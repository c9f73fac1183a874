//! Folders that nobody but the gateway's user may look into or write to: what is in them is trusted.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Makes the folder where there is none.
///
/// # Errors
/// Where it cannot be made, is another user's, or is open to others.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = fs::metadata(path)?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it is another user's"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(io::Error::other("others may read or write in it: `chmod 700` it"));
    }
    Ok(())
}
