//! Bulkheads: at most so many calls at a time, a few more waiting.
//!
//! The compartments of a ship (Nygard, *Release It!*): one slow method or dependency fills its own compartment and no
//! other. The queue is bounded in length and in time, because a queue that is not hides the overload until all who wait
//! have gone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rules::words::{self, Words, rule_value};

/// How many at a time: `off`, or `100 queue=50 wait=100ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkheadRule(Option<Compartment>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Compartment {
    calls: u32,
    queue: u32,
    wait: Duration,
}

impl BulkheadRule {
    /// No limit.
    pub const OFF: Self = Self(None);
}

impl FromStr for BulkheadRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        let mut words = Words::of(text);
        let mut rule = Compartment {
            calls: words::count(&mut words).map_err(|what| format!("{what}, or off"))?,
            queue: 0,
            wait: Duration::from_millis(100),
        };
        words.options("queue and wait", |name, words| match name {
            "queue" => Some(words::count(words).map(|queue| rule.queue = queue)),
            "wait" => Some(words::duration(words).map(|wait| rule.wait = wait)),
            _ => None,
        })?;
        Ok(Self(Some(rule)))
    }
}

impl fmt::Display for BulkheadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(Compartment { calls, queue: 0, .. }) => write!(f, "{calls}"),
            Some(Compartment { calls, queue, wait }) => write!(f, "{calls} queue={queue} wait={}", words::show(wait)),
        }
    }
}

rule_value!(BulkheadRule);

/// A bulkhead at work.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    compartment: Compartment,
    places: Arc<Semaphore>,
    n_waiting: AtomicU32,
}

/// A place in a bulkhead, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Bulkhead {
    /// Makes the bulkhead of `rule`; `None` if it is off.
    pub(crate) fn new(rule: BulkheadRule) -> Option<Self> {
        let compartment = rule.0?;
        Some(Self {
            compartment,
            places: Arc::new(Semaphore::new(compartment.calls as usize)),
            n_waiting: AtomicU32::new(0),
        })
    }

    /// Returns the rule.
    pub(crate) fn rule(&self) -> BulkheadRule {
        BulkheadRule(Some(self.compartment))
    }

    /// Takes a place if one is free.
    pub(crate) fn try_enter(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(Place)
    }

    /// Takes a place, waiting for one if need be as [`Bulkhead::wait`] does.
    pub(crate) async fn enter(&self, patience: Option<Duration>) -> Option<Place> {
        match self.try_enter() {
            Some(place) => Some(place),
            // Boxed: who need not wait need not carry the room for it about.
            None => Box::pin(self.wait(patience)).await,
        }
    }

    /// Waits in the queue for a place, if there is room, for at most `patience`. Cancel safe.
    async fn wait(&self, patience: Option<Duration>) -> Option<Place> {
        let _queued = Queued::join(&self.n_waiting, self.compartment.queue)?;
        let wait = patience.map_or(self.compartment.wait, |patience| patience.min(self.compartment.wait));
        let acquired = tokio::time::timeout(wait, self.places.clone().acquire_owned()).await;
        acquired.ok()?.ok().map(Place)
    }

    /// Returns when another try makes sense.
    pub(crate) fn retry_after(&self) -> Duration {
        self.compartment.wait.max(Duration::from_millis(100))
    }
}

/// A place in the queue.
struct Queued<'a>(&'a AtomicU32);

impl<'a> Queued<'a> {
    fn join(n_waiting: &'a AtomicU32, most: u32) -> Option<Self> {
        let joined = n_waiting.fetch_update(Relaxed, Relaxed, |n| (n < most).then_some(n + 1));
        joined.ok().map(|_| Self(n_waiting))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulkhead(rule: &str) -> Bulkhead {
        Bulkhead::new(rule.parse().unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn full_is_full_until_somebody_leaves() {
        let bulkhead = bulkhead("2");
        let (one, _two) = (bulkhead.try_enter().unwrap(), bulkhead.try_enter().unwrap());
        assert!(bulkhead.try_enter().is_none());
        assert!(bulkhead.wait(None).await.is_none(), "there is no queue");
        drop(one);
        assert!(bulkhead.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let bulkhead = bulkhead("1 queue=1 wait=50ms");
        let place = bulkhead.try_enter().unwrap();
        let started = tokio::time::Instant::now();
        let refused_after = async || {
            assert!(bulkhead.wait(None).await.is_none());
            started.elapsed().as_millis()
        };
        assert_eq!(tokio::join!(refused_after(), refused_after()), (50, 0));
        let (waited, ()) = tokio::join!(bulkhead.wait(None), async { drop(place) });
        assert!(waited.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_his_deadline() {
        let bulkhead = bulkhead("1 queue=5 wait=10s");
        let _place = bulkhead.try_enter();
        let started = tokio::time::Instant::now();
        assert!(bulkhead.wait(Some(Duration::from_millis(3))).await.is_none());
        assert_eq!(started.elapsed(), Duration::from_millis(3));
        // Who left the queue has left it.
        assert_eq!(bulkhead.n_waiting.load(Relaxed), 0);
    }
}
