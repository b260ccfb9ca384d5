//! Which instance takes the next call.
//!
//! A [`Picker`] is made anew for each set of instances that are ready and never changed after: picks take no lock and are
//! never held up by a new set. What picks learn (calls in flight, latency, failures) lives in the [`Node`]s, which
//! outlast the pickers. Each balancer is a small type; [`Balance`] names them for the configuration.
//!
//! Slow start is not the balancers' business: [`Picker::pick`] sends a new instance its share of a chosen few, whatever
//! the balancer.

mod hash;
mod least;
mod node;
mod p2c;
mod random;
mod stride;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mosaic_core::config::{Raw, Value};

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

/// Draws for picks: SplitMix64 on a counter that threads share without waiting for each other. No secret.
#[derive(Debug)]
pub struct Draws(AtomicU64);

impl Draws {
    /// Starts from `seed`; equal seeds draw equal numbers.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Returns 64 random bits.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        scramble(self.0.fetch_add(STEP, Ordering::Relaxed))
    }

    /// Returns a number below `bound`, which is not zero; the bias is below 2^-32 for sets of any real size.
    fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Returns true with the probability `share`.
    fn chance(&self, share: f64) -> bool {
        (self.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64) < share
    }
}

/// The finaliser of SplitMix64: spreads what differs little.
pub(crate) const fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes a text (FNV-1a), the same in every process and version.
pub(crate) fn hash_text(text: &str) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    scramble(hash)
}

/// One set of instances and the way to choose among them; see the module documentation.
#[derive(Debug)]
pub struct Picker {
    nodes: Box<[Arc<Node>]>,
    rule: Rule,
    has_newcomers: bool,
}

#[derive(Debug)]
enum Rule {
    P2c,
    RoundRobin(AtomicUsize),
    WeightedRoundRobin(stride::Strides),
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
    /// Prepares picks among `nodes` at the time `now_us`; weights and slow starts are those of this moment.
    pub fn new(balance: Balance, nodes: Vec<Arc<Node>>, now_us: u64, draws: &Draws) -> Self {
        let shares = || random::Shares::new(nodes.iter().map(|node| node.effective_weight(now_us)));
        let rule = match balance {
            Balance::P2c => Rule::P2c,
            // Not all pickers of a fleet begin with the same instance.
            Balance::RoundRobin => Rule::RoundRobin(AtomicUsize::new(draws.next() as usize)),
            Balance::WeightedRoundRobin => {
                let weights = nodes.iter().map(|node| node.effective_weight(now_us));
                Rule::WeightedRoundRobin(stride::Strides::new(weights, draws.next()))
            }
            Balance::Random => Rule::Random,
            Balance::WeightedRandom => Rule::WeightedRandom(shares()),
            Balance::Hash => Rule::Hash,
            Balance::WeightedHash => {
                Rule::WeightedHash(random::Shares::new(nodes.iter().map(|node| f64::from(node.weight()))))
            }
            Balance::ConsistentHash => Rule::ConsistentHash(hash::Ring::new(&nodes)),
            Balance::LeastActive => Rule::LeastActive,
            Balance::Fastest => Rule::Fastest,
        };
        Self {
            has_newcomers: nodes.iter().any(|node| node.ramp(now_us) < 1.0),
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
        for _ in 0..TRIES_MAX {
            let position = self.pick_any(ask, draws);
            let is_too_new =
                self.has_newcomers && !self.is_by_key() && !draws.chance(self.nodes[position].ramp(ask.now_us));
            if !avoid.contains(&position) && !is_too_new {
                return Some(position);
            }
            // Another key, the same for everybody who had this one.
            ask.key = scramble(ask.key.wrapping_add(1));
        }
        let start = draws.below(self.nodes.len());
        let others = (0..self.nodes.len()).map(|step| (start + step) % self.nodes.len());
        others
            .clone()
            .find(|position| !avoid.contains(position))
            .or(Some(start))
    }

    fn pick_any(&self, ask: Ask, draws: &Draws) -> usize {
        let n_nodes = self.nodes.len();
        match &self.rule {
            Rule::P2c => p2c::pick(&self.nodes, ask.now_us, draws),
            Rule::RoundRobin(next) => next.fetch_add(1, Ordering::Relaxed) % n_nodes,
            Rule::WeightedRoundRobin(strides) => strides.pick(),
            Rule::Random => draws.below(n_nodes),
            Rule::WeightedRandom(shares) => shares.pick(draws.next()),
            Rule::Hash => (scramble(ask.key) % n_nodes as u64) as usize,
            Rule::WeightedHash(shares) => shares.pick(scramble(ask.key)),
            Rule::ConsistentHash(ring) => ring.pick(ask.key, &self.nodes),
            Rule::LeastActive => least::pick(&self.nodes, draws, |node| {
                f64::from(node.n_in_flight()) / f64::from(node.weight())
            }),
            Rule::Fastest => least::pick(&self.nodes, draws, |node| node.cost(ask.now_us)),
        }
    }

    /// Would a pick beside the rule break what callers rely on?
    fn is_by_key(&self) -> bool {
        matches!(self.rule, Rule::Hash | Rule::WeightedHash(_) | Rule::ConsistentHash(_))
    }
}
