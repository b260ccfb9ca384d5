//! A rate, evenly spread.
//!
//! GCRA, the virtual-scheduling form of the leaky bucket (ITU-T I.371): one timestamp a key, the moment when the calls so far
//! will have leaked out. Without a burst calls keep their distance; with one, so many may come at once if none came before.

use std::time::Duration;

use super::rule::LimitRule;
use super::table::Count;

/// See the module documentation.
pub(crate) struct LeakyBucket {
    interval: u64,
    tolerance: u64,
    is_closed: bool,
}

impl LeakyBucket {
    pub(crate) fn new(rule: &LimitRule) -> Self {
        let interval = rule.interval();
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(rule.burst.max(1) - 1)),
            is_closed: rule.calls == 0,
        }
    }
}

impl Count for LeakyBucket {
    type State = u64;

    fn take(&self, empty_at: &mut u64, now: u64) -> Result<(), Duration> {
        let due = (*empty_at).max(now);
        let ahead = due - now;
        if self.is_closed {
            return Err(Duration::from_nanos(self.interval));
        }
        if ahead > self.tolerance {
            return Err(Duration::from_nanos(ahead - self.tolerance));
        }
        *empty_at = due.saturating_add(self.interval);
        Ok(())
    }

    fn is_idle(&self, empty_at: &u64, now: u64) -> bool {
        *empty_at <= now
    }
}
