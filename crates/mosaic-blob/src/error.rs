//! What engines fail with.

use std::error::Error as StdError;

use mosaic_core::{Code, Error};

/// The engine does not answer, or not as it should.
pub(crate) fn unavailable(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::unavailable("BLOBS_UNAVAILABLE", "files cannot be stored or read now").caused_by(cause)
}

/// There is more than the caller allows.
pub(crate) fn too_large(len_max: u64) -> Error {
    let message = format!("is larger than {len_max} bytes");
    Error::invalid_argument("BLOB_TOO_LARGE", message).with_http_status(413)
}

/// The range begins at or past the end, or is empty.
pub(crate) fn range_invalid() -> Error {
    Error::new(Code::OutOfRange, "BLOB_RANGE_INVALID", "no such part").with_http_status(416)
}

/// The stored bytes are not what was stored.
pub(crate) fn damaged(what: &'static str) -> Error {
    Error::new(Code::DataLoss, "BLOB_DAMAGED", "the stored file is damaged").caused_by(what)
}
