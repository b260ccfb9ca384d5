//! From a URL to an engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use mosaic_core::{Error, Result, Runtime, Secret};

use crate::s3_url::S3Url;
use crate::{Blobs, FileBlobs, S3Blobs, router};

/// What engines need beside their URL.
#[derive(Debug)]
pub struct OpenOptions {
    /// Where `file:` alone keeps its blobs: in `blobs` beneath it.
    pub data: PathBuf,
    /// With what URLs of files are signed; the same in all processes that share them.
    pub signing_key: Secret<Vec<u8>>,
    /// What URLs of files begin with; empty: they are paths.
    pub public_url: String,
    /// Access key and secret key of S3, if the URL has none.
    pub credentials: Option<(String, Secret<String>)>,
}

/// An engine, and the routes that its presigned URLs need.
#[derive(Debug, Clone)]
pub struct Opened {
    blobs: Arc<dyn Blobs>,
    router: Option<Router>,
}

impl Opened {
    /// Returns the engine.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        self.blobs.clone()
    }

    /// Returns the routes for presigned URLs, beneath [`ROUTE_PREFIX`](crate::ROUTE_PREFIX), if the engine does not answer them
    /// itself.
    pub fn router(&self) -> Option<Router> {
        self.router.clone()
    }
}

/// Opens the engine of `url`: `file:`, `file:DIRECTORY` or `s3://...`. Nothing is asked of it yet: an engine that is down is no error.
///
/// # Errors
/// `InvalidArgument` (`BLOBS_URL_INVALID`).
pub fn open(url: &str, options: OpenOptions, runtime: &Runtime) -> Result<Opened> {
    match url.split_once(':') {
        Some(("file", "")) => Ok(files(&options.data.join("blobs"), options, runtime)),
        Some(("file", directory)) => Ok(files(Path::new(directory), options, runtime)),
        Some(("s3", _)) => {
            let address = S3Url::parse(url, options.credentials).map_err(invalid)?;
            let blobs = Arc::new(S3Blobs::new(address, runtime)?);
            Ok(Opened { blobs, router: None })
        }
        _ => Err(invalid("must be file: or s3://host/bucket")),
    }
}

fn invalid(what: &'static str) -> Error {
    Error::invalid_argument("BLOBS_URL_INVALID", what)
}

fn files(root: &Path, options: OpenOptions, runtime: &Runtime) -> Opened {
    let blobs = FileBlobs::new(root, options.signing_key, &options.public_url, runtime);
    Opened {
        router: Some(router::router(blobs.clone())),
        blobs: Arc::new(blobs),
    }
}
