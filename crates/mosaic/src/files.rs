//! Files that hold secrets.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a new file that only its owner may read, from the first byte on.
///
/// # Errors
/// Those of the file system; `AlreadyExists` if the file is there, which is then left as it is.
pub fn write_secret_file(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
