//! Turns `.proto` contracts into Rust. Called from a `build.rs`; needs no protoc.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), mosaic_build::Error> {
//!     mosaic_build::Builder::new("proto").compile_all()
//! }
//! // lib.rs: include!(concat!(env!("OUT_DIR"), "/mosaic.rs"));
//! ```
//!
//! Each package becomes a module (`homestay.v1` is `homestay::v1`) with the messages, and for each service its trait,
//! server, client, routes and descriptor. The options are in `mosaic/v1/options.proto`, `google/api/annotations.proto`
//! and `buf/validate/validate.proto`, which come with this crate. What a contract gets wrong is an [`Error`] that names
//! file and line: nothing is left to be found at run time.

mod builder;
mod checks;
mod contract;
mod debug;
mod http;
mod json;
mod messages;
mod names;
mod openapi;
mod options;
mod output;
mod parse;
mod places;
mod query;
mod routes;
mod rules;
mod schema;
mod service;

pub use builder::{Builder, Generated};
pub use places::Error;
