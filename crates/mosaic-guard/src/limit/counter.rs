//! So many calls in a period that begins with the first of them; or so many at a time.
//!
//! The period limit of go-zero (`INCRBY` and `EXPIRE`): cheap, and the natural reading of "five codes in ten minutes". Around
//! the end of a period up to twice as many may come in a short time; where that matters take the sliding window.

use std::time::Duration;

use super::rule::LimitRule;
use super::table::Count;
use crate::ticks::nanos_of;

/// Counts in a period.
pub(crate) struct Counter {
    calls: u32,
    per: u64,
}

/// When the period began, and the calls since.
#[derive(Default)]
pub(crate) struct Period {
    start: u64,
    n_calls: u32,
}

impl Counter {
    pub(crate) fn new(rule: &LimitRule) -> Self {
        Self {
            calls: rule.calls,
            per: nanos_of(rule.per),
        }
    }
}

impl Count for Counter {
    type State = Period;

    fn take(&self, state: &mut Period, now: u64) -> Result<(), Duration> {
        if self.is_idle(state, now) {
            *state = Period { start: now, n_calls: 0 };
        }
        if state.n_calls >= self.calls {
            return Err(Duration::from_nanos((state.start + self.per).saturating_sub(now)));
        }
        state.n_calls += 1;
        Ok(())
    }

    fn is_idle(&self, state: &Period, now: u64) -> bool {
        state.n_calls == 0 || now >= state.start + self.per
    }
}

/// Counts calls at a time.
pub(crate) struct Concurrent {
    calls: u32,
}

impl Concurrent {
    pub(crate) fn new(rule: &LimitRule) -> Self {
        Self { calls: rule.calls }
    }
}

impl Count for Concurrent {
    type State = u32;

    fn take(&self, in_flight: &mut u32, _now: u64) -> Result<(), Duration> {
        if *in_flight >= self.calls {
            return Err(Duration::from_millis(100));
        }
        *in_flight += 1;
        Ok(())
    }

    fn is_idle(&self, in_flight: &u32, _now: u64) -> bool {
        *in_flight == 0
    }
}
