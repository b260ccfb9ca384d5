//! What is known of one instance from its answers.
//!
//! Lock-free: each fact is one atomic, and two calls that end at once may lose one sample of an average, never more.
//!
//! The latency of an instance is predicted from two sides: a moving average of calls that ended, which fades with time
//! (Kratos: 600 ms), and the age of the calls that wait for an answer, so that an instance that stops answering is seen
//! before its first call fails. The age of n calls needs no list: n x now - (sum of their starts). Both stand in one word,
//! since n and a sum of another moment would be nonsense.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::draws::hash_text;

/// Time constant of the moving averages.
const FADE_US: f64 = 600_000.0;
/// What is kept of an average at most when a sample comes: a burst of answers at one instant must count too.
const KEEP_MAX: f64 = 0.98;
/// What is kept of the success at most when a call fails: who fails fast must be seen in some ten calls, since it always
/// has room for more.
const KEEP_MAX_FAILED: f64 = 0.8;
/// Latency of an instance that has not answered yet, where there is none to compare with.
const FIRST_LATENCY_US: f64 = 1_000.0;
/// An instance that was not picked for so long is worth a try, however bad it was.
const FORGOTTEN_AFTER_US: u64 = 3_000_000;
/// Share of the picks that may try a forgotten instance rather than a better one.
pub(super) const RETRY_SHARE: f64 = 0.125;
/// Success below this counts as this: a share of calls must remain to see a recovery.
const SUCCESS_MIN: f64 = 0.05;
/// Success above this is good enough where only calls in flight are compared.
const SUCCESS_WELL: f64 = 0.7;
/// The share that an instance begins with.
const RAMP_MIN: f64 = 0.1;
/// Bits of the number of calls that wait; the other 46 hold the sum of their starts, and wrap.
const N_BITS: u32 = 18;

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
// What a pick reads fits one cache line, which it shares with no other node.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Node {
    /// Bits of an `f64`, microseconds.
    latency_us: AtomicU64,
    /// Bits of an `f64`, 0 to 1.
    success: AtomicU64,
    /// Calls without an answer: their number, and above it the sum of their starts.
    waiting: AtomicU64,
    picked_us: AtomicU64,
    ready_us: AtomicU64,
    slow_start_us: u64,
    n_in_flight: AtomicU32,
    weight: AtomicU32,
    updated_us: AtomicU64,
    ring_key: u64,
}

impl Node {
    /// Makes the node of the instance `name`, which gets its full share `slow_start_us` microseconds after it is
    /// [ready](Node::set_ready).
    pub fn new(name: &str, weight: u32, slow_start_us: u64) -> Self {
        Self {
            latency_us: AtomicU64::new(FIRST_LATENCY_US.to_bits()),
            success: AtomicU64::new(1.0_f64.to_bits()),
            waiting: AtomicU64::new(0),
            picked_us: AtomicU64::new(0),
            ready_us: AtomicU64::new(0),
            slow_start_us: slow_start_us.min(u64::MAX / 4),
            n_in_flight: AtomicU32::new(0),
            weight: AtomicU32::new(weight.max(1)),
            updated_us: AtomicU64::new(0),
            ring_key: hash_text(name),
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

    /// Returns the number of calls in flight, those included whose answer is being streamed.
    pub fn n_in_flight(&self) -> u32 {
        self.n_in_flight.load(Ordering::Relaxed)
    }

    /// Returns the moving share of calls that were answered.
    pub fn success(&self) -> f64 {
        f64::from_bits(self.success.load(Ordering::Relaxed)).max(SUCCESS_MIN)
    }

    /// Returns the share of its calls that the instance is to get while it starts, 0.1 to 1.
    pub fn ramp(&self, now_us: u64) -> f64 {
        // Signed: the start of one that is warm may lie before the clock's, and another thread's clock read may be older.
        let age = now_us.wrapping_sub(self.ready_us.load(Ordering::Relaxed)).cast_signed();
        if age >= self.slow_start_us.cast_signed() {
            return 1.0;
        }
        (age as f64 / self.slow_start_us as f64).max(RAMP_MIN)
    }

    /// Returns the weight with what failures take from it.
    pub fn effective_weight(&self) -> f64 {
        f64::from(self.weight()) * self.success()
    }

    /// Returns the time that a call is likely to take, microseconds.
    pub fn latency_us(&self, now_us: u64) -> f64 {
        let average = self.average_us();
        let waiting = self.waiting.load(Ordering::Relaxed);
        let n = waiting & ((1 << N_BITS) - 1);
        if n == 0 {
            return average;
        }
        // Shifted back with its sign: calls of another thread may have begun after our `now`.
        let ages = ((n.wrapping_mul(now_us) << N_BITS).wrapping_sub(waiting - n)).cast_signed() >> N_BITS;
        average.max(ages as f64 / n as f64)
    }

    /// Returns what a call to this instance costs now: the latency to expect behind those in flight, more for one that
    /// fails, less for a heavier one.
    pub fn cost(&self, now_us: u64) -> f64 {
        let success = self.success();
        self.latency_us(now_us) * (self.queue(now_us) + 1.0) / (success * success * f64::from(self.weight()))
    }

    /// Returns how busy this instance is for its weight; one that fails counts as busier, since failing is quick.
    pub(super) fn activity(&self, now_us: u64) -> f64 {
        let success = self.success();
        // Those that fail now and then count as well, else they would lose every draw among equals.
        let missing = if success > SUCCESS_WELL {
            0.0
        } else {
            1.0 / (success * success)
        };
        (self.queue(now_us) + missing) / f64::from(self.weight())
    }

    /// Returns the calls in flight, of which each counts for several while the instance starts: who is new is idle, and
    /// would take all calls otherwise.
    fn queue(&self, now_us: u64) -> f64 {
        match self.n_in_flight() {
            0 => 0.0,
            n => f64::from(n) / self.ramp(now_us),
        }
    }

    /// Was this instance so long without a call that what is known of it is no longer true?
    pub(super) fn is_forgotten(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.picked_us.load(Ordering::Relaxed)) > FORGOTTEN_AFTER_US
    }

    /// Claims the one call that a forgotten instance is tried with; false if another thread has it.
    pub(super) fn claim(&self, now_us: u64) -> bool {
        let picked_us = self.picked_us.load(Ordering::Relaxed);
        let is_forgotten = now_us.saturating_sub(picked_us) > FORGOTTEN_AFTER_US;
        let claim = || {
            self.picked_us
                .compare_exchange(picked_us, now_us, Ordering::Relaxed, Ordering::Relaxed)
        };
        is_forgotten && claim().is_ok()
    }

    /// Begins a call.
    pub fn hold(self: &Arc<Self>, now_us: u64) -> Held {
        self.n_in_flight.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(waiting_since(now_us), Ordering::Relaxed);
        self.picked_us.store(now_us, Ordering::Relaxed);
        Held {
            node: self.clone(),
            started_us: now_us,
            is_waiting: AtomicBool::new(true),
        }
    }

    fn average_us(&self) -> f64 {
        f64::from_bits(self.latency_us.load(Ordering::Relaxed))
    }

    fn learn(&self, outcome: Outcome, taken_us: f64, now_us: u64) {
        let known_us = self.average_us();
        if outcome == Outcome::Abandoned && taken_us <= known_us {
            return;
        }
        let since = now_us.saturating_sub(self.updated_us.swap(now_us, Ordering::Relaxed));
        let keep = (-(since as f64) / FADE_US).exp();
        let mix = |fact: &AtomicU64, sample: f64, keep: f64| {
            let old = f64::from_bits(fact.load(Ordering::Relaxed));
            fact.store((old * keep + sample * (1.0 - keep)).to_bits(), Ordering::Relaxed);
        };
        // A failure may be quick, and nobody knows how long a call would have taken that was given up.
        let sample_us = match outcome {
            Outcome::Answered => taken_us,
            Outcome::Failed | Outcome::Abandoned => taken_us.max(known_us),
        };
        mix(&self.latency_us, sample_us, keep.min(KEEP_MAX));
        match outcome {
            Outcome::Answered => mix(&self.success, 1.0, keep.min(KEEP_MAX)),
            Outcome::Failed => mix(&self.success, 0.0, keep.min(KEEP_MAX_FAILED)),
            Outcome::Abandoned => {}
        }
    }
}

/// Returns one call that began at `started_us`, as the word of those that wait counts it.
const fn waiting_since(started_us: u64) -> u64 {
    (started_us << N_BITS) + 1
}

/// A call in flight at a node, until dropped.
#[derive(Debug)]
pub struct Held {
    node: Arc<Node>,
    started_us: u64,
    is_waiting: AtomicBool,
}

impl Held {
    /// Tells how the call ended, or that its answer has begun; what is told after that is not heard.
    pub fn finish(&self, outcome: Outcome, now_us: u64) {
        if self.end_wait() {
            self.node
                .learn(outcome, now_us.saturating_sub(self.started_us) as f64, now_us);
        }
    }

    /// Takes the call from those that wait; false if it waits no more.
    fn end_wait(&self) -> bool {
        let was_waiting = self.is_waiting.swap(false, Ordering::Relaxed);
        if was_waiting {
            self.node
                .waiting
                .fetch_sub(waiting_since(self.started_us), Ordering::Relaxed);
        }
        was_waiting
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end_wait();
        self.node.n_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
