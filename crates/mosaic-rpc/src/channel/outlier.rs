//! Taking an instance out of use because of how its calls end.
//!
//! Connected and said to be healthy is not the same as working: a process with a full disk answers every ping. After
//! [`CONSECUTIVE`] failures in a row an instance gets no calls for a while, longer each time (Envoy's outlier detection);
//! then it begins again with a slow start.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::balance::Outcome;

/// Failures in a row that eject.
const CONSECUTIVE: u32 = 5;
const FIRST_US: u64 = 2_000_000;
const LONGEST_US: u64 = 60_000_000;

/// The record of one instance.
#[derive(Debug, Default)]
pub(crate) struct Outliers {
    n_failures: AtomicU32,
    n_ejections: AtomicU32,
    ejected_until_us: AtomicU64,
    is_returned: AtomicBool,
}

impl Outliers {
    /// Takes note of how a call ended; true if that was one failure too many.
    pub(crate) fn note(&self, outcome: Outcome, now_us: u64) -> bool {
        match outcome {
            Outcome::Abandoned => false,
            Outcome::Answered => {
                if self.n_failures.load(Ordering::Relaxed) != 0 {
                    self.n_failures.store(0, Ordering::Relaxed);
                }
                // One that has worked for as long as it was out has served its time.
                if self.n_ejections.load(Ordering::Relaxed) != 0 && !self.is_on_probation(now_us) {
                    self.n_ejections.store(0, Ordering::Relaxed);
                }
                false
            }
            Outcome::Failed => {
                let n_failures = self.n_failures.fetch_add(1, Ordering::Relaxed) + 1;
                if n_failures != CONSECUTIVE || self.is_ejected(now_us) {
                    return false;
                }
                self.n_failures.store(0, Ordering::Relaxed);
                let n_before = self.n_ejections.fetch_add(1, Ordering::Relaxed);
                self.ejected_until_us
                    .store(now_us + pause_us(n_before), Ordering::Relaxed);
                true
            }
        }
    }

    pub(crate) fn is_ejected(&self, now_us: u64) -> bool {
        now_us < self.ejected_until_us.load(Ordering::Relaxed)
    }

    /// Returns when the instance is to come back, to compare those that are out.
    pub(crate) fn ejected_until_us(&self) -> u64 {
        self.ejected_until_us.load(Ordering::Relaxed)
    }

    /// Has the pause just ended? Says so once.
    pub(crate) fn has_returned(&self, now_us: u64) -> bool {
        let until = self.ejected_until_us.load(Ordering::Relaxed);
        until != 0 && until <= now_us && !self.is_returned.swap(true, Ordering::Relaxed)
    }

    /// Begins anew: the instance was restarted.
    pub(crate) fn forgive(&self) {
        self.n_failures.store(0, Ordering::Relaxed);
        self.ejected_until_us.store(0, Ordering::Relaxed);
    }

    fn is_on_probation(&self, now_us: u64) -> bool {
        let n_ejections = self.n_ejections.load(Ordering::Relaxed).max(1);
        now_us < self.ejected_until_us.load(Ordering::Relaxed) + pause_us(n_ejections - 1)
    }
}

fn pause_us(n_before: u32) -> u64 {
    FIRST_US.saturating_mul(1 << n_before.min(16)).min(LONGEST_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_eject_longer_each_time() {
        let outliers = Outliers::default();
        let fail = |n, now_us| (0..n).filter(|_| outliers.note(Outcome::Failed, now_us)).count();
        assert_eq!(fail(4, 0), 0);
        outliers.note(Outcome::Answered, 0);
        assert_eq!(fail(4, 0), 0, "not in a row");
        assert_eq!(fail(1, 0), 1);
        assert!(outliers.is_ejected(FIRST_US - 1) && !outliers.is_ejected(FIRST_US));
        assert!(!outliers.has_returned(FIRST_US - 1) && outliers.has_returned(FIRST_US));
        assert!(!outliers.has_returned(FIRST_US), "said once");
        assert_eq!(fail(5, FIRST_US), 1);
        assert!(outliers.is_ejected(3 * FIRST_US - 1) && !outliers.is_ejected(3 * FIRST_US));
    }

    #[test]
    fn who_has_worked_for_long_begins_with_a_short_pause_again() {
        let outliers = Outliers::default();
        assert!((0..5).any(|_| outliers.note(Outcome::Failed, 0)));
        outliers.note(Outcome::Answered, 2 * FIRST_US);
        assert!((0..5).any(|_| outliers.note(Outcome::Failed, 10 * FIRST_US)));
        assert!(!outliers.is_ejected(11 * FIRST_US));
    }

    #[test]
    fn giving_up_blames_nobody() {
        let outliers = Outliers::default();
        assert!((0..100).all(|_| !outliers.note(Outcome::Abandoned, 0)));
    }
}
