//! How often one caller may call one method.
//!
//! GCRA, the virtual-scheduling form of the leaky bucket (ITU-T I.371): one timestamp a caller, no background work,
//! bursts up to the whole window. The table is bounded; when it is full, callers whose bucket is empty again are
//! forgotten first, which changes nothing for them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mosaic_core::{AccountId, Context, Error, MethodDescriptor, Rate, Result};

/// Callers that one method keeps in mind.
const CALLERS_MAX: usize = 100_000;

/// Limits each caller (account, else address) to a rate.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    callers: Mutex<BTreeMap<CallerKey, Instant>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CallerKey {
    Account(AccountId),
    Address(IpAddr),
    Unknown,
}

impl RateLimiter {
    /// Makes a limiter whose callers all start with a full allowance.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            callers: Mutex::default(),
        }
    }

    /// Takes one call from the caller's allowance. Services of the platform are not limited by it.
    ///
    /// # Errors
    /// `ResourceExhausted` (`RATE_LIMITED`) that names the rule and says when to come back.
    pub fn admit(&self, method: &MethodDescriptor, cx: &Context) -> Result<()> {
        let key = match (cx.identity(), cx.origin().ip) {
            (Some(identity), _) => CallerKey::Account(identity.account),
            (None, Some(ip)) => CallerKey::Address(ip),
            (None, None) if cx.service().is_some() => return Ok(()),
            (None, None) => CallerKey::Unknown,
        };
        self.take(key, cx.runtime().instant()).map_err(|wait| {
            let Rate { calls, per } = self.rate;
            let rule = format!("at most {calls} calls of {} in {} s", method.name, per.as_secs_f64());
            Error::resource_exhausted("RATE_LIMITED", rule).with_retry_after(wait)
        })
    }

    /// Returns how long to wait if there is no allowance left.
    fn take(&self, key: CallerKey, now: Instant) -> std::result::Result<(), Duration> {
        let interval = self.rate.per / self.rate.calls.max(1);
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let due = callers.get(&key).copied().unwrap_or(now).max(now);
        let ahead = due - now;
        let burst = self.rate.per.saturating_sub(interval);
        if self.rate.calls == 0 || ahead > burst {
            return Err(ahead.saturating_sub(burst));
        }
        if callers.len() >= CALLERS_MAX && !callers.contains_key(&key) {
            callers.retain(|_, due| *due > now);
            if callers.len() >= CALLERS_MAX {
                return Err(interval);
            }
        }
        callers.insert(key, due + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_the_whole_window_then_one_by_one() {
        let limiter = RateLimiter::new(Rate {
            calls: 3,
            per: Duration::from_secs(30),
        });
        let start = mosaic_core::Runtime::system().instant();
        let at = |secs| limiter.take(CallerKey::Unknown, start + Duration::from_secs(secs));
        assert!((0..3).all(|_| at(0).is_ok()));
        assert_eq!(at(0), Err(Duration::from_secs(10)));
        assert_eq!(at(9), Err(Duration::from_secs(1)));
        assert_eq!(at(10), Ok(()));
        assert_eq!(at(10), Err(Duration::from_secs(10)));
        assert!((0..3).all(|_| at(1000).is_ok()));
    }

    #[test]
    fn callers_do_not_share_an_allowance() {
        let limiter = RateLimiter::new(Rate {
            calls: 1,
            per: Duration::from_secs(1),
        });
        let now = mosaic_core::Runtime::system().instant();
        for last in 1..=9 {
            let key = CallerKey::Address(IpAddr::from([10, 0, 0, last]));
            assert_eq!(limiter.take(key, now), Ok(()));
            assert!(limiter.take(key, now).is_err());
        }
    }
}
