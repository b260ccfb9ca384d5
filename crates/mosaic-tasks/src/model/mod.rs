//! The rules: what becomes of tasks, as pure functions. No async, no store, no clock.
//!
//! Engines fetch what a rule asks for, ask it, and store the answer; none has rules of its own, so the one in memory, those
//! in SQL and the one on Redis cannot disagree. `life` is the life of one task, `effects` what a step means to others,
//! `chain` who comes after whom, `limit` and `group` are the rules of keys that many tasks share.

mod chain;
mod effects;
mod group;
mod life;
mod limit;
mod record;
#[cfg(test)]
mod tests;

pub use chain::{Edge, edges};
pub use effects::{Effects, effects};
pub use group::{Gathering, MERGED_BYTES_MAX, frame, gathered, merged, n_to_merge, unframe};
pub use life::{ARCHIVED_FOR, Event, Next, Refused, apply, enqueued, holds, may_change};
pub use limit::{Released, Turn, admit, release};
pub use record::{Record, State, Unique, Wait};
