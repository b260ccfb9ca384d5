//! A file that is not there yet.
//!
//! An upload is written beside the tree of blobs and moved into it when all of it is on the disk: readers see the old one or
//! the new one. What is given up is removed when its guard is dropped; what a crash leaves is swept later.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A file in the making; gone if it is dropped before [`Staged::move_to`].
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    is_moved: bool,
}

impl Staged {
    /// Creates the file `name` in `incoming`.
    pub(crate) fn create(incoming: &Path, name: &str) -> io::Result<(Self, File)> {
        let path = incoming.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((Self { path, is_moved: false }, file))
    }

    /// Gives the file `from` a second name in `incoming`: a put never writes to a file that is there, so both keep what it holds.
    pub(crate) fn link(from: &Path, incoming: &Path, name: &str) -> io::Result<Self> {
        let path = incoming.join(name);
        fs::hard_link(from, &path)?;
        Ok(Self { path, is_moved: false })
    }

    /// Moves the file, which must be on the disk, to `to`, beneath `root`; once this returns it survives a loss of power.
    pub(crate) fn move_to(mut self, root: &Path, to: &Path) -> io::Result<()> {
        let parent = to.parent().unwrap_or(root);
        create_directories(root, parent)?;
        if !fs::canonicalize(parent)?.starts_with(root) {
            return Err(io::Error::other("a directory of blobs leads elsewhere"));
        }
        fs::rename(&self.path, to)?;
        self.is_moved = true;
        sync_directory(parent)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.is_moved {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "what is left of an upload cannot be removed now");
        }
    }
}

/// Creates what is missing of `directory`, and has each new one remembered by the one above.
fn create_directories(root: &Path, directory: &Path) -> io::Result<()> {
    if directory == root {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(root);
    match fs::create_dir(directory) {
        Ok(()) => sync_directory(above),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_directories(root, above)?;
            create_directories(root, directory)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
