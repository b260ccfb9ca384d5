//! What happens to the fleet in each scenario of the simulation.
//!
//! Ten servers of four workers, 10 ms of work a call on average, eight clients, half of what the fleet can do: 2,000 calls
//! a second. The trouble begins at 10 s, and what is measured are the calls of the 20 s from then on.

use crate::balancers_world::SECOND;

pub(crate) const BEGINS_US: u64 = 10 * SECOND;
pub(crate) const ENDS_US: u64 = 30 * SECOND;
const WORK_US: f64 = 10_000.0;
/// Standard deviation of the logarithm of the work: one call in a hundred takes 3.4 times the mean.
const SPREAD: f64 = 0.6;

/// One scenario.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) servers: Vec<Spec>,
    pub(crate) n_clients: usize,
    pub(crate) calls_per_s: f64,
    pub(crate) slow_start_us: u64,
    /// Whether clients take servers out that fail or are silent, as channels do, or leave all to the balancer.
    pub(crate) has_ejection: bool,
    pub(crate) keys: Keys,
    pub(crate) ends_us: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) n_workers: usize,
    pub(crate) weight: u32,
    pub(crate) joins_us: u64,
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    Slow(f64),
    /// Slow and well in turn, two seconds each.
    Flaps(f64),
    FailsFast,
    Silent,
    /// Slow for ten seconds after it has joined.
    Cold(f64),
}

/// What a server does at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Conduct {
    Serves { factor: f64 },
    FailsFast,
    Silent,
}

/// What calls are hashed by.
#[derive(Debug, Clone)]
pub(crate) enum Keys {
    /// So many, each as often as the others.
    Even(usize),
    /// Running sums of how often each comes.
    Zipf(Vec<f64>),
}

impl Spec {
    const WELL: Self = Self {
        n_workers: 4,
        weight: 100,
        joins_us: 0,
        trouble: Trouble::None,
    };

    pub(crate) fn conduct(&self, now_us: u64) -> Conduct {
        let serves = |is_slow: bool, slow: f64| Conduct::Serves {
            factor: if is_slow { slow } else { 1.0 },
        };
        let is_late = now_us >= BEGINS_US;
        match self.trouble {
            Trouble::Slow(factor) => serves(is_late, factor),
            Trouble::Flaps(factor) => {
                let turn = now_us.saturating_sub(BEGINS_US) / (2 * SECOND);
                serves(is_late && turn.is_multiple_of(2), factor)
            }
            Trouble::Cold(factor) => serves(now_us < self.joins_us + 10 * SECOND, factor),
            Trouble::FailsFast if is_late => Conduct::FailsFast,
            Trouble::Silent if is_late => Conduct::Silent,
            Trouble::None | Trouble::FailsFast | Trouble::Silent => Conduct::Serves { factor: 1.0 },
        }
    }

    pub(crate) fn silent_from_us(&self) -> Option<u64> {
        matches!(self.trouble, Trouble::Silent).then_some(BEGINS_US)
    }
}

impl Scene {
    fn healthy(name: &'static str) -> Self {
        Self {
            name,
            servers: vec![Spec::WELL; 10],
            n_clients: 8,
            calls_per_s: 2_000.0,
            slow_start_us: 5 * SECOND,
            has_ejection: false,
            keys: Keys::Even(10_000),
            ends_us: ENDS_US,
        }
    }

    /// The first server has `trouble`.
    fn with(name: &'static str, trouble: Trouble) -> Self {
        let mut scene = Self::healthy(name);
        scene.servers[0].trouble = trouble;
        scene
    }

    /// Each client calls each server every two seconds.
    fn quiet(name: &'static str) -> Self {
        let mut scene = Self::with(name, Trouble::Slow(10.0));
        scene.calls_per_s = 40.0;
        scene
    }

    /// So many clients that each knows little.
    fn crowd(name: &'static str) -> Self {
        let mut scene = Self::with(name, Trouble::Slow(10.0));
        scene.n_clients = 100;
        scene
    }

    /// One more server joins, and is five times slower at first.
    fn joined(name: &'static str, slow_start_us: u64) -> Self {
        let mut scene = Self::with(name, Trouble::Cold(5.0));
        scene.servers[0].joins_us = BEGINS_US;
        scene.slow_start_us = slow_start_us;
        scene
    }

    /// Servers of two, four and eight workers.
    fn unequal(name: &'static str, is_weighted: bool) -> Self {
        let mut scene = Self::healthy(name);
        let spec = |size: usize| Spec {
            n_workers: 2 * size,
            weight: if is_weighted { 100 * size as u32 } else { 100 },
            ..Spec::WELL
        };
        scene.servers = [1, 2, 4].into_iter().cycle().take(9).map(spec).collect();
        scene
    }

    fn ejecting(mut self) -> Self {
        self.has_ejection = true;
        self
    }

    fn skewed(name: &'static str) -> Self {
        let mut scene = Self::healthy(name);
        let sums = (1..=10_000).scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        });
        scene.keys = Keys::Zipf(sums.collect());
        scene
    }

    /// Every scenario.
    pub(crate) fn all() -> Vec<Self> {
        vec![
            Self::healthy("healthy"),
            Self::with("slow", Trouble::Slow(10.0)),
            Self::quiet("slow, few calls"),
            Self::crowd("slow, 100 clients"),
            Self::with("flapping", Trouble::Flaps(10.0)),
            Self::with("failing fast", Trouble::FailsFast),
            Self::with("failing fast, ejected", Trouble::FailsFast).ejecting(),
            Self::with("silent", Trouble::Silent),
            Self::with("silent, ejected", Trouble::Silent).ejecting(),
            Self::joined("cold, slow start", 5 * SECOND),
            Self::joined("cold, no slow start", 0),
            Self::unequal("1:2:4, weights", true),
            Self::unequal("1:2:4, no weights", false),
            Self::skewed("skewed keys"),
        ]
    }

    /// Returns the work of a call (log-normal), from a number of the standard normal distribution.
    pub(crate) fn service_us(&self, normal: f64) -> f64 {
        WORK_US * (SPREAD * normal - SPREAD * SPREAD / 2.0).exp()
    }
}
