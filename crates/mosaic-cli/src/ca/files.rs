//! Files of a CA: written whole or not at all, keys for nobody but their owner.
//!
//! A file is written beside its place and then moved there, so that a process which reads at any moment, and a machine
//! that goes down at any moment, has the old one or the new one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{CaError, Existing};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    Owner,
    Everybody,
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), CaError> {
    fs::create_dir_all(dir).map_err(|cause| failed("create", dir, cause))
}

pub(crate) fn read(file: &Path) -> Result<String, CaError> {
    fs::read_to_string(file).map_err(|cause| failed("read", file, cause))
}

/// Returns the content of a file that may not be there.
pub(crate) fn read_if_there(file: &Path) -> Result<Option<String>, CaError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("read", file, cause)),
    }
}

pub(crate) fn remove(file: &Path) -> Result<(), CaError> {
    match fs::remove_file(file) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", file, cause)),
        _ => Ok(()),
    }
}

/// Writes a file whole.
pub(crate) fn write(file: &Path, text: &str, readers: Readers, existing: Existing) -> Result<(), CaError> {
    let fresh = beside(file);
    let outcome = write_new(&fresh, text, readers).and_then(|()| match existing {
        Existing::Replace => fs::rename(&fresh, file),
        // A link, unlike a move, fails if there is something.
        Existing::Keep => fs::hard_link(&fresh, file),
    });
    // Gone already if it was moved.
    let _ = fs::remove_file(&fresh);
    outcome.map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => CaError::Exists(file.to_owned()),
        _ => failed("write", file, cause),
    })
}

fn write_new(file: &Path, text: &str, readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    };
    // What a run that was killed has left.
    let _ = fs::remove_file(file);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn failed(what: &'static str, file: &Path, cause: io::Error) -> CaError {
    CaError::File {
        what,
        file: file.to_owned(),
        cause,
    }
}
