//! Which instance takes the next call.
//!
//! A [`Picker`] is made anew for each set of instances that are ready and never changed after: picks take no lock and are
//! never held up by a new set. What picks learn (calls in flight, latency, failures) lives in the [`Node`]s, which
//! outlast the pickers. Each balancer is a small type; [`Balance`] names them for the configuration.
//!
//! Slow start is not the balancers' business: [`Picker::pick`] lets a new instance have a growing share of the calls that
//! the balancer gives it. Those that go by how busy an instance is also count its calls for more, since who is new is idle.

mod draws;
mod hash;
mod least;
mod node;
mod p2c;
mod random;
mod stride;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mosaic_core::config::{Raw, Value};

pub use draws::Draws;
pub(crate) use draws::{hash_text, scramble};
pub use node::{Held, Node, Outcome};

/// The balancers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    /// Power of two choices by predicted latency: two at random, the better takes it.
    #[default]
    P2c,
    /// Each in turn.
    RoundRobin,
    /// In turn, in proportion to weight and success, spread evenly.
    WeightedRoundRobin,
    /// Any.
    Random,
    /// Any, in proportion to weight.
    WeightedRandom,
    /// By key, modulo the number of instances.
    Hash,
    /// By key, in proportion to weight.
    WeightedHash,
    /// By key on a ring, so that few keys move when instances come and go, with bounded load.
    ConsistentHash,
    /// The one with the fewest calls in flight for its weight.
    LeastActive,
    /// The one that answers soonest, by moving average and calls in flight.
    Fastest,
}

impl Balance {
    /// Every balancer.
    pub const ALL: [Self; 10] = [
        Self::P2c,
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::Random,
        Self::WeightedRandom,
        Self::Hash,
        Self::WeightedHash,
        Self::ConsistentHash,
        Self::LeastActive,
        Self::Fastest,
    ];

    /// Returns the name that the configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P2c => "p2c",
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::Random => "random",
            Self::WeightedRandom => "weighted-random",
            Self::Hash => "hash",
            Self::WeightedHash => "weighted-hash",
            Self::ConsistentHash => "consistent-hash",
            Self::LeastActive => "least-active",
            Self::Fastest => "fastest",
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|balance| balance.name() == name);
        known.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl Value for Balance {
    fn parse(raw: &Raw) -> Result<Self, String> {
        String::parse(raw)?.parse()
    }
    fn show(&self) -> String {
        self.name().to_owned()
    }
}

/// What a pick may take into account.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Hash of what keeps a caller at one instance; drawn at random where nothing does.
    pub key: u64,
    /// Microseconds on the clock that nodes are told.
    pub now_us: u64,
}

/// One set of instances and the way to choose among them; see the module documentation.
#[derive(Debug)]
pub struct Picker {
    nodes: Box<[Arc<Node>]>,
    rule: Rule,
    /// The node that has been ready for longest, while some are new.
    oldest: Option<usize>,
}

#[derive(Debug)]
enum Rule {
    P2c,
    RoundRobin(draws::Turns),
    WeightedRoundRobin {
        turns: stride::Strides,
        shares: random::Shares,
    },
    Random,
    WeightedRandom(random::Shares),
    Hash,
    WeightedHash(random::Shares),
    ConsistentHash(hash::Ring),
    LeastActive,
    Fastest,
}

/// How often a pick looks for another instance than one that it was told to avoid, or that is too new for its share.
const TRIES_MAX: usize = 4;

impl Picker {
    /// Prepares picks among `nodes` at the time `now_us`; weights are those of this moment, turns go on
    /// where those of `draws` are.
    pub fn new(balance: Balance, nodes: Vec<Arc<Node>>, now_us: u64, draws: &Draws) -> Self {
        let effective = || nodes.iter().map(|node| node.effective_weight());
        let rule = match balance {
            Balance::P2c => Rule::P2c,
            Balance::RoundRobin => Rule::RoundRobin(draws.turns()),
            Balance::WeightedRoundRobin => Rule::WeightedRoundRobin {
                turns: stride::Strides::new(effective(), draws.turns()),
                shares: random::Shares::new(effective()),
            },
            Balance::Random => Rule::Random,
            Balance::WeightedRandom => Rule::WeightedRandom(random::Shares::new(effective())),
            Balance::Hash => Rule::Hash,
            Balance::WeightedHash => {
                // Not the effective weights: each failure would move keys.
                Rule::WeightedHash(random::Shares::new(nodes.iter().map(|node| f64::from(node.weight()))))
            }
            Balance::ConsistentHash => Rule::ConsistentHash(hash::Ring::new(&nodes)),
            Balance::LeastActive => Rule::LeastActive,
            Balance::Fastest => Rule::Fastest,
        };
        let ramp = |position: &usize| nodes[*position].ramp(now_us);
        let has_newcomers = (0..nodes.len()).any(|position| ramp(&position) < 1.0);
        let by_ramp = |one: &usize, other: &usize| ramp(one).total_cmp(&ramp(other));
        Self {
            oldest: (0..nodes.len()).max_by(by_ramp).filter(|_| has_newcomers),
            nodes: nodes.into(),
            rule,
        }
    }

    /// Returns the nodes that are picked among.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Returns the position of the node to call next, one that `avoid` does not name if there is one; `None` if there is
    /// no node.
    pub fn pick(&self, ask: Ask, draws: &Draws, avoid: &[usize]) -> Option<usize> {
        match self.nodes.len() {
            0 => return None,
            1 => return Some(0),
            _ => {}
        }
        let mut ask = ask;
        let mut left_out = LeftOut::new(avoid);
        for attempt in 0..TRIES_MAX {
            let position = self.pick_any(ask, draws, &left_out, attempt);
            if !left_out.has(position) {
                if !self.is_too_new(position, ask.now_us, draws) {
                    return Some(position);
                }
                left_out.add(position);
            }
            // Another key, the same for everybody who had this one.
            ask.key = scramble(ask.key.wrapping_add(1));
        }
        let bits = if self.is_by_key() { ask.key } else { draws.next() };
        let start = draws::reduce(bits, self.nodes.len());
        let mut others = (start..self.nodes.len()).chain(0..start);
        let not_new = others.clone().find(|position| !left_out.has(*position));
        not_new
            .or_else(|| others.find(|position| !avoid.contains(position)))
            .or(Some(start))
    }

    fn pick_any(&self, ask: Ask, draws: &Draws, left_out: &LeftOut<'_>, attempt: usize) -> usize {
        let (n_nodes, now_us) = (self.nodes.len(), ask.now_us);
        let is_left_out = |position| left_out.has(position);
        match &self.rule {
            Rule::P2c => p2c::pick(&self.nodes, now_us, draws, is_left_out),
            // Once more by chance: the next in line would take all the turns of the one before it.
            Rule::RoundRobin(_) if attempt > 0 => draws.below(n_nodes),
            Rule::RoundRobin(turns) => (turns.next() % n_nodes as u64) as usize,
            Rule::WeightedRoundRobin { shares, .. } if attempt > 0 => shares.pick(draws.next()),
            Rule::WeightedRoundRobin { turns, .. } => turns.pick(),
            Rule::Random => draws.below(n_nodes),
            Rule::WeightedRandom(shares) => shares.pick(draws.next()),
            Rule::Hash => (scramble(ask.key) % n_nodes as u64) as usize,
            Rule::WeightedHash(shares) => shares.pick(scramble(ask.key)),
            Rule::ConsistentHash(ring) => ring.pick(ask.key, &self.nodes),
            Rule::LeastActive => least::pick(&self.nodes, now_us, draws, is_left_out, |node| node.activity(now_us)),
            Rule::Fastest => least::pick(&self.nodes, now_us, draws, is_left_out, |node| node.cost(now_us)),
        }
    }

    /// Draws whether the node gets no call because it has only begun; where all have, none has.
    fn is_too_new(&self, position: usize, now_us: u64, draws: &Draws) -> bool {
        let Some(oldest) = self.oldest else { return false };
        // A pick beside the key would break what callers rely on.
        if self.is_by_key() {
            return false;
        }
        let share = self.nodes[position].ramp(now_us) / self.nodes[oldest].ramp(now_us);
        share < 1.0 && !draws.chance(share)
    }

    fn is_by_key(&self) -> bool {
        matches!(self.rule, Rule::Hash | Rule::WeightedHash(_) | Rule::ConsistentHash(_))
    }
}

/// The nodes that one pick must not come to: those of the caller, and those found too new.
struct LeftOut<'a> {
    avoid: &'a [usize],
    too_new: [usize; TRIES_MAX],
    n_too_new: usize,
}

impl<'a> LeftOut<'a> {
    const fn new(avoid: &'a [usize]) -> Self {
        Self {
            avoid,
            too_new: [0; TRIES_MAX],
            n_too_new: 0,
        }
    }

    /// Called at most once a try.
    const fn add(&mut self, position: usize) {
        self.too_new[self.n_too_new] = position;
        self.n_too_new += 1;
    }

    fn has(&self, position: usize) -> bool {
        self.avoid.contains(&position) || self.too_new[..self.n_too_new].contains(&position)
    }
}

#[cfg(test)]
mod tests;
