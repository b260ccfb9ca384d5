//! Consistent hashing with bounded loads (Karger et al. 1997; Mirrokni, Thorup, Zadimoghaddam 2018).
//!
//! Each instance has points on a ring in proportion to its weight; a key belongs to the next point. When instances come
//! or go only the keys of their points move. An instance with more than 5/4 of the mean of calls in flight passes the
//! key on, so that one popular key does not drown its owner.

use std::sync::Arc;

use super::{Node, scramble};

/// Points of an instance of the weight 100.
const POINTS: u32 = 160;
const BOUND: f64 = 1.25;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Ring {
    /// Points and the position of the instance that each belongs to, in order.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    pub(super) fn new(nodes: &[Arc<Node>]) -> Self {
        let mut points = Vec::new();
        for (position, node) in (0..).zip(nodes) {
            let n_points = (node.weight() * POINTS / 100).max(1);
            let point = |index: u32| scramble(node.ring_key().wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9)));
            points.extend((0..n_points).map(|index| (point(index), position)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// Returns the position of the node that owns `key` and is not overloaded.
    pub(super) fn pick(&self, key: u64, nodes: &[Arc<Node>]) -> usize {
        let n_in_flight: u32 = nodes.iter().map(|node| node.n_in_flight()).sum();
        let total_weight: u32 = nodes.iter().map(|node| node.weight()).sum();
        let per_weight = BOUND * f64::from(n_in_flight + 1) / f64::from(total_weight);
        let start = self.points.partition_point(|(point, _)| *point < scramble(key));
        let (before, from_start) = self.points.split_at(start);
        let mut owners = from_start.iter().chain(before).map(|(_, position)| *position as usize);
        let has_room = |position: &usize| {
            let node = &nodes[*position];
            f64::from(node.n_in_flight()) < (per_weight * f64::from(node.weight())).ceil()
        };
        // Not all can be above the mean, so that somebody has room; but the facts may change while they are read.
        owners
            .clone()
            .find(has_room)
            .or_else(|| owners.next())
            .unwrap_or_default()
    }
}
