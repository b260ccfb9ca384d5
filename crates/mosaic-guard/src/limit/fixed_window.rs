//! So many calls in each period of the clock.
//!
//! All keys begin anew at the same moments, which is what "a thousand a day" means to people. Around such a moment up to
//! twice as many may come in a short time, and all clients learn to come right after it.

use std::time::Duration;

use super::rule::LimitRule;
use super::table::Count;
use crate::ticks::nanos_of;

/// See the module documentation.
pub(crate) struct FixedWindow {
    calls: u32,
    per: u64,
}

/// Which window, and the calls in it.
#[derive(Default)]
pub(crate) struct InWindow {
    window: u64,
    n_calls: u32,
}

impl FixedWindow {
    pub(crate) fn new(rule: &LimitRule) -> Self {
        Self {
            calls: rule.calls,
            per: nanos_of(rule.per),
        }
    }
}

impl Count for FixedWindow {
    type State = InWindow;

    fn take(&self, state: &mut InWindow, now: u64) -> Result<(), Duration> {
        let window = now / self.per;
        if state.window != window {
            *state = InWindow { window, n_calls: 0 };
        }
        if state.n_calls >= self.calls {
            return Err(Duration::from_nanos((window + 1) * self.per - now));
        }
        state.n_calls += 1;
        Ok(())
    }

    fn is_idle(&self, state: &InWindow, now: u64) -> bool {
        state.window != now / self.per
    }
}
