//! Chance, turns and hashes for picks.
//!
//! Cheap rather than secret: a pick takes some tens of nanoseconds, and what is drawn protects nothing. Hashes are ours and
//! not the standard library's, which may change with a version: two processes must agree who owns a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Spreads what differs little.
pub(crate) use mosaic_core::split_mix as scramble;
use mosaic_core::{SPLIT_MIX_STEP, fraction};

/// Draws and turns for the picks of one fleet: SplitMix64 on a counter that threads share without waiting for each other.
///
/// Turns live here because pickers are replaced every second and round robin must go on where it was.
#[derive(Debug)]
pub struct Draws {
    state: AtomicU64,
    turns: Turns,
}

impl Draws {
    /// Starts from `seed`; equal seeds draw equal numbers.
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
            // Not all fleets begin with the same instance. Half the bits: turns are multiplied.
            turns: Turns(Arc::new(AtomicU64::new(scramble(seed ^ SPLIT_MIX_STEP) >> 32))),
        }
    }

    /// Returns 64 random bits.
    pub fn next(&self) -> u64 {
        scramble(self.state.fetch_add(SPLIT_MIX_STEP, Ordering::Relaxed))
    }

    /// Returns a number below `bound`, which is not zero; the bias is below 2^-32 for sets of any real size.
    pub(super) fn below(&self, bound: usize) -> usize {
        reduce(self.next(), bound)
    }

    /// Returns true with the probability `share`.
    pub(super) fn chance(&self, share: f64) -> bool {
        fraction(self.next()) < share
    }

    /// Returns the turns, to be taken by a picker.
    pub(super) fn turns(&self) -> Turns {
        self.turns.clone()
    }
}

/// Whose turn it is, the same for all clones.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// Returns the number of the next turn, one more each time.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Maps 64 random bits to a number below `bound` (Lemire 2019, without the rejection).
pub(super) const fn reduce(bits: u64, bound: usize) -> usize {
    ((bits as u128 * bound as u128) >> 64) as usize
}

/// Hashes a text (FNV-1a), the same in every process and version.
pub(crate) fn hash_text(text: &str) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    scramble(hash)
}
