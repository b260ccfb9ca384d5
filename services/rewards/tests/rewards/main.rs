//! Rewards from the tap to the author's account, and what disagrees on the way.

mod journey;
mod reconcile;
mod support;
