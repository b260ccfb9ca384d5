//! Shedding by latency: a limit of calls in flight that finds itself.
//!
//! After Netflix' *concurrency-limits* (Gradient2, itself after TCP Vegas). Every tenth of a second the mean time of calls is
//! compared with the time they take without a queue: the limit shrinks with the proportion, and grows by half its square root while
//! calls are not slower than `tolerance` allows. In the original the time without a queue is a long average, which drifts
//! upwards while an overload lasts. Here it follows only calls that had no queue: those that are faster, those in a process
//! that is not at its limit, and now and then a probe, a tenth of a second with the limit halved.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::rules::Priority;
use crate::rules::words::{self, Words};
use crate::ticks::{nanos, nanos_of};

/// `gradient tolerance=1.5 start=20 min=4 max=1000`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientRule {
    /// How much slower than without a queue calls may be.
    pub tolerance: f64,
    /// Calls in flight at first.
    pub start: u32,
    /// Calls in flight that are always let in.
    pub min: u32,
    /// Calls in flight that are never exceeded.
    pub max: u32,
}

impl Default for GradientRule {
    fn default() -> Self {
        Self {
            tolerance: 1.5,
            start: 20,
            min: 4,
            max: 1000,
        }
    }
}

impl GradientRule {
    pub(super) fn read(words: Words<'_>) -> Result<Self, String> {
        let mut rule = Self::default();
        words.options("tolerance, start, min and max", |name, words| match name {
            "tolerance" => Some(words::number(words, 1.0).map(|tolerance| rule.tolerance = tolerance)),
            "start" => Some(words::count(words).map(|start| rule.start = start)),
            "min" => Some(words::count(words).map(|min| rule.min = min)),
            "max" => Some(words::count(words).map(|max| rule.max = max)),
            _ => None,
        })?;
        if rule.min > rule.max {
            return Err("min must not be above max".to_owned());
        }
        rule.start = rule.start.clamp(rule.min, rule.max);
        Ok(rule)
    }
}

impl fmt::Display for GradientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tolerance,
            start,
            min,
            max,
        } = self;
        write!(f, "gradient tolerance={tolerance} start={start} min={min} max={max}")
    }
}

/// Length of a measurement, which also needs this many calls.
const MEASURE: Duration = Duration::from_millis(100);
const CALLS_MIN: u32 = 10;
/// Measurements at the limit between two probes.
const PROBE_EVERY: u32 = 50;
/// Weight of the newest limit.
const NEWEST: f64 = 0.2;

/// A rule at work.
#[derive(Debug)]
pub(super) struct Gradient {
    rule: GradientRule,
    limit: AtomicU32,
    in_flight: AtomicU32,
    sum_ns: AtomicU64,
    n_calls: AtomicU32,
    most_in_flight: AtomicU32,
    measure_until: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    /// Nanoseconds of a call without a queue; zero: not known.
    unloaded: f64,
    n_at_limit: u32,
    is_probing: bool,
}

impl Gradient {
    pub(super) fn new(rule: GradientRule) -> Self {
        Self {
            rule,
            limit: AtomicU32::new(rule.start),
            in_flight: AtomicU32::new(0),
            sum_ns: AtomicU64::new(0),
            n_calls: AtomicU32::new(0),
            most_in_flight: AtomicU32::new(0),
            measure_until: AtomicU64::new(0),
            state: Mutex::new(State {
                limit: f64::from(rule.start),
                unloaded: 0.0,
                n_at_limit: 0,
                is_probing: false,
            }),
        }
    }

    /// Takes a place if the limit has one for `priority`.
    pub(super) fn enter(&self, priority: Priority) -> bool {
        let limit = self.limit.load(Relaxed);
        let limit = match priority {
            Priority::Low => limit - limit / 5,
            Priority::Normal => limit,
            Priority::High => limit + limit / 5,
        };
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        if in_flight > limit.max(1) {
            self.in_flight.fetch_sub(1, Relaxed);
            return false;
        }
        if in_flight > self.most_in_flight.load(Relaxed) {
            self.most_in_flight.fetch_max(in_flight, Relaxed);
        }
        true
    }

    /// Frees the place.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(super) fn is_soft(&self) -> bool {
        self.in_flight.load(Relaxed) * 5 > self.limit.load(Relaxed) * 4
    }

    /// Notes that a call took `elapsed`.
    pub(super) fn learn(&self, now: Instant, elapsed: Duration) {
        self.sum_ns.fetch_add(nanos_of(elapsed), Relaxed);
        let n_calls = self.n_calls.fetch_add(1, Relaxed) + 1;
        let (now, until) = (nanos(now), self.measure_until.load(Relaxed));
        if n_calls < CALLS_MIN || now < until {
            return;
        }
        // Of all who see the end of the measurement, one draws the conclusion.
        let next = now + nanos_of(MEASURE);
        if self
            .measure_until
            .compare_exchange(until, next, Relaxed, Relaxed)
            .is_err()
        {
            return;
        }
        let n_calls = self.n_calls.swap(0, Relaxed).max(1);
        let mean = self.sum_ns.swap(0, Relaxed) as f64 / f64::from(n_calls);
        let most = self.most_in_flight.swap(self.in_flight.load(Relaxed), Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.conclude(&self.rule, mean.max(1.0), most);
        let limit = if state.is_probing {
            state.limit / 2.0
        } else {
            state.limit
        };
        self.limit.store((limit as u32).max(self.rule.min), Relaxed);
    }
}

impl State {
    /// Draws the conclusion from a measurement: `mean` time of calls, of which `most` were in flight at a time.
    fn conclude(&mut self, rule: &GradientRule, mean: f64, most: u32) {
        let is_at_limit = f64::from(most) * 2.0 > self.limit;
        if self.is_probing || self.unloaded == 0.0 {
            self.is_probing = false;
            self.unloaded = mean;
            return;
        }
        if mean < self.unloaded {
            self.unloaded += 0.5 * (mean - self.unloaded);
        } else if !is_at_limit {
            self.unloaded += 0.05 * (mean - self.unloaded);
        }
        let gradient = (rule.tolerance * self.unloaded / mean).clamp(0.5, 1.0);
        if gradient < 1.0 || is_at_limit {
            let next = self.limit * gradient + (self.limit.sqrt() / 2.0).max(1.0);
            self.limit += NEWEST * (next - self.limit);
            self.limit = self.limit.clamp(f64::from(rule.min), f64::from(rule.max));
        }
        self.n_at_limit = if is_at_limit { self.n_at_limit + 1 } else { 0 };
        if self.n_at_limit >= PROBE_EVERY {
            self.n_at_limit = 0;
            self.is_probing = true;
        }
    }
}

impl fmt::Display for Gradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, now {} calls in flight", self.rule, self.limit.load(Relaxed))
    }
}
