//! A blob as a file.
//!
//! The bytes come first, so that people can look at them; behind them the content type, its length in one byte, and a mark.
//! One file, one rename: bytes and type change together, and a file that was cut short is known by its missing mark.
//! The last segment of a key gets a `~`, which no key has, so `a` and `a/b` can both be there.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use mosaic_core::{Error, Result, Timestamp};

use crate::error::{damaged, unavailable};
use crate::{BlobKey, BlobMeta, ContentType};

/// Ends every file; the digit is the version of the layout.
const MARK: &[u8; 8] = b"mosaic1\n";

/// What the file name of a blob ends with.
pub(crate) const SUFFIX: &str = "~";

/// A blob that is open.
#[derive(Debug)]
pub(crate) struct Stored {
    /// At an unknown place.
    pub(crate) file: File,
    pub(crate) meta: BlobMeta,
}

impl Stored {
    /// Opens the blob; `None` if there is none beneath `root`, which must be canonical.
    pub(crate) fn open(root: &Path, key: &BlobKey) -> Result<Option<Self>> {
        let path = match fs::canonicalize(path_of(root, key)) {
            Ok(path) => path,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(unavailable(error)),
        };
        if !path.starts_with(root) {
            tracing::warn!(%key, "a file of blobs leads elsewhere: it is not read");
            return Ok(None);
        }
        match File::open(&path) {
            Ok(file) => Self::read(file).map(Some),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn read(mut file: File) -> Result<Self> {
        let status = file.metadata().map_err(unavailable)?;
        let modified = status.modified().map_err(unavailable)?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (content_type, trailer_len) = read_trailer(&mut file, status.len())?;
        let meta = BlobMeta {
            size_bytes: status.len() - trailer_len,
            content_type,
            modified: Timestamp::EPOCH.plus(since),
        };
        Ok(Self { file, meta })
    }

    /// Reads `len` bytes from `start`.
    pub(crate) fn part(mut self, start: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.seek(SeekFrom::Start(start)).map_err(unavailable)?;
        self.file.read_exact(&mut bytes).map_err(unavailable)?;
        Ok(bytes)
    }
}

fn read_trailer(file: &mut File, file_len: u64) -> Result<(ContentType, u64)> {
    const FIXED: usize = MARK.len() + 1;
    let cut = || damaged("the mark at the end is missing");
    let window = file_len.min((FIXED + usize::from(u8::MAX)) as u64);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(file_len - window)).map_err(unavailable)?;
    file.take(window).read_to_end(&mut tail).map_err(unavailable)?;
    let rest = tail.strip_suffix(MARK).ok_or_else(cut)?;
    let (len, rest) = rest.split_last().ok_or_else(cut)?;
    let start = rest.len().checked_sub(usize::from(*len)).ok_or_else(cut)?;
    let text = std::str::from_utf8(&rest[start..]).map_err(|_| cut())?;
    let content_type = text.parse().map_err(|_: Error| damaged("the content type is none"))?;
    Ok((content_type, (FIXED + text.len()) as u64))
}

/// Returns what stands behind the bytes of a blob.
pub(crate) fn trailer(content_type: &ContentType) -> Vec<u8> {
    let text = content_type.as_str();
    let len = u8::try_from(text.len()).expect("a content type has at most 100 bytes");
    [text.as_bytes(), &[len], MARK].concat()
}

/// Returns where a blob is: beneath `root`, for no segment of a key is a dot or two.
pub(crate) fn path_of(root: &Path, key: &BlobKey) -> PathBuf {
    let mut path = root.to_owned();
    path.extend(key.segments());
    path.as_mut_os_string().push(SUFFIX);
    path
}

/// Does `error` mean that nothing is there?
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
