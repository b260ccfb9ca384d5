//! Full-text search: documents are put, and found by what their texts say.
//!
//! [`SearchEngine`] is the port; its engines are one in the process (tantivy, a directory of files) and one elsewhere that speaks
//! Elasticsearch's HTTP. [`Index`] is what callers hold: it keeps the limits, so that no engine sees a document or query that another
//! would refuse. Both engines cut text alike (`words`): Chinese is found by any word inside a sentence without a dictionary, see
//! `docs/adr/0016-search.md`.
//!
//! Promises: a document never replaces one of a later version, nor comes back after a later removal; what [`Index::put`] has accepted
//! survives a crash; what is searched for is text and never a query language. An engine that does not answer is `Unavailable`
//! (`SEARCH_UNAVAILABLE`); an index is never the only place of anything, so one that is damaged or of another schema counts as
//! not there ([`Index::open`]) and is created anew.

mod document;
mod elasticsearch;
mod engine;
mod open;
mod query;
mod schema;
#[cfg(feature = "tantivy")]
mod tantivy;
mod words;

pub use document::{Document, Removal, Value};
pub use elasticsearch::Elasticsearch;
pub use engine::{Index, SearchEngine};
pub use open::{Options, WRITER_HEAP, open};
pub use query::{Boost, Filter, Hit, Hits, Query};
pub use schema::{Field, IndexName, IndexSchema, Kind};
#[cfg(feature = "tantivy")]
pub use tantivy::Tantivy;
pub use words::{indexed_words, searched_words};

use mosaic_core::Error;

/// The error of an engine that does not answer, or not with sense.
fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("SEARCH_UNAVAILABLE", "the search engine does not answer").caused_by(cause)
}
