//! Instants as numbers, so that state fits into atomics.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What a clock may lie behind the first one that was asked: two clocks of one test run.
const SLACK: Duration = Duration::from_secs(86_400);

/// Returns nanoseconds since a moment that is the same for the whole process; earlier instants are zero.
pub(crate) fn nanos(now: Instant) -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(|| now.checked_sub(SLACK).unwrap_or(now));
    nanos_of(now.saturating_duration_since(epoch))
}

/// Returns a length of time in nanoseconds; saturates at 584 years.
pub(crate) fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
