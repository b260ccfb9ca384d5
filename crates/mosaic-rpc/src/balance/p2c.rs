//! Power of two choices (Mitzenmacher 2001) by predicted latency.
//!
//! Two instances at random, the cheaper takes the call: nearly as good as looking at all, at a cost that does not grow,
//! and without the herd that runs to whoever looks best. One that nobody has called for three seconds is tried now and
//! then, whatever it costs: else nobody would see it recover. Now and then and not at once, for where calls are rare every
//! instance is forgotten, and the dearer of two would always win.

use std::sync::Arc;

use super::draws::Draws;
use super::node::{Node, RETRY_SHARE};

/// Returns the position of the node to call, one that is not `left_out` if the draw holds one; there are at least two.
pub(super) fn pick(nodes: &[Arc<Node>], now_us: u64, draws: &Draws, left_out: impl Fn(usize) -> bool) -> usize {
    let first = draws.below(nodes.len());
    let mut second = draws.below(nodes.len() - 1);
    if second >= first {
        second += 1;
    }
    if left_out(first) {
        return second;
    }
    if left_out(second) {
        return first;
    }
    let (cheaper, dearer) = if nodes[second].cost(now_us) < nodes[first].cost(now_us) {
        (second, first)
    } else {
        (first, second)
    };
    let node = &nodes[dearer];
    if node.is_forgotten(now_us) && draws.chance(RETRY_SHARE) && node.claim(now_us) {
        dearer
    } else {
        cheaper
    }
}
