//! The port: what an engine of blobs does.
//!
//! It is shaped by what services need: whole objects that appear at once, reads with a limit of the caller's, and URLs for
//! clients that move what is large themselves. There is no rename, no append, no locking: S3 has none. Order and
//! atomicity between keys are nobody's promise.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use mosaic_core::{Error, Result, Timestamp};

use crate::error::{range_invalid, too_large};
use crate::{BlobKey, BlobPrefix, ContentType, Disposition};

/// Keys that one [`Blobs::list`] returns at most.
pub const LIST_MAX: usize = 1000;

/// Bytes that one [`Blobs::get_range`] returns at most.
pub const PART_MAX: u64 = 64 << 20;

/// Longest life of a presigned URL: what S3 allows.
pub const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Bytes that come one chunk after the other; an error breaks the upload off.
pub type BlobStream<'a> = BoxStream<'a, Result<Bytes>>;

/// What is known of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMeta {
    /// Length of the whole.
    pub size_bytes: u64,
    /// As it was put.
    pub content_type: ContentType,
    /// When it was put, by the engine's clock.
    pub modified: Timestamp,
}

/// A blob, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    /// What was asked for.
    pub bytes: Bytes,
    /// What is known of the whole.
    pub meta: BlobMeta,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("n_bytes", &self.bytes.len())
            .field("meta", &self.meta)
            .finish()
    }
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Keys, each once.
    pub keys: Vec<BlobKey>,
    /// Where the next page begins, if there may be more: to be given as `after`.
    pub next: Option<BlobKey>,
}

/// What a presigned URL to read allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetGrant {
    /// How long it is good for.
    pub ttl: Duration,
    /// What a browser does with it.
    pub disposition: Disposition,
    /// The type to answer with, if not the stored one.
    pub content_type: Option<ContentType>,
}

/// What a presigned URL to write allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutGrant {
    /// How long it is good for.
    pub ttl: Duration,
    /// The type that the upload must name.
    pub content_type: ContentType,
    /// The length that the upload must have: S3 cannot sign a limit, but it can sign a length.
    pub size_bytes: u64,
}

/// A request that somebody without credentials may make.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    /// `GET` or `PUT`.
    pub method: &'static str,
    /// Where; whoever knows it may do it. A path without a host if the engine is files and `blobs.public_url` is not set.
    pub url: String,
    /// Headers that the request must carry as they are here.
    pub headers: Vec<(&'static str, String)>,
    /// From when on it is refused.
    pub expires: Timestamp,
}

impl fmt::Debug for Presigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, _) = self.url.split_once('?').unwrap_or((&self.url, ""));
        f.debug_struct("Presigned")
            .field("method", &self.method)
            .field("url", &format_args!("{path}?***"))
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Where blobs are. All methods but the presigning ones may be dropped at any `.await` and leave nothing half visible.
///
/// # Errors
/// `BLOBS_UNAVAILABLE` if the engine does not answer; others where a method names them.
#[async_trait]
pub trait Blobs: Send + Sync + fmt::Debug + 'static {
    /// Stores `bytes` under `key`; a second put of the same key replaces the first.
    async fn put(&self, key: &BlobKey, bytes: Bytes, content_type: &ContentType) -> Result<()>;

    /// Stores what `body` yields, never all of it in memory, and returns how much that was.
    ///
    /// If the body fails or this call is dropped, what was under `key` before is there still and nothing else is.
    ///
    /// # Errors
    /// `BLOB_TOO_LARGE` beyond `len_max`; the body's own.
    async fn put_stream(
        &self,
        key: &BlobKey,
        body: BlobStream<'_>,
        len_max: u64,
        content_type: &ContentType,
    ) -> Result<u64>;

    /// Returns the whole blob; `None` if there is none.
    ///
    /// # Errors
    /// `BLOB_TOO_LARGE` if it is longer than `len_max`, before it is read.
    async fn get(&self, key: &BlobKey, len_max: u64) -> Result<Option<Blob>>;

    /// Returns the part of the blob in `range`, as far as it is there; `None` if there is no blob.
    ///
    /// # Errors
    /// `BLOB_RANGE_INVALID` if the range is empty or begins at or past the end; `BLOB_TOO_LARGE` beyond [`PART_MAX`].
    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Option<Blob>>;

    /// Returns what is known of the blob; `None` if there is none.
    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>>;

    /// Stores what is under `from` under `to`, too; false if nothing is. The copy is what `from` was at one moment, whatever is
    /// put there meanwhile.
    async fn copy(&self, from: &BlobKey, to: &BlobKey) -> Result<bool>;

    /// Removes the blob; it is no error if there is none.
    async fn delete(&self, key: &BlobKey) -> Result<()>;

    /// Returns keys that begin with `prefix`, in an order of the engine's own, after the key `after`; at most `limit` and
    /// [`LIST_MAX`].
    async fn list(&self, prefix: &BlobPrefix, after: Option<&BlobKey>, limit: usize) -> Result<Page>;

    /// Returns a URL to read the blob. It says nothing about whether the blob is there.
    ///
    /// # Errors
    /// `TTL_INVALID` beyond [`TTL_MAX`].
    async fn presign_get(&self, key: &BlobKey, grant: &GetGrant) -> Result<Presigned>;

    /// Returns a URL to put the blob, replacing what is there.
    ///
    /// # Errors
    /// `TTL_INVALID` beyond [`TTL_MAX`].
    async fn presign_put(&self, key: &BlobKey, grant: &PutGrant) -> Result<Presigned>;

    /// Asks whether the engine answers.
    async fn ping(&self) -> Result<()>;
}

/// Checks the life of a presigned URL.
pub(crate) fn check_ttl(ttl: Duration) -> Result<()> {
    if (Duration::from_secs(1)..=TTL_MAX).contains(&ttl) {
        Ok(())
    } else {
        Err(Error::invalid_argument(
            "TTL_INVALID",
            "must be from 1 second to 7 days",
        ))
    }
}

impl PutGrant {
    /// Returns the headers that an upload must carry.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("content-length", self.size_bytes.to_string()),
            ("content-type", self.content_type.to_string()),
        ]
    }
}

/// Returns where a part begins and how long it is, in a blob of `size_bytes`.
pub(crate) fn clip(range: &Range<u64>, size_bytes: u64) -> Result<(u64, usize)> {
    let end = range.end.min(size_bytes);
    let len = end
        .checked_sub(range.start)
        .filter(|len| *len > 0)
        .ok_or_else(range_invalid)?;
    match usize::try_from(len) {
        Ok(count) if len <= PART_MAX => Ok((range.start, count)),
        _ => Err(too_large(PART_MAX)),
    }
}
