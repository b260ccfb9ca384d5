//! How often: `token-bucket 100/s burst 20 by account cluster`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mosaic_core::Rate;

use super::key::KeyBy;
use crate::rules::words::{self, Words, rule_value};

/// How calls are counted; each in a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// So many in a period that begins with the first of them.
    Counter,
    /// So many at a time.
    Concurrent,
    /// So many in each period of the clock.
    FixedWindow,
    /// So many in any period.
    SlidingWindow,
    /// A rate on average, and a burst that is saved up.
    TokenBucket,
    /// A rate, evenly spread.
    LeakyBucket,
}

impl Algorithm {
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::Counter, "counter"),
        (Self::Concurrent, "concurrent"),
        (Self::FixedWindow, "fixed-window"),
        (Self::SlidingWindow, "sliding-window"),
        (Self::TokenBucket, "token-bucket"),
        (Self::LeakyBucket, "leaky-bucket"),
    ];

    pub(crate) fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(algorithm, _)| *algorithm == self);
        named.map_or("counter", |(_, name)| name)
    }

    const fn has_burst(self) -> bool {
        matches!(self, Self::TokenBucket | Self::LeakyBucket)
    }
}

/// Where calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In each process for itself.
    Process,
    /// In the store, for all processes together; in each process for itself while the store is away.
    Cluster,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRule {
    /// How calls are counted.
    pub algorithm: Algorithm,
    /// Calls in a period, or at a time.
    pub calls: u32,
    /// The period; zero for calls at a time.
    pub per: Duration,
    /// Calls at once that a bucket lets through.
    pub burst: u32,
    /// Whose calls are counted together.
    pub by: KeyBy,
    /// Where.
    pub reach: Reach,
}

impl LimitRule {
    /// Returns the limit that a contract sets: spread evenly, the whole of a period at once if it was saved up, by account.
    pub fn of_contract(rate: Rate) -> Self {
        Self {
            algorithm: Algorithm::LeakyBucket,
            calls: rate.calls,
            per: rate.per,
            burst: rate.calls,
            by: KeyBy::Account,
            reach: Reach::Process,
        }
    }

    /// Returns the time between two calls at the rate, rounded up: what is let through is never more than the rule says.
    pub(crate) fn interval(&self) -> u64 {
        crate::ticks::nanos_of(self.per)
            .div_ceil(u64::from(self.calls.max(1)))
            .max(1)
    }
}

impl FromStr for LimitRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words::of(text);
        let kind = words.next().unwrap_or_default();
        let Some((algorithm, _)) = Algorithm::ALL.into_iter().find(|(_, name)| *name == kind) else {
            let names = Algorithm::ALL.map(|(_, name)| name).join(", ");
            return Err(format!("must begin with one of {names}"));
        };
        let (calls, per) = if algorithm == Algorithm::Concurrent {
            (words::count(&mut words)?, Duration::ZERO)
        } else {
            words::rate(&mut words)?
        };
        let mut rule = Self {
            algorithm,
            calls,
            per,
            burst: if algorithm == Algorithm::TokenBucket { calls } else { 1 },
            by: KeyBy::Service,
            reach: Reach::Process,
        };
        words.options("burst (of buckets), by and cluster", |name, words| match name {
            "burst" if algorithm.has_burst() => Some(words::count(words).map(|burst| rule.burst = burst)),
            "by" => Some(key_by(words).map(|by| rule.by = by)),
            "cluster" => {
                rule.reach = Reach::Cluster;
                Some(Ok(()))
            }
            _ => None,
        })?;
        if rule.reach == Reach::Cluster && algorithm == Algorithm::Concurrent {
            return Err(
                "concurrent counts in one process only: nobody frees the place of a process that died".to_owned(),
            );
        }
        Ok(rule)
    }
}

fn key_by(words: &mut Words<'_>) -> Result<KeyBy, String> {
    let names = || KeyBy::ALL.map(|(_, name)| name).join(", ");
    let text = words.need("a key")?;
    let named = KeyBy::ALL.into_iter().find(|(_, name)| *name == text);
    named
        .map(|(by, _)| by)
        .ok_or_else(|| format!("must be one of {}", names()))
}

impl fmt::Display for LimitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        match self.algorithm {
            Algorithm::Concurrent => write!(f, " {}", self.calls)?,
            _ => write!(f, " {}", words::show_rate(self.calls, self.per))?,
        }
        if self.algorithm.has_burst() {
            write!(f, " burst {}", self.burst)?;
        }
        write!(f, " by {}", self.by.name())?;
        match self.reach {
            Reach::Process => Ok(()),
            Reach::Cluster => f.write_str(" cluster"),
        }
    }
}

/// The limits of a method: `contract`, `off`, or limits separated by `;`, all of which count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateRule {
    /// What the contract says.
    Contract,
    /// These and not those of the contract.
    Limits(Vec<LimitRule>),
}

impl FromStr for RateRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "contract" => Ok(Self::Contract),
            "off" => Ok(Self::Limits(Vec::new())),
            limits => limits
                .split(';')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map(Self::Limits),
        }
    }
}

impl fmt::Display for RateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contract => f.write_str("contract"),
            Self::Limits(limits) if limits.is_empty() => f.write_str("off"),
            Self::Limits(limits) => {
                let texts: Vec<_> = limits.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))
            }
        }
    }
}

rule_value!(RateRule);
