//! From a URL to an engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Error, Result, TaskGroup};

use crate::{Elasticsearch, SearchEngine};

/// What [`Options::writer_heap`] may be.
pub const WRITER_HEAP: std::ops::RangeInclusive<usize> = 15_000_000..=4_000_000_000;

/// How engines work; the defaults suit most.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of an engine elsewhere: longest time for an answer. Default 2 s.
    pub timeout: Duration,
    /// Of the engine in the process: changes that come within this time share a commit. Default 50 ms.
    pub commit_interval: Duration,
    /// So many changes are committed at once, whatever the time. Default 1000.
    pub commit_size: usize,
    /// Bytes of memory of one index's writer, within [`WRITER_HEAP`]. Default 16 MB.
    pub writer_heap: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            commit_interval: Duration::from_millis(50),
            commit_size: 1000,
            writer_heap: 16_000_000,
        }
    }
}

/// Opens the engine of `url`: `tantivy:` (files in `data`), `tantivy:DIRECTORY`, or `elasticsearch://` and
/// `https+elasticsearch://`, see [`Elasticsearch::open`]. Nothing is asked of it yet.
///
/// # Errors
/// `InvalidArgument` (`SEARCH_URL_INVALID`) for any other URL.
pub fn open(url: &str, data: &Path, options: Options, background: &TaskGroup) -> Result<Arc<dyn SearchEngine>> {
    match url.split_once(':') {
        #[cfg(feature = "tantivy")]
        Some(("tantivy", directory)) => {
            let directory = if directory.is_empty() {
                data
            } else {
                Path::new(directory)
            };
            Ok(Arc::new(crate::Tantivy::new(directory, options, background)))
        }
        Some(("elasticsearch" | "https+elasticsearch", _)) => Ok(Arc::new(Elasticsearch::open(url, &options)?)),
        _ => {
            let message = "the URL of the search engine must be tantivy:, elasticsearch:// or https+elasticsearch://";
            Err(Error::invalid_argument("SEARCH_URL_INVALID", message))
        }
    }
}
