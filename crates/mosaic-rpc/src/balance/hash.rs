//! Consistent hashing with bounded loads (Karger et al. 1997; Mirrokni, Thorup, Zadimoghaddam 2018).
//!
//! Each instance has points on a ring in proportion to its weight. A key asks at several places of the ring and belongs to
//! the point that is nearest after one of them (multi-probe, Appleton & O'Reilly 2015): shares are as even as with ten
//! times the points and one question, and a ring is made anew often while a question costs some nanoseconds. When
//! instances come or go only the keys of their points move. An instance with more than 5/4 of the mean of calls in flight
//! passes the key on, so that one popular key does not drown its owner: to wherever the key's hash belongs, and not to the
//! next point, which would get all that one instance has too much (Chen, Coleman, Shrivastava 2021).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Node;
use super::draws::scramble;

/// Points of an instance of the weight 100.
const POINTS: u32 = 16;
/// Places that a key asks at.
const PROBES: u64 = 5;
/// Nodes that a key is passed on to before any node will do.
const JUMPS: usize = 16;
const BOUND: f64 = 1.25;
/// Calls in flight that are never too many: where a client has few of them, each second call would leave its owner
/// otherwise (measured: 93% of the calls of a key stay instead of 70%).
const ROOM_MIN: u32 = 2;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Ring {
    /// Points and the position of the instance that each belongs to, in order.
    points: Box<[(u64, u32)]>,
    total_weight: f64,
    load: Load,
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
        Self {
            points: points.into(),
            total_weight: nodes.iter().map(|node| f64::from(node.weight())).sum(),
            load: Load::default(),
        }
    }

    /// Returns the position of the node that owns `key`, or of its next that is not overloaded.
    pub(super) fn pick(&self, key: u64, nodes: &[Arc<Node>]) -> usize {
        let owner = self.owner(key);
        if nodes[owner].n_in_flight() < ROOM_MIN {
            return owner;
        }
        let per_weight = BOUND * (self.load.total(nodes) + 1.0) / self.total_weight;
        let has_room = |position: &usize| {
            let node = &nodes[*position];
            let room = (per_weight * f64::from(node.weight())).ceil();
            node.n_in_flight() < ROOM_MIN || f64::from(node.n_in_flight()) < room
        };
        let keys = std::iter::successors(Some(key), |key| Some(scramble(key.wrapping_add(1))));
        let mut heirs = keys.map(|key| self.owner(key)).take(JUMPS);
        // Not all can be above the mean, so that somebody has room; but the facts may change while they are read.
        heirs
            .find(has_room)
            .or_else(|| (0..nodes.len()).find(has_room))
            .unwrap_or(owner)
    }

    /// Returns the position of the node that `key` belongs to.
    fn owner(&self, key: u64) -> usize {
        let (mut owner, mut shortest) = (0, u64::MAX);
        for probe in 0..PROBES {
            let place = scramble(key.wrapping_add(probe.wrapping_mul(0xd1b5_4a32_d192_ed03)));
            let after = self.points.partition_point(|(point, _)| *point < place);
            let index = if after == self.points.len() { 0 } else { after };
            let distance = self.points[index].0.wrapping_sub(place);
            if distance < shortest {
                (owner, shortest) = (self.points[index].1 as usize, distance);
            }
        }
        owner
    }
}

/// Calls in flight of all nodes, counted anew every so many picks: a sum at each pick would cost more than the pick.
#[derive(Debug, Default)]
struct Load {
    n_asked: AtomicU32,
    counted: AtomicU32,
}

impl Load {
    /// Returns the number of calls in flight, give or take an eighth of a call for each node.
    fn total(&self, nodes: &[Arc<Node>]) -> f64 {
        let interval = u32::try_from(nodes.len() / 8).unwrap_or(u32::MAX).max(1);
        if self.n_asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(interval) {
            let counted = nodes.iter().map(|node| node.n_in_flight()).sum();
            self.counted.store(counted, Ordering::Relaxed);
        }
        f64::from(self.counted.load(Ordering::Relaxed))
    }
}
