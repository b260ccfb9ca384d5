//! Retries that help and do not harm.
//!
//! A call is repeated only if that is safe (the method is idempotent, or nobody has begun the attempt) and useful
//! (`Unavailable`, time is left, the callee did not ask for more patience than that). The pause grows and is drawn from
//! zero to its length (full jitter: Brooker, *Exponential Backoff and Jitter*). All repetitions of a service come out of one
//! [`Budget`], so a dependency that fails altogether costs a fifth more calls and not three times as many. One layer
//! repeats: see [`was_retried`].

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mosaic_core::{Code, Error, Runtime};

use crate::rules::words::{self, Words, rule_value};
use crate::ticks::nanos;

/// How often and after which pause: `off`, or `2 base=25ms max=1s share=20% floor=10`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryRule {
    /// Attempts after the first.
    pub retries: u32,
    /// Longest pause before the first of them; doubles with each.
    pub base: Duration,
    /// Longest pause of all.
    pub max: Duration,
    /// Budget: extra attempts for each call.
    pub share: f64,
    /// Budget: extra attempts a second that are granted besides.
    pub floor: u32,
}

impl Default for RetryRule {
    fn default() -> Self {
        Self {
            retries: 2,
            base: Duration::from_millis(25),
            max: Duration::from_secs(1),
            share: 0.2,
            floor: 10,
        }
    }
}

impl RetryRule {
    /// No retries.
    pub const OFF: Self = Self {
        retries: 0,
        base: Duration::ZERO,
        max: Duration::ZERO,
        share: 0.2,
        floor: 10,
    };

    /// Returns the pause before the `n`th extra attempt (from 1): up to `base * 2^(n - 1)`, but not less than the callee asks.
    pub fn pause(&self, n: u32, retry_after: Option<Duration>, runtime: &Runtime) -> Duration {
        let doubled = self
            .base
            .saturating_mul(1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX));
        let longest = u64::try_from(doubled.min(self.max).as_nanos()).unwrap_or(u64::MAX);
        let jittered = Duration::from_nanos(runtime.random_below(longest.saturating_add(1)));
        retry_after.unwrap_or_default().saturating_add(jittered)
    }
}

impl FromStr for RetryRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        let mut words = Words::of(text);
        let mut rule = Self {
            retries: words::count(&mut words).map_err(|what| format!("{what}, or off"))?,
            ..Self::default()
        };
        words.options("base, max, share and floor", |name, words| match name {
            "base" => Some(words::duration(words).map(|base| rule.base = base)),
            "max" => Some(words::duration(words).map(|max| rule.max = max)),
            "share" => Some(words::percent(words).map(|share| rule.share = share)),
            "floor" => Some(words::count(words).map(|floor| rule.floor = floor)),
            _ => None,
        })?;
        if rule.retries > 10 {
            return Err("must be at most 10".to_owned());
        }
        Ok(rule)
    }
}

impl fmt::Display for RetryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF {
            return f.write_str("off");
        }
        write!(
            f,
            "{} base={} max={} share={} floor={}",
            self.retries,
            words::show(self.base),
            words::show(self.max),
            words::show_percent(self.share),
            self.floor
        )
    }
}

rule_value!(RetryRule);

/// Seconds of `floor` that calls may save up.
const SAVED_S: i64 = 10;
/// A whole extra attempt; budgets are kept in thousandths.
const WHOLE: i64 = 1000;

/// What may be spent on retries and hedges of one service.
///
/// Each call pays in `share` of an attempt (up to 10 seconds' worth of `floor`), and `floor` attempts a second come for
/// nothing. From the start of the process on, extra attempts are never more than `share * calls + floor * (seconds + 1)`.
#[derive(Debug)]
pub struct Budget {
    deposit: i64,
    most: i64,
    paid_in: AtomicI64,
    interval: u64,
    burst: u64,
    /// When the floor will have been used up to now (as the leaky bucket does it).
    floor_due: AtomicU64,
}

impl Budget {
    /// Makes the budget of `rule`, empty but for the first second's floor.
    pub fn new(rule: &RetryRule) -> Self {
        let floor = rule.floor.max(1);
        let interval = 1_000_000_000_u64.div_ceil(u64::from(floor));
        Self {
            deposit: (rule.share * WHOLE as f64) as i64,
            most: i64::from(floor) * SAVED_S * WHOLE,
            paid_in: AtomicI64::new(0),
            interval,
            burst: interval * u64::from(floor - 1),
            floor_due: AtomicU64::new(0),
        }
    }

    /// Pays in for a call.
    pub fn deposit(&self) {
        // A full purse is only looked at: healthy calls do not fight for the cache line.
        if self.paid_in.load(Relaxed) < self.most {
            self.paid_in.fetch_add(self.deposit, Relaxed);
        }
    }

    /// Pays for one extra attempt at `now`, if there is enough.
    pub fn withdraw(&self, now: Instant) -> bool {
        let spend = |paid_in: i64| (paid_in >= WHOLE).then(|| paid_in.min(self.most) - WHOLE);
        if self.paid_in.fetch_update(Relaxed, Relaxed, spend).is_ok() {
            return true;
        }
        let now = nanos(now);
        let use_floor = |due: u64| {
            let due = due.max(now);
            (due - now <= self.burst).then(|| due + self.interval)
        };
        self.floor_due.fetch_update(Relaxed, Relaxed, use_floor).is_ok()
    }
}

/// Says in the cause chain of an error that its call is not to be repeated further up.
#[derive(Debug)]
struct Retried {
    how: Decided,
    original: Error,
}

/// What the layer next to the failure did about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Made so many extra attempts.
    Repeated(u32),
    /// Made none: there was no budget, or no time.
    Declined,
    /// One or the other, in another process.
    Elsewhere,
}

impl fmt::Display for Retried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            Decided::Repeated(extra) => write!(f, "{} attempts", extra + 1),
            Decided::Declined => f.write_str("not repeated for want of time or retry budget"),
            Decided::Elsewhere => f.write_str("repeated, or declined to be, by the service that was called"),
        }
    }
}

impl std::error::Error for Retried {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.original
            .cause()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Has the layer next to the failure repeated the call, or declined to for want of budget or time?
///
/// Then nobody above repeats: of three layers with three attempts each, the lowest would see 27. The mark lies in the
/// private cause; an error that crosses the wire takes it along as metadata and gets it back by [`mark_retried`].
pub fn was_retried(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.is::<Retried>())
}

/// Marks an error from the wire as one whose call was repeated already.
#[must_use]
pub fn mark_retried(error: Error) -> Error {
    if was_retried(&error) {
        error
    } else {
        retried(error, Decided::Elsewhere)
    }
}

/// Marks an error as one that a layer has dealt with.
pub(crate) fn retried(original: Error, how: Decided) -> Error {
    let mut error = Error::new(
        original.code(),
        original.reason().to_owned(),
        original.message().to_owned(),
    )
    .with_violations(original.field_violations().to_vec());
    if let Some(number) = original.number() {
        error = error.numbered(number);
    }
    if let Some(status) = original.http_status_override() {
        error = error.with_http_status(status);
    }
    if let Some(after) = original.retry_after() {
        error = error.with_retry_after(after);
    }
    if original.code().is_fault() && !original.is_to_be_logged() {
        error = error.logged();
    }
    error.caused_by(Retried { how, original })
}

/// May the very same attempt end better if it is made again?
pub(crate) fn is_worth_repeating(error: &Error) -> bool {
    error.code() == Code::Unavailable && !was_retried(error)
}

#[cfg(test)]
mod tests;
