//! Calls and failures of the last moments, counted in buckets without a lock, by each thread in its own.
//!
//! A bucket belongs to a slot of time and is emptied by the first who writes into it in a later slot. Calls that race with
//! the emptying may be lost: a breaker decides by proportions, and a few calls in a quarter of a second do not move them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mosaic_core::Striped;

use crate::ticks::nanos_of;

/// Buckets of a window.
pub(crate) const BUCKETS: u64 = 40;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct OutcomeWindow {
    width: u64,
    buckets: Striped<[Bucket; BUCKETS as usize]>,
    /// Slot of the last failure plus one; zero: none yet.
    last_failure: AtomicU64,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Slot plus one; zero: never used.
    slot: AtomicU64,
    calls: AtomicU32,
    failures: AtomicU32,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
}

impl OutcomeWindow {
    /// Makes an empty window of `length`.
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            width: (nanos_of(length) / BUCKETS).max(1),
            buckets: Striped::new(|| std::array::from_fn(|_| Bucket::default())),
            last_failure: AtomicU64::new(0),
        }
    }

    /// Counts a call that ended at `now`.
    pub(crate) fn add(&self, now: u64, failed: bool) {
        let slot = now / self.width;
        let bucket = &self.buckets.own()[(slot % BUCKETS) as usize];
        let owner = bucket.slot.load(Relaxed);
        if owner != slot + 1 && bucket.slot.compare_exchange(owner, slot + 1, Relaxed, Relaxed).is_ok() {
            bucket.calls.store(0, Relaxed);
            bucket.failures.store(0, Relaxed);
        }
        bucket.calls.fetch_add(1, Relaxed);
        if failed {
            bucket.failures.fetch_add(1, Relaxed);
            self.last_failure.store(slot + 1, Relaxed);
        }
    }

    /// Is there no failure in the window? One load, which is all that a healthy call costs.
    pub(crate) fn is_clean(&self, now: u64) -> bool {
        let last = self.last_failure.load(Relaxed);
        last == 0 || (now / self.width + 1).saturating_sub(last) >= BUCKETS
    }

    /// Adds up what is in the window at `now`.
    pub(crate) fn sums(&self, now: u64) -> Sums {
        let slot = now / self.width + 1;
        let mut sums = Sums::default();
        for bucket in self.buckets.all().flatten() {
            let owner = bucket.slot.load(Relaxed);
            if owner != 0 && slot.saturating_sub(owner) < BUCKETS {
                sums.calls += u64::from(bucket.calls.load(Relaxed));
                sums.failures += u64::from(bucket.failures.load(Relaxed));
            }
        }
        sums
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.last_failure.store(0, Relaxed);
        for bucket in self.buckets.all().flatten() {
            bucket.slot.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_is_added_up() {
        let window = OutcomeWindow::new(Duration::from_secs(10));
        let now = 1_000_000_000_000;
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| window.add(now, true));
            }
        });
        assert_eq!(
            window.sums(now),
            Sums {
                calls: 20,
                failures: 20
            }
        );
        window.clear();
        assert_eq!(window.sums(now), Sums::default());
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let window = OutcomeWindow::new(Duration::from_secs(10));
        let at = |ms: u64| 1_000_000_000_000 + ms * 1_000_000;
        assert!(window.is_clean(at(0)));
        window.add(at(0), true);
        window.add(at(1), false);
        window.add(at(9_000), false);
        assert_eq!(window.sums(at(9_500)), Sums { calls: 3, failures: 1 });
        assert!(!window.is_clean(at(9_500)));
        assert_eq!(window.sums(at(10_000)), Sums { calls: 1, failures: 0 });
        assert!(window.is_clean(at(10_000)));
        assert_eq!(window.sums(at(60_000)), Sums::default());
        window.add(at(9_000 + 10_000), false);
        assert_eq!(window.sums(at(19_000)), Sums { calls: 1, failures: 0 });
    }
}
