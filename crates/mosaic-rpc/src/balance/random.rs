//! Choice in proportion to weights.

/// Running sums of weights, searched in logarithmic time.
#[derive(Debug)]
pub(super) struct Shares {
    ends: Box<[f64]>,
}

impl Shares {
    /// Prepares the shares of `weights`, which are positive.
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let ends = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { ends: ends.collect() }
    }

    /// Returns the position that 64 random or hashed bits fall to.
    pub(super) fn pick(&self, bits: u64) -> usize {
        let total = self.ends.last().copied().unwrap_or_default();
        let point = mosaic_core::fraction(bits) * total;
        let position = self.ends.partition_point(|end| *end <= point);
        // Rounding may put the point at the very end.
        position.min(self.ends.len() - 1)
    }
}
