//! The breaker with three states (Nygard, *Release It!*), opened again in steps.
//!
//! Closed until `failures` of at least `min` calls of the window failed; then open, all calls refused, for `open`; then half
//! open: a tenth of the calls is let through, and with each `probes` successes in a row a step more, until all are. A
//! failure while half open opens it again. The steps are what the common form lacks: a dependency that has just come back
//! gets its load piece by piece instead of all at once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mosaic_core::Runtime;

use super::window::OutcomeWindow;
use crate::dice::Dice;
use crate::ticks::nanos_of;

/// Shares of the calls that are let through while half open.
const STEPS: [f64; 4] = [0.1, 0.25, 0.5, 0.75];

/// Numbers of the breaker: `classic failures=50% min=20 window=10s open=1s probes=5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicRule {
    /// Share of failures that opens it.
    pub failures: f64,
    /// Calls in the window below which it never opens.
    pub min: u32,
    /// What is looked at.
    pub window: Duration,
    /// How long everything is refused.
    pub open: Duration,
    /// Successes in a row for a step.
    pub probes: u32,
}

impl Default for ClassicRule {
    fn default() -> Self {
        Self {
            failures: 0.5,
            min: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            probes: 5,
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Classic {
    rule: ClassicRule,
    window: OutcomeWindow,
    /// Is there anything to look up in `state`? Lets calls pass a closed breaker without its lock.
    is_disturbed: AtomicBool,
    state: Mutex<State>,
    dice: Dice,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed,
    Open { until: u64 },
    HalfOpen { step: usize, streak: u32, last_pass: u64 },
}

impl Classic {
    pub(crate) fn new(rule: ClassicRule) -> Self {
        Self {
            rule,
            window: OutcomeWindow::new(rule.window),
            is_disturbed: AtomicBool::new(false),
            state: Mutex::new(State::Closed),
            dice: Dice::default(),
        }
    }

    /// Lets a call through, or says how long to wait.
    pub(crate) fn admit(&self, now: u64, runtime: &Runtime) -> Result<(), Duration> {
        if self.is_closed() {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Closed => Ok(()),
            State::Open { until } if now < *until => Err(Duration::from_nanos(*until - now)),
            State::Open { .. } => {
                // Open -> HalfOpen; this call is the first probe.
                *state = State::HalfOpen {
                    step: 0,
                    streak: 0,
                    last_pass: now,
                };
                Ok(())
            }
            State::HalfOpen { step, last_pass, .. } => {
                let is_due = now.saturating_sub(*last_pass) >= 1_000_000_000;
                if is_due || self.dice.roll(runtime) < STEPS[*step] {
                    *last_pass = now;
                    Ok(())
                } else {
                    Err(Duration::from_millis(100))
                }
            }
        }
    }

    /// Counts how a call that was let through ended.
    pub(crate) fn record(&self, now: u64, failed: bool) {
        if self.is_closed() {
            self.window.add(now, failed);
            if !failed {
                return;
            }
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (*state, failed) {
            (State::Closed, true) if self.is_too_much(now) => self.open(&mut state, now), // Closed -> Open
            (State::HalfOpen { .. }, true) => self.open(&mut state, now),                 // HalfOpen -> Open
            (
                State::HalfOpen {
                    step,
                    streak,
                    last_pass,
                },
                false,
            ) => {
                let (step, streak) = if streak + 1 >= self.rule.probes {
                    (step + 1, 0)
                } else {
                    (step, streak + 1)
                };
                *state = State::HalfOpen {
                    step,
                    streak,
                    last_pass,
                };
                if step == STEPS.len() {
                    // HalfOpen -> Closed
                    *state = State::Closed;
                    self.window.clear();
                    self.is_disturbed.store(false, Relaxed);
                }
            }
            // A call that was made before the breaker opened says nothing new.
            (State::Open { .. }, _) | (State::Closed, _) => {}
        }
    }

    /// Is every call let through?
    pub(crate) fn is_closed(&self) -> bool {
        !self.is_disturbed.load(Relaxed)
    }

    fn is_too_much(&self, now: u64) -> bool {
        let sums = self.window.sums(now);
        sums.calls >= u64::from(self.rule.min) && sums.failures as f64 >= self.rule.failures * sums.calls as f64
    }

    fn open(&self, state: &mut State, now: u64) {
        *state = State::Open {
            until: now + nanos_of(self.rule.open),
        };
        self.is_disturbed.store(true, Relaxed);
    }
}
