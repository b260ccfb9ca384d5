//! Rate limits: how often somebody may call.
//!
//! A [`LimitRule`] says how calls are counted, whose calls are counted together ([`KeyBy`]) and where: in this process, or in
//! a [`LimitStore`] for all processes together. While the store is away each process counts for itself, by the same rule:
//! a limit that is too generous for a moment harms less than a service that stands still because Redis does.

mod counter;
mod fixed_window;
mod key;
mod leaky_bucket;
mod redis;
mod rule;
mod sliding_window;
mod store;
mod table;
mod token_bucket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mosaic_core::{Context, Error, MethodDescriptor, Rate, Result};

pub use key::KeyBy;
pub use rule::{Algorithm, LimitRule, RateRule, Reach};
pub use store::LimitStore;

use self::redis::Counted;
use crate::refusal::Refusal;
use crate::ticks::nanos;
use counter::{Concurrent, Counter};
use fixed_window::FixedWindow;
use key::Key;
use leaky_bucket::LeakyBucket;
use sliding_window::SlidingWindow;
use table::Table;
use token_bucket::TokenBucket;

/// A limit at work.
pub(crate) struct Limiter {
    rule: LimitRule,
    table: Tables,
    /// Begins the keys of this limit in the store.
    name: Box<str>,
}

enum Tables {
    Counter(Table<Counter>),
    Concurrent(Table<Concurrent>),
    FixedWindow(Table<FixedWindow>),
    SlidingWindow(Table<SlidingWindow>),
    TokenBucket(Table<TokenBucket>),
    LeakyBucket(Table<LeakyBucket>),
}

/// One of the calls at a time; free again when dropped.
pub(crate) struct Slot {
    limiter: Arc<Limiter>,
    key: Key,
}

impl Limiter {
    /// Makes a limiter; `owner` tells it from others with the same rule: a method's path or a service's name.
    pub(crate) fn new(rule: LimitRule, owner: &str) -> Self {
        Self {
            rule,
            table: Tables::new(&rule),
            name: format!("{owner}:{rule}").into(),
        }
    }

    /// Is this limit counted in the store?
    pub(crate) fn is_of_cluster(&self) -> bool {
        self.rule.reach == Reach::Cluster
    }

    /// Counts a call in this process.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) fn admit(self: &Arc<Self>, method: &MethodDescriptor, cx: &Context) -> Result<Option<Slot>> {
        let Some(key) = self.rule.by.key(method, cx) else {
            return Ok(None);
        };
        self.take(&key, cx.runtime().instant())
            .map_err(|wait| self.refusal(wait))?;
        let is_held = self.rule.algorithm == Algorithm::Concurrent;
        Ok(is_held.then(|| Slot {
            limiter: self.clone(),
            key,
        }))
    }

    /// Counts a call in `store`; in this process if the store is away.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) async fn admit_in(&self, store: &LimitStore, method: &MethodDescriptor, cx: &Context) -> Result<()> {
        let Some(key) = self.rule.by.key(method, cx) else {
            return Ok(());
        };
        let counted = store.take(&self.rule, &self.name, &key.text()).await;
        let taken = match counted {
            Some(Counted::Taken) => Ok(()),
            Some(Counted::Refused { wait }) => Err(wait),
            None => self.take(&key, cx.runtime().instant()),
        };
        taken.map_err(|wait| self.refusal(wait))
    }

    pub(crate) fn take(&self, key: &Key, now: Instant) -> Result<(), Duration> {
        let now = nanos(now);
        match &self.table {
            Tables::Counter(table) => table.take(key, now),
            Tables::Concurrent(table) => table.take(key, now),
            Tables::FixedWindow(table) => table.take(key, now),
            Tables::SlidingWindow(table) => table.take(key, now),
            Tables::TokenBucket(table) => table.take(key, now),
            Tables::LeakyBucket(table) => table.take(key, now),
        }
    }

    fn refusal(&self, wait: Duration) -> Error {
        Refusal::Rate.error("too many calls", self.rule, wait)
    }
}

impl Tables {
    fn new(rule: &LimitRule) -> Self {
        match rule.algorithm {
            Algorithm::Counter => Self::Counter(Table::new(Counter::new(rule))),
            Algorithm::Concurrent => Self::Concurrent(Table::new(Concurrent::new(rule))),
            Algorithm::FixedWindow => Self::FixedWindow(Table::new(FixedWindow::new(rule))),
            Algorithm::SlidingWindow => Self::SlidingWindow(Table::new(SlidingWindow::new(rule))),
            Algorithm::TokenBucket => Self::TokenBucket(Table::new(TokenBucket::new(rule))),
            Algorithm::LeakyBucket => Self::LeakyBucket(Table::new(LeakyBucket::new(rule))),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Tables::Concurrent(table) = &self.limiter.table {
            table.change(&self.key, |in_flight| *in_flight = in_flight.saturating_sub(1));
        }
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Limiter").field(&self.name).finish()
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.limiter.name).finish()
    }
}

/// Limits each caller (account, else address) of one method to the rate of its contract.
#[derive(Debug)]
pub struct RateLimiter(Arc<Limiter>);

impl RateLimiter {
    /// Makes a limiter whose callers all start with a full allowance.
    pub fn new(rate: Rate) -> Self {
        Self(Arc::new(Limiter::new(LimitRule::of_contract(rate), "")))
    }

    /// Takes one call from the caller's allowance. Services of the platform are not limited by it.
    ///
    /// # Errors
    /// `ResourceExhausted` (`RATE_LIMITED`) that names the rule and says when to come back.
    pub fn admit(&self, method: &MethodDescriptor, cx: &Context) -> Result<()> {
        self.0.admit(method, cx).map(drop)
    }
}

#[cfg(test)]
mod tests;
