//! Smooth weighted round robin without a lock.
//!
//! The static stride scheduler of gRPC (gRFC A58): a sequence number runs over the instances, turn after turn, and an
//! instance takes its turn if the multiples of its weight step over a full scale there. Instances so get calls in
//! proportion to their weights, evenly spread, for one atomic increment a look.

use super::draws::Turns;

/// The weight of the heaviest instance.
const SCALE: u64 = u16::MAX as u64;
/// `SCALE` by the golden ratio: the offsets of any number of instances in a row lie far apart. With gRPC's, which knows
/// two places, many light instances would take their turns all at once and leave a heavy one long runs between.
const GOLDEN: u64 = 40_503;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Strides {
    weights: Box<[u64]>,
    turns: Turns,
}

impl Strides {
    /// Prepares turns in proportion to `weights`, which are positive.
    pub(super) fn new(weights: impl Iterator<Item = f64>, turns: Turns) -> Self {
        let weights: Vec<f64> = weights.collect();
        let heaviest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let scaled = |weight: &f64| ((weight / heaviest * SCALE as f64) as u64).clamp(1, SCALE);
        Self {
            weights: weights.iter().map(scaled).collect(),
            turns,
        }
    }

    /// Returns the position whose turn it is.
    pub(super) fn pick(&self) -> usize {
        let n_weights = self.weights.len() as u64;
        loop {
            let sequence = self.turns.next();
            let (turn, position) = (sequence / n_weights, sequence % n_weights);
            let weight = self.weights[position as usize];
            let offset = GOLDEN.wrapping_mul(position);
            // The heaviest takes every turn, so that this ends within a round.
            if weight.wrapping_mul(turn).wrapping_add(offset) % SCALE >= SCALE - weight {
                return position as usize;
            }
        }
    }
}
