//! Search as its callers see it.

mod engine;
mod engines;
mod journey;
#[path = "../../../../crates/mosaic-search/tests/search/simulator.rs"]
mod simulator;
mod support;
