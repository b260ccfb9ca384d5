//! What an algorithm remembers of each key, in a bounded table.
//!
//! Sharded, so that callers seldom wait for each other. A full shard forgets the keys whose state says nothing any more,
//! which changes nothing for them; if all of them matter, new keys are refused: memory has a limit, and somebody who comes
//! from a million addresses is not to buy others out of theirs.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::key::Key;

/// How calls are counted.
pub(crate) trait Count: Send + Sync {
    /// What is remembered of a key; the default is that of one never seen.
    type State: Default + Send;
    /// Counts a call at `now`, or says how long to wait.
    fn take(&self, state: &mut Self::State, now: u64) -> Result<(), Duration>;
    /// Is `state` as good as that of a key never seen?
    fn is_idle(&self, state: &Self::State, now: u64) -> bool;
}

const SHARDS: usize = 16;
/// Keys that one limit keeps in mind.
const KEYS_MAX: usize = 100_000;
/// Pause between two searches for what may be forgotten.
const SWEEP_EVERY: u64 = 100_000_000;

/// See the module documentation.
pub(crate) struct Table<C: Count> {
    count: C,
    hasher: RandomState,
    shards: Box<[Mutex<Shard<C::State>>]>,
    keys_max: usize,
}

struct Shard<S> {
    states: HashMap<Key, S>,
    swept: u64,
}

impl<C: Count> Table<C> {
    pub(crate) fn new(count: C) -> Self {
        Self::with_keys_max(count, KEYS_MAX)
    }

    fn with_keys_max(count: C, keys_max: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                states: HashMap::new(),
                swept: 0,
            })
        };
        Self {
            count,
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            keys_max: keys_max / SHARDS,
        }
    }

    /// Counts a call of `key` at `now`, or says how long to wait.
    pub(crate) fn take(&self, key: &Key, now: u64) -> Result<(), Duration> {
        let mut shard = self.shard(key);
        if let Some(state) = shard.states.get_mut(key) {
            return self.count.take(state, now);
        }
        if shard.states.len() >= self.keys_max {
            if now.saturating_sub(shard.swept) >= SWEEP_EVERY {
                shard.states.retain(|_, state| !self.count.is_idle(state, now));
                shard.swept = now;
            }
            if shard.states.len() >= self.keys_max {
                return Err(Duration::from_secs(1));
            }
        }
        let mut state = C::State::default();
        let taken = self.count.take(&mut state, now);
        shard.states.insert(key.clone(), state);
        taken
    }

    /// Changes what is remembered of `key`, if anything is.
    pub(crate) fn change(&self, key: &Key, change: impl FnOnce(&mut C::State)) {
        if let Some(state) = self.shard(key).states.get_mut(key) {
            change(state);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<C::State>> {
        let idx = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        self.shards[idx].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::leaky_bucket::LeakyBucket;

    #[test]
    fn a_full_table_forgets_the_idle_and_refuses_the_new() {
        let rule = "leaky-bucket 1/s".parse().unwrap();
        let table = Table::with_keys_max(LeakyBucket::new(&rule), SHARDS);
        let now = 1_000_000_000_000;
        let took = |from, now| {
            let keys = (from..from + 1000).map(Key::Method);
            keys.filter(|key| table.take(key, now).is_ok()).count()
        };
        assert_eq!(took(0, now), SHARDS);
        assert_eq!(took(0, now), 0, "the known are over their rate, the new do not fit");
        assert_eq!(took(5000, now + 999_000_000), 0, "all of them still matter");
        assert_eq!(took(5000, now + 1_200_000_000), SHARDS, "now none does");
    }
}
