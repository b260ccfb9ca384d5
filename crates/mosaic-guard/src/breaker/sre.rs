//! Client-side throttling of *Site Reliability Engineering*, chapter 21 ("Handling Overload").
//!
//! A call is refused with the probability `(calls - min - k * accepted) / (calls + 1)` over the last ten seconds: the more
//! fails, the less is tried, and there is no state to be stuck in. Three differences from the common form, each for an
//! outage that somebody had:
//!
//! - `calls` are those that were *made*. Own refusals are not counted, or the breaker feeds on itself and stays open.
//! - The share that is refused falls with every success in a row and is zero after five: a dependency that works again gets
//!   its traffic back within a second or two, not when the window has forgotten the failures.
//! - At least one call a second is let through, whatever the numbers say.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mosaic_core::Runtime;

use super::window::OutcomeWindow;
use crate::dice::Dice;

/// Successes in a row after which nothing is refused.
const STREAK: u32 = 5;
/// Pause between two calls that are let through whatever happens.
const PROBE_EVERY: u64 = 1_000_000_000;

/// Numbers of the breaker: `sre k=1.5 min=5 window=10s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SreRule {
    /// Calls per accepted call that are tolerated; 2 lets half of the calls fail, 1.1 is nervous.
    pub k: f64,
    /// Failures that are forgiven whatever the proportion.
    pub min: u32,
    /// What is looked at.
    pub window: Duration,
}

impl Default for SreRule {
    fn default() -> Self {
        Self {
            k: 1.5,
            min: 5,
            window: Duration::from_secs(10),
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Sre {
    rule: SreRule,
    window: OutcomeWindow,
    streak: AtomicU32,
    last_pass: AtomicU64,
    dice: Dice,
}

impl Sre {
    pub(crate) fn new(rule: SreRule) -> Self {
        Self {
            rule,
            window: OutcomeWindow::new(rule.window),
            streak: AtomicU32::new(0),
            last_pass: AtomicU64::new(0),
            dice: Dice::default(),
        }
    }

    /// Lets a call through, or says how long until the next probe.
    pub(crate) fn admit(&self, now: u64, runtime: &Runtime) -> Result<(), Duration> {
        if self.window.is_clean(now) {
            return Ok(());
        }
        let share = self.refused_share(now);
        let last_pass = self.last_pass.load(Relaxed);
        let since = now.saturating_sub(last_pass);
        if share <= 0.0 || self.dice.roll(runtime) >= share {
            self.last_pass.store(now, Relaxed);
            return Ok(());
        }
        // Of all who see that a probe is due, one makes it.
        let is_due = since >= PROBE_EVERY;
        if is_due
            && self
                .last_pass
                .compare_exchange(last_pass, now, Relaxed, Relaxed)
                .is_ok()
        {
            return Ok(());
        }
        Err(Duration::from_nanos(PROBE_EVERY.saturating_sub(since).max(1_000_000)))
    }

    /// Counts how a call that was let through ended.
    pub(crate) fn record(&self, now: u64, failed: bool) {
        self.window.add(now, failed);
        if failed {
            self.streak.store(0, Relaxed);
        } else if self.streak.load(Relaxed) < STREAK {
            self.streak.fetch_add(1, Relaxed);
        }
    }

    /// Returns the share of calls to refuse, zero or less for none.
    pub(crate) fn refused_share(&self, now: u64) -> f64 {
        let streak = self.streak.load(Relaxed);
        if streak >= STREAK {
            // As the sums would say: most calls of a window with a failure in it come here.
            return 0.0;
        }
        let sums = self.window.sums(now);
        let (calls, accepted) = (sums.calls as f64, sums.calls.saturating_sub(sums.failures) as f64);
        let share = (calls - f64::from(self.rule.min) - self.rule.k * accepted) / (calls + 1.0);
        share * f64::from(STREAK - streak) / f64::from(STREAK)
    }
}
