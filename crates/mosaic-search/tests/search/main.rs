//! Search engines: what both promise, what each promises alone.
//!
//! No Elasticsearch can be had for these tests. Its adapter runs against [`simulator`], which knows exactly the calls that the adapter
//! makes and refuses all others; that a real server takes them is read from its documentation, not shown here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod contract;
mod elasticsearch;
mod simulator;
mod tantivy;
