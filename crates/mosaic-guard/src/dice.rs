//! Chance for decisions that are made on the way of a call.
//!
//! SplitMix64 over a counter: two instructions and one atomic addition, where the generator of the operating system is a
//! system call. Its start comes from the runtime, so a seeded run repeats; it is no secret and need not be one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use mosaic_core::{Runtime, SPLIT_MIX_STEP, fraction, split_mix};

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Dice {
    start: OnceLock<u64>,
    n_rolled: AtomicU64,
}

impl Dice {
    /// Returns a number from 0 (included) to 1 (excluded).
    pub(crate) fn roll(&self, runtime: &Runtime) -> f64 {
        let start = *self.start.get_or_init(|| runtime.random_u64());
        let n_rolled = self.n_rolled.fetch_add(1, Ordering::Relaxed);
        let state = start.wrapping_add(n_rolled.wrapping_add(1).wrapping_mul(SPLIT_MIX_STEP));
        fraction(split_mix(state))
    }
}
