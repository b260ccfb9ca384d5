//! Randomness that repeats: equal seeds give equal sites.
//!
//! Not [`mosaic_core::SeededRandom`], which is shared and locked: here every part of a site has dice of its own, so that
//! one part does not change when another one draws more often.

use mosaic_core::{SPLIT_MIX_STEP, fraction, split_mix};

/// A generator of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Makes the dice of the `part` of a site.
    pub(crate) fn new(seed: u64, part: &str) -> Self {
        let mix = |state: u64, byte: u8| split_mix(state.wrapping_add(SPLIT_MIX_STEP) ^ u64::from(byte));
        Self(part.bytes().fold(split_mix(seed), mix))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(SPLIT_MIX_STEP);
        split_mix(self.0)
    }

    /// Returns a number from 0 (included) to 1 (excluded).
    pub(crate) fn fraction(&mut self) -> f64 {
        fraction(self.bits())
    }

    /// Returns a number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Returns a number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Returns one of `items`, of which there is at least one.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Brings `items` into any order, each as likely as the others.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Draws positions, each as often as its weight says.
#[derive(Debug, Clone)]
pub(crate) struct Weighted {
    sums: Vec<f64>,
}

impl Weighted {
    /// Weighs positions; there is at least one weight above 0.
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut total = 0.0;
        let add = |weight: f64| {
            total += weight;
            total
        };
        Self {
            sums: weights.into_iter().map(add).collect(),
        }
    }

    /// Draws a position.
    pub(crate) fn draw(&self, dice: &mut Dice) -> usize {
        let target = dice.fraction() * self.sums.last().copied().unwrap_or_default();
        self.sums.partition_point(|sum| *sum <= target).min(self.sums.len() - 1)
    }
}

/// Returns the weights of a power law over `len` positions in any order: the one of rank r has `r^-exponent`.
pub(crate) fn power_law(dice: &mut Dice, len: usize, exponent: f64) -> Vec<f64> {
    let mut weights: Vec<f64> = (1..=len).map(|rank| (rank as f64).powf(-exponent)).collect();
    dice.shuffle(&mut weights);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_and_parts_differ() {
        let draw = |seed, part| {
            let mut dice = Dice::new(seed, part);
            (0..50).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn weights_are_obeyed_and_nothing_is_lost_in_a_shuffle() {
        let mut dice = Dice::new(3, "t");
        let weighted = Weighted::new([0.0, 3.0, 0.0, 1.0]);
        let mut n_drawn = [0; 4];
        for _ in 0..4000 {
            n_drawn[weighted.draw(&mut dice)] += 1;
        }
        assert_eq!((n_drawn[0], n_drawn[2]), (0, 0));
        assert!((2850..3150).contains(&n_drawn[1]), "{n_drawn:?}");
        let mut items: Vec<usize> = (0..100).collect();
        dice.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        assert!((0..100).all(|_| (2..=4).contains(&dice.between(2, 4))));
    }
}
