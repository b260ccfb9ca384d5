//! Smooth weighted round robin without a lock.
//!
//! The static stride scheduler of gRPC (gRFC A58): a sequence number runs over the instances, turn after turn, and an
//! instance takes its turn if the multiples of its weight step over a full scale there. Instances so get calls in
//! proportion to their weights, evenly spread, for one atomic increment a look.

use std::sync::atomic::{AtomicU64, Ordering};

/// The weight of the heaviest instance.
const SCALE: u64 = u16::MAX as u64;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Strides {
    weights: Box<[u64]>,
    sequence: AtomicU64,
}

impl Strides {
    /// Prepares the turns of `weights`, which are positive, from an arbitrary point of the sequence.
    pub(super) fn new(weights: impl Iterator<Item = f64>, start: u64) -> Self {
        let weights: Vec<f64> = weights.collect();
        let heaviest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let scaled = |weight: &f64| ((weight / heaviest * SCALE as f64) as u64).clamp(1, SCALE);
        Self {
            weights: weights.iter().map(scaled).collect(),
            sequence: AtomicU64::new(start >> 32),
        }
    }

    /// Returns the position whose turn it is.
    pub(super) fn pick(&self) -> usize {
        let n_weights = self.weights.len() as u64;
        loop {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            let (turn, position) = (sequence / n_weights, sequence % n_weights);
            let weight = self.weights[position as usize];
            // Another offset for each, so that equals do not take the same turns.
            let offset = SCALE / 2 * position;
            // The heaviest takes every turn, so that this ends within a round.
            if weight.wrapping_mul(turn).wrapping_add(offset) % SCALE >= SCALE - weight {
                return position as usize;
            }
        }
    }
}
