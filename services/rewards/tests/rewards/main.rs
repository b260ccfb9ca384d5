//! Rewards from the tap to the author's account, and what disagrees on the way.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod journey;
mod reconcile;
mod support;
