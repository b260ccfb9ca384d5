//! What is known of one instance from its answers.
//!
//! Lock-free: each fact is one atomic, and two calls that end at once may lose one sample of an average, never more.
//!
//! The latency of an instance is predicted from two sides: a moving average of calls that ended, which fades with time
//! (Kratos: 600 ms), and the age of the calls that have not ended, so that an instance that stops answering is seen
//! before its first call fails. The age of n calls in flight needs no list: n x now - (sum of their starts).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::hash_text;

/// Time constant of the moving averages.
const FADE_US: f64 = 600_000.0;
/// Latency of an instance that has not answered yet, where there is none to compare with.
const FIRST_LATENCY_US: f64 = 1_000.0;
/// An instance that was not picked for so long is worth a try, however bad it was.
const FORGIVEN_AFTER_US: u64 = 3_000_000;
/// Success below this counts as this: a share of calls must remain to see a recovery.
const SUCCESS_MIN: f64 = 0.05;

/// How a call ended, as far as its instance is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, be it a refusal.
    Answered,
    /// No answer, or one that says that the instance is not well.
    Failed,
    /// The caller gave up for reasons of its own.
    Abandoned,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Node {
    weight: AtomicU32,
    n_in_flight: AtomicU32,
    /// Sum of the start times of the calls in flight, microseconds, wrapping.
    started_us: AtomicU64,
    /// Bits of an `f64`, microseconds.
    latency_us: AtomicU64,
    /// Bits of an `f64`, 0 to 1.
    success: AtomicU64,
    updated_us: AtomicU64,
    picked_us: AtomicU64,
    ready_us: AtomicU64,
    slow_start_us: u64,
    ring_key: u64,
}

impl Node {
    /// Makes the node of the instance `name`, which gets its full share `slow_start_us` microseconds after it is
    /// [ready](Node::set_ready).
    pub fn new(name: &str, weight: u32, slow_start_us: u64) -> Self {
        Self {
            ring_key: hash_text(name),
            weight: AtomicU32::new(weight.max(1)),
            n_in_flight: AtomicU32::new(0),
            started_us: AtomicU64::new(0),
            latency_us: AtomicU64::new(FIRST_LATENCY_US.to_bits()),
            success: AtomicU64::new(1.0_f64.to_bits()),
            updated_us: AtomicU64::new(0),
            picked_us: AtomicU64::new(0),
            ready_us: AtomicU64::new(0),
            slow_start_us,
        }
    }

    /// Tells that the instance is ready from `now_us` on, as one that nothing is known of; it is taken to be as fast as
    /// `expected_us`, its like.
    pub fn set_ready(&self, now_us: u64, expected_us: Option<f64>) {
        let latency_us = expected_us.unwrap_or(FIRST_LATENCY_US);
        self.latency_us.store(latency_us.to_bits(), Ordering::Relaxed);
        self.success.store(1.0_f64.to_bits(), Ordering::Relaxed);
        self.updated_us.store(now_us, Ordering::Relaxed);
        self.picked_us.store(now_us, Ordering::Relaxed);
        self.ready_us.store(now_us, Ordering::Relaxed);
    }

    /// Tells that the instance is ready and has been for long: no slow start.
    pub fn set_warm(&self, now_us: u64) {
        self.set_ready(now_us, None);
        self.ready_us
            .store(now_us.wrapping_sub(self.slow_start_us), Ordering::Relaxed);
    }

    /// Returns the weight that the instance was registered with.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes the weight.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Ordering::Relaxed);
    }

    /// Returns where the instance stands on a ring: the same in every process.
    pub(super) const fn ring_key(&self) -> u64 {
        self.ring_key
    }

    /// Returns the number of calls in flight.
    pub fn n_in_flight(&self) -> u32 {
        self.n_in_flight.load(Ordering::Relaxed)
    }

    /// Returns the moving share of calls that were answered.
    pub fn success(&self) -> f64 {
        f64::from_bits(self.success.load(Ordering::Relaxed)).max(SUCCESS_MIN)
    }

    /// Returns the share of its calls that the instance is to get while it starts, 0.1 to 1.
    pub fn ramp(&self, now_us: u64) -> f64 {
        let age = now_us.wrapping_sub(self.ready_us.load(Ordering::Relaxed));
        if age >= self.slow_start_us {
            return 1.0;
        }
        (age as f64 / self.slow_start_us as f64).max(0.1)
    }

    /// Returns the weight with what outcomes and slow start take from it.
    pub fn effective_weight(&self, now_us: u64) -> f64 {
        f64::from(self.weight()) * self.success() * self.ramp(now_us)
    }

    /// Returns the time that a call is likely to take, microseconds.
    pub fn latency_us(&self, now_us: u64) -> f64 {
        let average = f64::from_bits(self.latency_us.load(Ordering::Relaxed));
        let n = u64::from(self.n_in_flight());
        if n == 0 {
            return average;
        }
        let ages = n
            .wrapping_mul(now_us)
            .wrapping_sub(self.started_us.load(Ordering::Relaxed));
        // The two facts are read one after the other: a call that begins or ends between them makes nonsense of the sum.
        let waited = if ages > u64::MAX / 2 {
            0.0
        } else {
            ages as f64 / n as f64
        };
        average.max(waited)
    }

    /// Returns what a call to this instance costs now: the latency to expect behind those in flight, more for one that
    /// fails, less for a heavier one.
    pub fn cost(&self, now_us: u64) -> f64 {
        let success = self.success();
        let queue = f64::from(self.n_in_flight()) + 1.0;
        self.latency_us(now_us) * queue / (success * success * f64::from(self.weight()))
    }

    /// Was this instance so long without a call that what is known of it is no longer true?
    pub(super) fn is_forgotten(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.picked_us.load(Ordering::Relaxed)) > FORGIVEN_AFTER_US
    }

    /// Begins a call.
    pub fn hold(self: &Arc<Self>, now_us: u64) -> Held {
        self.n_in_flight.fetch_add(1, Ordering::Relaxed);
        self.started_us.fetch_add(now_us, Ordering::Relaxed);
        self.picked_us.store(now_us, Ordering::Relaxed);
        Held {
            node: self.clone(),
            started_us: now_us,
        }
    }

    fn learn(&self, latency_us: f64, success: f64, now_us: u64) {
        let since = now_us.saturating_sub(self.updated_us.swap(now_us, Ordering::Relaxed));
        let keep = (-(since as f64) / FADE_US).exp();
        // A burst of answers at one instant must count too.
        let keep = keep.min(0.98);
        let mix = |fact: &AtomicU64, sample: f64| {
            let old = f64::from_bits(fact.load(Ordering::Relaxed));
            fact.store((old * keep + sample * (1.0 - keep)).to_bits(), Ordering::Relaxed);
        };
        mix(&self.latency_us, latency_us);
        mix(&self.success, success);
    }
}

/// A call in flight at a node, until dropped.
#[derive(Debug)]
pub struct Held {
    node: Arc<Node>,
    started_us: u64,
}

impl Held {
    /// Tells how the call ended.
    pub fn finish(&self, outcome: Outcome, now_us: u64) {
        let taken = now_us.saturating_sub(self.started_us) as f64;
        match outcome {
            Outcome::Answered => self.node.learn(taken, 1.0, now_us),
            // A failure may be quick: that must not make the instance look fast.
            Outcome::Failed => {
                let known = f64::from_bits(self.node.latency_us.load(Ordering::Relaxed));
                self.node.learn(taken.max(known), 0.0, now_us);
            }
            Outcome::Abandoned => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.node.n_in_flight.fetch_sub(1, Ordering::Relaxed);
        self.node.started_us.fetch_sub(self.started_us, Ordering::Relaxed);
    }
}
