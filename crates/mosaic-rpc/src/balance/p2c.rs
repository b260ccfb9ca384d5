//! Power of two choices (Mitzenmacher 2001) by predicted latency.
//!
//! Two instances at random, the cheaper takes the call: nearly as good as looking at all, at a cost that does not grow,
//! and without the herd that runs to whoever looks best. One that nobody has picked for three seconds is tried, whatever
//! it costs: else nobody would see it recover.

use std::sync::Arc;

use super::{Draws, Node};

/// Returns the position of the node to call; there are at least two.
pub(super) fn pick(nodes: &[Arc<Node>], now_us: u64, draws: &Draws) -> usize {
    let first = draws.below(nodes.len());
    let mut second = draws.below(nodes.len() - 1);
    if second >= first {
        second += 1;
    }
    let (cheaper, dearer) = if nodes[second].cost(now_us) < nodes[first].cost(now_us) {
        (second, first)
    } else {
        (first, second)
    };
    if nodes[dearer].is_forgotten(now_us) {
        dearer
    } else {
        cheaper
    }
}
