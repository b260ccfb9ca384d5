//! Search as its callers see it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod engine;
mod engines;
mod journey;
#[path = "../../../../crates/mosaic-search/tests/search/simulator.rs"]
mod simulator;
mod support;
