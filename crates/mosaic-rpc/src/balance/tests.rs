mod keys;
mod learning;
mod load;
mod picks;
mod turns;

use std::collections::BTreeMap;

use super::*;

const SECOND: u64 = 1_000_000;
/// A time at which nothing is new.
const NOW: u64 = 1_000 * SECOND;
/// Another one to try when a test fails: all must hold for any.
const SEED: u64 = 0x5eed;

/// Nodes `a:0`, `a:1` .. of these weights, warm at [`NOW`].
fn weighted(weights: &[u32]) -> Vec<Arc<Node>> {
    let node = |(index, weight): (usize, &u32)| {
        let node = Node::new(&format!("a:{index}"), *weight, 5 * SECOND);
        node.set_warm(NOW);
        Arc::new(node)
    };
    weights.iter().enumerate().map(node).collect()
}

fn nodes(n_nodes: usize) -> Vec<Arc<Node>> {
    weighted(&vec![100; n_nodes])
}

/// A picker, its draws, and the time.
struct Bench {
    picker: Picker,
    draws: Draws,
    now_us: u64,
}

impl Bench {
    fn new(balance: Balance, nodes: Vec<Arc<Node>>) -> Self {
        let draws = Draws::new(SEED);
        Self {
            picker: Picker::new(balance, nodes, NOW, &draws),
            draws,
            now_us: NOW,
        }
    }

    fn pick_for(&self, key: u64, avoid: &[usize]) -> usize {
        let ask = Ask {
            key,
            now_us: self.now_us,
        };
        self.picker.pick(ask, &self.draws, avoid).unwrap()
    }

    fn pick(&self) -> usize {
        self.pick_for(self.draws.next(), &[])
    }

    fn picks(&self, n_picks: usize) -> Vec<usize> {
        (0..n_picks).map(|_| self.pick()).collect()
    }

    fn node(&self, position: usize) -> &Arc<Node> {
        &self.picker.nodes()[position]
    }

    /// Picks, one call at a time, each of which takes what `call` says of its node; returns the share of each node.
    fn serve(&mut self, n_calls: usize, call: impl Fn(usize) -> (u64, Outcome)) -> Vec<f64> {
        let mut counts = vec![0; self.picker.nodes().len()];
        for _ in 0..n_calls {
            let position = self.pick();
            let (taken_us, outcome) = call(position);
            let held = self.node(position).hold(self.now_us);
            self.now_us += taken_us;
            held.finish(outcome, self.now_us);
            counts[position] += 1;
        }
        counts.iter().map(|n| f64::from(*n) / n_calls as f64).collect()
    }

    /// Makes `n_calls` calls to `position`, one at a time.
    fn teach(&mut self, position: usize, n_calls: usize, taken_us: u64, outcome: Outcome) {
        for _ in 0..n_calls {
            let held = self.node(position).hold(self.now_us);
            self.now_us += taken_us;
            held.finish(outcome, self.now_us);
        }
    }
}

/// Shares of each position in `picks`.
fn shares(picks: &[usize], n_nodes: usize) -> Vec<f64> {
    let mut counts = vec![0_u32; n_nodes];
    picks.iter().for_each(|position| counts[*position] += 1);
    counts.iter().map(|n| f64::from(*n) / picks.len() as f64).collect()
}

#[track_caller]
fn assert_shares(got: &[f64], want: &[f64], tolerance: f64) {
    let is_near = |(got, want): (&f64, &f64)| (got - want).abs() <= tolerance;
    assert!(got.iter().zip(want).all(is_near), "{got:.4?} is not {want:.4?}");
}

#[test]
fn names_are_those_of_the_configuration() {
    for balance in Balance::ALL {
        assert_eq!(balance.name().parse(), Ok(balance));
        assert_eq!(balance.to_string(), balance.name());
    }
    assert_eq!(Balance::default(), Balance::P2c);
    assert!(
        "ring"
            .parse::<Balance>()
            .unwrap_err()
            .starts_with("must be one of p2c, round-robin,")
    );
}
