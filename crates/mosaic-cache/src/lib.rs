//! Cache engines and what is built on them.
//!
//! An engine holds bytes, counters and one-time codes, each with an end: in the memory of a process, or in Redis for all
//! of them. [`Cache`] is the engine with a guard: one that stops answering is left alone for a while, so that a dead
//! cache slows nobody for long. [`ReadThrough`] keeps rows of a type: one load however many ask, absence remembered, and
//! an engine that fails replaced by the load itself.

mod cache;
mod engine;
mod key;
mod memory;
mod read_through;
mod redis;

pub use cache::Cache;
pub use engine::{Answer, CacheEngine, Count, Issued, Redeemed, Row};
pub use key::{CacheKey, KeyPart};
pub use memory::MemoryEngine;
pub use read_through::ReadThrough;
pub use redis::RedisEngine;

#[cfg(test)]
mod contract_tests;
