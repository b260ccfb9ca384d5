//! When the changes of a service become a snapshot.
//!
//! Not at once: a key that flaps, or a rollout of a hundred instances, must not make every caller rebuild a hundred times
//! a second. The first change waits a little and takes those that follow it along.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Longest wait of a change.
pub(crate) const COALESCE: Duration = Duration::from_millis(30);

/// A point in time that something waits for, or none.
#[derive(Debug, Default)]
pub(crate) struct Due(Option<Instant>);

impl Due {
    /// Sets the time unless it is set already.
    pub(crate) fn within(&mut self, delay: Duration) {
        self.0.get_or_insert_with(|| Instant::now() + delay);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Waits until the time; for ever if there is none. Cancel safe.
    pub(crate) async fn reached(&self) {
        match self.0 {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}
