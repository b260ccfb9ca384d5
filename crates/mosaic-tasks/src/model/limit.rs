//! Keys that limit how many tasks run at once, and how many start in a period.
//!
//! How many are active is counted where it is asked, never kept: so no crash leaves a place taken. The rate is GCRA with a
//! small burst (a tenth of `n`), and an interval so much longer that no period sees more than `n` starts. Who may not start
//! waits out of the way of others and is looked at again when a place is free or its time has come; somebody looks every
//! [`LOOK_AGAIN`] besides, so that nobody waits for ever for a place that was freed unseen.

use std::time::Duration;

use mosaic_core::Timestamp;

use crate::options::{KeyLimit, Rate};

/// See the module documentation.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Answer to a task that wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may; this is the key's new time.
    Now(Timestamp),
    /// Not before this.
    Later(Timestamp),
}

/// How many of those that wait for a key go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// So many.
    pub n: usize,
    /// When to look again, if more wait.
    pub again_at: Timestamp,
}

/// Returns burst and interval.
fn pace(rate: Rate) -> (u32, Duration) {
    let burst = (rate.n / 10).max(1);
    let n_steps = u128::from((rate.n - burst + 1).max(1));
    // Rounded up: many intervals that are a little short would let one more in.
    let micros = u64::try_from(rate.per.as_micros().div_ceil(n_steps)).unwrap_or(u64::MAX);
    (burst, Duration::from_micros(micros))
}

/// Returns from when on the next one may start.
fn opens_at(rate: Rate, time: Timestamp) -> Timestamp {
    let (burst, interval) = pace(rate);
    time.minus(interval * (burst - 1))
}

/// May another task start at `now`, while `n_active` run? `time` is the key's, that of the last answer.
pub fn admit(limit: &KeyLimit, n_active: u32, time: Timestamp, now: Timestamp) -> Turn {
    if limit.concurrency.is_some_and(|most| n_active >= most) {
        return Turn::Later(now.plus(LOOK_AGAIN));
    }
    match limit.rate {
        None => Turn::Now(time),
        Some(rate) if now < opens_at(rate, time) => Turn::Later(opens_at(rate, time)),
        Some(rate) => Turn::Now(time.max(now).plus(pace(rate).1)),
    }
}

/// Returns how many of `n_waiting` tasks are let try again at `now`.
pub fn release(limit: &KeyLimit, n_active: u32, n_waiting: usize, time: Timestamp, now: Timestamp) -> Released {
    let (mut n, mut time, mut again_at) = (0, time, now.plus(LOOK_AGAIN));
    while n < n_waiting {
        let n_taken = n_active.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        match admit(limit, n_taken, time, now) {
            Turn::Now(next) => (n, time) = (n + 1, next),
            Turn::Later(at) => {
                again_at = at;
                break;
            }
        }
    }
    Released { n, again_at }
}
