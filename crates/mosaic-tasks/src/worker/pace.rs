//! How far ahead a worker claims: what it has in hand should start within [`AHEAD`].
//!
//! Claiming one by one costs a round trip a task, which for short tasks is most of their time; claiming many takes tasks
//! away from workers that are free. So it is by the mean time of a run, which rises fast and falls slowly.

use std::time::Duration;

/// What is claimed ahead begins within this.
const AHEAD: Duration = Duration::from_millis(100);
/// Most tasks that are claimed ahead, however short they are.
pub(super) const AHEAD_MAX: usize = 500;

/// Mean time of a run.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<f64>);

impl Pace {
    /// Takes note of a run.
    pub(super) fn ran(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.0 = Some(self.0.map_or(took, |mean| {
            let weight = if took > mean { 0.2 } else { 0.02 };
            mean + (took - mean) * weight
        }));
    }

    /// Returns how many tasks to have in hand beside those that run: none as long as nothing is known.
    pub(super) fn ahead(&self, concurrency: usize) -> usize {
        let Some(mean) = self.0 else { return 0 };
        let n = AHEAD.as_secs_f64() / mean * concurrency as f64;
        // A mean of zero makes it infinite, which is cut like any large number.
        (n as usize).min(AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tasks_are_claimed_ahead_and_long_ones_are_not() {
        let ahead_of = |micros: u64| {
            let mut pace = Pace::default();
            (0..500).for_each(|_| pace.ran(Duration::from_micros(micros)));
            pace.ahead(10)
        };
        assert_eq!(Pace::default().ahead(10), 0);
        assert_eq!(
            [0, 10, 10_000, 200_000, 10_000_000].map(ahead_of),
            [500, 500, 100, 5, 0]
        );
    }

    #[test]
    fn what_becomes_slow_is_noticed_within_a_few_runs() {
        let mut pace = Pace::default();
        (0..1000).for_each(|_| pace.ran(Duration::from_micros(10)));
        (0..5).for_each(|_| pace.ran(Duration::from_secs(1)));
        assert_eq!(pace.ahead(10), 1);
    }
}
