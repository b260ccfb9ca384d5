//! Breakers: no more calls to who does not answer, and calls again as soon as he does.
//!
//! A breaker stands before every attempt of a method of one service and hears how it ended. What it counts as a failure is
//! [`Outcome::of`]; what it refuses itself it never hears of.

mod classic;
mod sre;
mod window;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use metrics::Gauge;
use mosaic_core::{Code, MethodDescriptor, Runtime};

pub use classic::ClassicRule;
pub use sre::SreRule;

use crate::rules::words::{self, Words, rule_value};
use crate::ticks::nanos;
use classic::Classic;
use sre::Sre;

/// Which breaker: `off`, `sre ...` or `classic ...`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BreakerRule {
    /// None.
    Off,
    /// See [`SreRule`].
    Sre(SreRule),
    /// See [`ClassicRule`].
    Classic(ClassicRule),
}

/// What the end of a call says of the one who was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// He answers.
    Success,
    /// He does not, or is broken.
    Failure,
    /// Nothing.
    Ignored,
}

/// A timeout that came sooner says that the caller was in a hurry, not that the callee is slow.
const PATIENCE: Duration = Duration::from_millis(100);

impl Outcome {
    /// Judges a call of `method` that ended with `code` (`None`: well) after `elapsed`.
    ///
    /// Failures are `Unavailable`, `Internal`, `Unknown`, `DataLoss`, and `DeadlineExceeded` after at least 100 ms or half of
    /// the contract's timeout: a client that asks for 1 ms must not close a service to everybody. `ResourceExhausted` is
    /// the callee's limit for this caller and `Cancelled` the caller's own doing: both say nothing. Every other error is an
    /// answer.
    pub fn of(method: &MethodDescriptor, code: Option<Code>, elapsed: Duration) -> Self {
        match code {
            Some(Code::ResourceExhausted | Code::Cancelled) => Self::Ignored,
            Some(Code::DeadlineExceeded) if elapsed < PATIENCE.min(method.timeout / 2) => Self::Ignored,
            Some(code) if code.is_fault() => Self::Failure,
            Some(_) | None => Self::Success,
        }
    }
}

impl FromStr for BreakerRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words::of(text);
        match words.need("off, sre or classic")? {
            "off" => words.end().map(|()| Self::Off),
            "sre" => {
                let mut rule = SreRule::default();
                words.options("k, min and window", |name, words| match name {
                    "k" => Some(words::number(words, 1.0).map(|k| rule.k = k)),
                    "min" => Some(words::count(words).map(|min| rule.min = min)),
                    "window" => Some(words::duration(words).map(|window| rule.window = window)),
                    _ => None,
                })?;
                Ok(Self::Sre(rule))
            }
            "classic" => {
                let mut rule = ClassicRule::default();
                words.options("failures, min, window, open and probes", |name, words| match name {
                    "failures" => Some(words::percent(words).map(|share| rule.failures = share)),
                    "min" => Some(words::count(words).map(|min| rule.min = min)),
                    "window" => Some(words::duration(words).map(|window| rule.window = window)),
                    "open" => Some(words::duration(words).map(|open| rule.open = open)),
                    "probes" => Some(words::count(words).map(|probes| rule.probes = probes)),
                    _ => None,
                })?;
                Ok(Self::Classic(rule))
            }
            _ => Err("must begin with off, sre or classic".to_owned()),
        }
    }
}

impl fmt::Display for BreakerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Sre(rule) => write!(
                f,
                "sre k={} min={} window={}",
                rule.k,
                rule.min,
                words::show(rule.window)
            ),
            Self::Classic(rule) => write!(
                f,
                "classic failures={} min={} window={} open={} probes={}",
                words::show_percent(rule.failures),
                rule.min,
                words::show(rule.window),
                words::show(rule.open),
                rule.probes
            ),
        }
    }
}

rule_value!(BreakerRule);

/// A breaker at work.
pub(crate) struct Breaker {
    kind: Kind,
    is_refusing: AtomicBool,
    gauge: Gauge,
}

#[derive(Debug)]
enum Kind {
    Sre(Sre),
    Classic(Classic),
}

impl Breaker {
    /// Makes the breaker of `rule`; `None` if it is off.
    pub(crate) fn new(rule: BreakerRule, gauge: Gauge) -> Option<Self> {
        let kind = match rule {
            BreakerRule::Off => return None,
            BreakerRule::Sre(rule) => Kind::Sre(Sre::new(rule)),
            BreakerRule::Classic(rule) => Kind::Classic(Classic::new(rule)),
        };
        Some(Self {
            kind,
            is_refusing: AtomicBool::new(false),
            gauge,
        })
    }

    /// Lets an attempt through, or says when the next may be.
    pub(crate) fn admit(&self, now: Instant, runtime: &Runtime) -> Result<(), Duration> {
        let admitted = match &self.kind {
            Kind::Sre(sre) => sre.admit(nanos(now), runtime),
            Kind::Classic(classic) => classic.admit(nanos(now), runtime),
        };
        if admitted.is_err() && !self.is_refusing.swap(true, Relaxed) {
            self.gauge.set(1.0);
        }
        admitted
    }

    /// Hears how an attempt ended.
    pub(crate) fn record(&self, now: Instant, outcome: Outcome) {
        let failed = match outcome {
            Outcome::Ignored => return,
            Outcome::Success => false,
            Outcome::Failure => true,
        };
        match &self.kind {
            Kind::Sre(sre) => sre.record(nanos(now), failed),
            Kind::Classic(classic) => classic.record(nanos(now), failed),
        }
        if !failed && self.is_refusing.load(Relaxed) && self.is_closed(now) {
            self.is_refusing.store(false, Relaxed);
            self.gauge.set(0.0);
        }
    }

    /// Would every attempt be let through?
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        match &self.kind {
            Kind::Sre(sre) => sre.refused_share(nanos(now)) <= 0.0,
            Kind::Classic(classic) => classic.is_closed(),
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
