//! A rate on average, and a burst that is saved up while nobody calls.
//!
//! The bucket holds time instead of tokens: `interval` nanoseconds are one call. So nothing is rounded to whole tokens or
//! whole seconds, at any rate.

use std::time::Duration;

use super::rule::LimitRule;
use super::table::Count;

/// See the module documentation.
pub(crate) struct TokenBucket {
    interval: u64,
    full: u64,
}

/// What is in the bucket, and since when.
#[derive(Default)]
pub(crate) struct Bucket {
    /// `None`: never touched, and so full.
    level: Option<u64>,
    at: u64,
}

impl TokenBucket {
    pub(crate) fn new(rule: &LimitRule) -> Self {
        let interval = rule.interval();
        Self {
            interval,
            full: interval.saturating_mul(u64::from(rule.burst)),
        }
    }

    fn level(&self, bucket: &Bucket, now: u64) -> u64 {
        let level = bucket.level.unwrap_or(self.full);
        level.saturating_add(now.saturating_sub(bucket.at)).min(self.full)
    }
}

impl Count for TokenBucket {
    type State = Bucket;

    fn take(&self, bucket: &mut Bucket, now: u64) -> Result<(), Duration> {
        let level = self.level(bucket, now);
        let at = now.max(bucket.at);
        let Some(left) = level.checked_sub(self.interval) else {
            return Err(Duration::from_nanos(self.interval - level));
        };
        *bucket = Bucket { level: Some(left), at };
        Ok(())
    }

    fn is_idle(&self, bucket: &Bucket, now: u64) -> bool {
        self.level(bucket, now) == self.full
    }
}
