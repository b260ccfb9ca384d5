//! So many calls in any period, wherever it begins.
//!
//! A log in ten parts: calls are counted by tenths of the period, and the running tenth together with the ten before it
//! may hold no more than the rule says. Unlike the approximation from two windows (Cloudflare), which lets nearly twice
//! the calls through when they come at the end of one window and late in the next, this is never over the rule; unlike a
//! log of every call, a key costs 56 bytes whatever its rate. The price: an allowance comes back up to a tenth of the
//! period late.

use std::time::Duration;

use super::rule::LimitRule;
use super::table::Count;
use crate::ticks::nanos_of;

/// Parts of a period.
pub(crate) const PARTS: usize = 10;
const SLOTS: usize = PARTS + 1;

/// See the module documentation.
pub(crate) struct SlidingWindow {
    calls: u32,
    part: u64,
}

/// The newest part with calls, and the calls of it and those before, by part modulo their number.
#[derive(Default)]
pub(crate) struct Log {
    newest: u64,
    n_calls: [u32; SLOTS],
}

impl SlidingWindow {
    pub(crate) fn new(rule: &LimitRule) -> Self {
        Self {
            calls: rule.calls,
            part: nanos_of(rule.per).div_ceil(PARTS as u64).max(1),
        }
    }
}

fn slot(part: u64) -> usize {
    (part % SLOTS as u64) as usize
}

impl Count for SlidingWindow {
    type State = Log;

    fn take(&self, log: &mut Log, now: u64) -> Result<(), Duration> {
        let part = (now / self.part).max(log.newest);
        // What lies between the newest part and now had no calls, and overwrites what is too old to count.
        for passed in (log.newest + 1..=part).take(SLOTS) {
            log.n_calls[slot(passed)] = 0;
        }
        if part - log.newest > SLOTS as u64 {
            log.n_calls = [0; SLOTS];
        }
        log.newest = part;
        if log.n_calls.iter().sum::<u32>() < self.calls {
            log.n_calls[slot(part)] += 1;
            return Ok(());
        }
        // The oldest part with calls is the first to go.
        let oldest = (part.saturating_sub(PARTS as u64)..=part).find(|part| log.n_calls[slot(*part)] > 0);
        let goes = (oldest.unwrap_or(part) + SLOTS as u64) * self.part;
        Err(Duration::from_nanos(goes.saturating_sub(now)))
    }

    fn is_idle(&self, log: &Log, now: u64) -> bool {
        now / self.part >= log.newest + SLOTS as u64
    }
}
