//! How long to wait before a registry is asked again.
//!
//! Doubling, so that a registry that is down is not hammered; capped low, so that a fleet is back within seconds after
//! it; and spread over half of the pause, so that the fleet does not come back at once. It has no end: giving up would
//! mean a process that nobody finds until somebody restarts it.

use std::time::Duration;

use mosaic_core::Runtime;

const FIRST: Duration = Duration::from_millis(100);
/// With the time limit of an attempt well below ten seconds: the longest that a registry is back and unnoticed.
const LONGEST: Duration = Duration::from_secs(3);

/// The pauses between attempts of one task.
#[derive(Debug)]
pub(crate) struct Backoff {
    runtime: Runtime,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            next: FIRST,
        }
    }

    /// Begins with the shortest pause again: an attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits for the next pause. Cancel safe: a pause that was cut short counts as taken.
    pub(crate) async fn pause(&mut self) {
        let pause = self.draw();
        tokio::time::sleep(pause).await;
    }

    fn draw(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(LONGEST);
        half + Duration::from_millis(self.runtime.random_below(half.as_millis() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mosaic_core::{ManualClock, SeededRandom, Timestamp};

    use super::*;

    #[test]
    fn pauses_grow_to_a_cap_are_spread_and_begin_anew() {
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let runtime = Runtime::new(clock, Arc::new(SeededRandom::new(5)));
        let mut backoff = Backoff::new(&runtime);
        for expected in [100, 200, 400, 800, 1600, 3000, 3000] {
            let drawn = backoff.draw().as_millis();
            assert!((expected / 2..=expected).contains(&drawn), "{drawn} of {expected}");
        }
        let late: Vec<Duration> = (0..20).map(|_| backoff.draw()).collect();
        assert!(late.iter().any(|pause| *pause != late[0]));
        backoff.reset();
        assert!(backoff.draw() <= FIRST);
    }
}
