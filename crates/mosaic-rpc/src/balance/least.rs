//! The best of all, by a cost.

use std::sync::Arc;

use super::draws::{Draws, reduce, scramble};
use super::node::{Node, RETRY_SHARE};

/// Returns the position of the node with the lowest cost among those that are not `left_out`; among equals, any. Looks at
/// every node.
///
/// One that nobody has called for long is tried, whatever it costs: else nobody would see it recover.
pub(super) fn pick(
    nodes: &[Arc<Node>],
    now_us: u64,
    draws: &Draws,
    left_out: impl Fn(usize) -> bool,
    cost: impl Fn(&Node) -> f64,
) -> usize {
    let mut bits = draws.next();
    let (mut best, mut lowest, mut n_equal) = (reduce(bits, nodes.len()), f64::INFINITY, 1);
    let (mut forgotten, mut n_forgotten) = (None, 0);
    // Of n equals each is kept with the probability 1/n (reservoir sampling).
    let mut is_kept = |n: usize| {
        bits = scramble(bits.wrapping_add(1));
        reduce(bits, n) == 0
    };
    for (position, node) in nodes.iter().enumerate() {
        if left_out(position) {
            continue;
        }
        let cost = cost(node);
        if cost < lowest {
            (best, lowest, n_equal) = (position, cost, 1);
        } else if cost <= lowest {
            n_equal += 1;
            if is_kept(n_equal) {
                best = position;
            }
        }
        if node.is_forgotten(now_us) {
            n_forgotten += 1;
            if is_kept(n_forgotten) {
                forgotten = Some(position);
            }
        }
    }
    match forgotten {
        Some(position) if draws.chance(RETRY_SHARE) && nodes[position].claim(now_us) => position,
        _ => best,
    }
}
