//! Objects and presigned URLs.
//!
//! [`Blobs`] is the port: bytes under a [`BlobKey`], with a content type, seen whole or not at all. Two engines stand
//! behind it, files of this machine ([`FileBlobs`]) and anything that speaks S3, chosen by a URL ([`open`]); both
//! pass one contract suite. What is large never passes through the platform's own calls: a client is given a presigned
//! URL that allows one method on one key, with one content type and one length, until a moment. S3 checks such URLs itself; those
//! of files are signed here and answered by [`Opened::router`].
//!
//! Failures have stable reasons: `BLOBS_UNAVAILABLE` (the engine, a retry may help), `BLOB_TOO_LARGE` (more than the caller
//! allows), `BLOB_RANGE_INVALID`, `BLOB_DAMAGED`; that nothing is there is `None`.

mod content_type;
mod disposition;
mod engine;
mod error;
mod file;
mod key;
mod open;
mod range;
mod router;
mod s3;
mod s3_presign;
mod s3_url;
mod signed_url;
mod staged;
mod stored;

pub use content_type::ContentType;
pub use disposition::Disposition;
pub use engine::{Blob, BlobMeta, BlobStream, Blobs, GetGrant, LIST_MAX, PART_MAX, Page, Presigned, PutGrant, TTL_MAX};
pub use file::FileBlobs;
pub use key::{BlobKey, BlobPrefix};
pub use open::{OpenOptions, Opened, open};
pub use router::ROUTE_PREFIX;
pub use s3::S3Blobs;
