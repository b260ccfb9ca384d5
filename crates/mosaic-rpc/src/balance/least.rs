//! The best of all, by a cost.

use std::sync::Arc;

use super::{Draws, Node};

/// Returns the position of the node with the lowest cost; among equals, any. Looks at every node.
pub(super) fn pick(nodes: &[Arc<Node>], draws: &Draws, cost: impl Fn(&Node) -> f64) -> usize {
    // From a random start, so that equals take turns and callers do not run to the same one.
    let start = draws.below(nodes.len());
    let (mut best, mut lowest) = (start, f64::INFINITY);
    for (position, node) in nodes
        .iter()
        .enumerate()
        .skip(start)
        .chain(nodes.iter().enumerate().take(start))
    {
        let cost = cost(node);
        if cost < lowest {
            (best, lowest) = (position, cost);
        }
    }
    best
}
