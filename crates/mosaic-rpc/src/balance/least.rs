//! The best of all, by a cost.

use std::sync::Arc;

use super::draws::{Draws, reduce, scramble};
use super::node::{Node, RETRY_SHARE};

/// Returns the position of the node with the lowest cost among those that are not `left_out`; among equals, any,
/// in proportion to weight. Looks at every node.
///
/// One that nobody has called for long is tried, whatever it costs: else nobody would see it recover.
pub(super) fn pick(
    nodes: &[Arc<Node>],
    now_us: u64,
    draws: &Draws,
    left_out: impl Fn(usize) -> bool,
    cost: impl Fn(&Node) -> f64,
) -> usize {
    // Any, should nobody be left.
    let mut bits = draws.next();
    let mut best = Chosen::new(reduce(bits, nodes.len()));
    let mut forgotten = Chosen::new(nodes.len());
    let mut lowest = f64::INFINITY;
    for (position, node) in nodes.iter().enumerate() {
        if left_out(position) {
            continue;
        }
        let cost = cost(node);
        if cost < lowest {
            lowest = cost;
            best = Chosen::new(position);
        }
        if cost <= lowest {
            best.offer(position, node.weight(), &mut bits);
        }
        if node.is_forgotten(now_us) {
            forgotten.offer(position, node.weight(), &mut bits);
        }
    }
    match nodes.get(forgotten.position) {
        Some(node) if draws.chance(RETRY_SHARE) && node.claim(now_us) => forgotten.position,
        _ => best.position,
    }
}

/// One of those that were offered, in proportion to weight (reservoir sampling).
struct Chosen {
    position: usize,
    total_weight: u64,
}

impl Chosen {
    const fn new(position: usize) -> Self {
        Self {
            position,
            total_weight: 0,
        }
    }

    /// `bits` are random, and others afterwards.
    fn offer(&mut self, position: usize, weight: u32, bits: &mut u64) {
        self.total_weight += u64::from(weight);
        *bits = scramble(bits.wrapping_add(1));
        if (u128::from(*bits) * u128::from(self.total_weight)) >> 64 < u128::from(weight) {
            self.position = position;
        }
    }
}
