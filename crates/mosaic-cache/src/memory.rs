//! The engine in the memory of one process.
//!
//! Bounded in entries and bytes: when a shard is full, what is over goes first, then the least recently used of a small sample
//! (as Redis does it). Rows, counters and codes are bounded apart, so that a flood of rows forgets no counter. Time is
//! that of the runtime, so that tests hold it still.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mosaic_core::{Result, Runtime, Timestamp};
use subtle::ConstantTimeEq as _;

use crate::{CacheEngine, CacheKey, Count, Issued, Redeemed, Row};

const N_SHARDS: usize = 16;
/// Entries of each kind that are kept.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of each kind that are kept, keys and what an entry costs beside included. Bytes above a sixteenth of this are not
/// kept at all.
const BYTES_MAX: usize = 64 << 20;
/// What an entry costs beside its key and its value.
const ENTRY_BYTES: usize = 64;
/// Entries that are looked at to find one to forget.
const SAMPLE: usize = 8;

/// See the module documentation.
#[derive(Debug)]
pub struct MemoryEngine {
    runtime: Runtime,
    rows: Table<Row>,
    counters: Table<i64>,
    codes: Table<Code>,
}

#[derive(Debug, Clone)]
struct Code {
    code: String,
    issued: Timestamp,
    tries_left: u32,
}

impl MemoryEngine {
    /// Makes an empty engine.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            rows: Table::default(),
            counters: Table::default(),
            codes: Table::default(),
        }
    }
}

#[async_trait]
impl CacheEngine for MemoryEngine {
    async fn get(&self, key: &CacheKey) -> Result<Option<Row>> {
        let now = self.runtime.now();
        Ok(self.rows.shard(key).live(key, now).map(|entry| entry.value.clone()))
    }

    async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()> {
        let now = self.runtime.now();
        self.rows.shard(key).put(key, Row::new(value), now, ttl);
        Ok(())
    }

    async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        let mut shard = self.rows.shard(key);
        let is_absent = shard.live(key, now).is_none();
        if is_absent {
            shard.put(key, Row::new(value), now, ttl);
        }
        Ok(is_absent)
    }

    async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        let mut shard = self.rows.shard(key);
        let is_expected = shard
            .live(key, now)
            .is_some_and(|entry| entry.value.bytes() == expected);
        if is_expected {
            shard.put(key, Row::new(value), now, ttl);
        }
        Ok(is_expected)
    }

    async fn remove(&self, key: &CacheKey) -> Result<()> {
        self.rows.shard(key).remove(key.as_str());
        self.counters.shard(key).remove(key.as_str());
        Ok(())
    }

    async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count> {
        let now = self.runtime.now();
        let mut shard = self.counters.shard(key);
        if let Some(entry) = shard.live(key, now) {
            entry.value = entry.value.saturating_add(by);
            return Ok(Count {
                value: entry.value,
                remaining: entry.expires.since(now),
            });
        }
        shard.put(key, by, now, ttl);
        Ok(Count {
            value: by,
            remaining: ttl,
        })
    }

    async fn counter(&self, key: &CacheKey) -> Result<Option<Count>> {
        let now = self.runtime.now();
        let mut shard = self.counters.shard(key);
        Ok(shard.live(key, now).map(|entry| Count {
            value: entry.value,
            remaining: entry.expires.since(now),
        }))
    }

    async fn issue_code(
        &self,
        key: &CacheKey,
        code: &str,
        ttl: Duration,
        every: Duration,
        tries: u32,
    ) -> Result<Issued> {
        let now = self.runtime.now();
        let mut shard = self.codes.shard(key);
        if let Some(entry) = shard.live(key, now) {
            let age = now.since(entry.value.issued);
            if age < every {
                return Ok(Issued::TooSoon {
                    retry_after: every - age,
                });
            }
        }
        shard.put(
            key,
            Code {
                code: code.to_owned(),
                issued: now,
                tries_left: tries,
            },
            now,
            ttl,
        );
        Ok(Issued::Issued)
    }

    async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed> {
        let now = self.runtime.now();
        let mut shard = self.codes.shard(key);
        let Some(entry) = shard.live(key, now) else {
            return Ok(Redeemed::Wrong);
        };
        if entry.value.tries_left == 0 {
            return Ok(Redeemed::Dead);
        }
        // A code that is used up stays as a dead one, so that the next may not come sooner.
        if entry.value.code.as_bytes().ct_eq(code.as_bytes()).into() {
            entry.value.tries_left = 0;
            return Ok(Redeemed::Matched);
        }
        entry.value.tries_left -= 1;
        Ok(if entry.value.tries_left == 0 {
            Redeemed::Dead
        } else {
            Redeemed::Wrong
        })
    }

    async fn clean_up_codes(&self) -> Result<u64> {
        let now = self.runtime.now();
        for shard in &self.codes.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).forget_over(now);
        }
        Ok(0)
    }
}

#[derive(Debug)]
struct Table<V> {
    hasher: RandomState,
    shards: [Mutex<Shard<V>>; N_SHARDS],
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl<V> Table<V> {
    fn shard(&self, key: &CacheKey) -> MutexGuard<'_, Shard<V>> {
        let hash = self.hasher.hash_one(key.as_str());
        // The remainder is below the number of shards.
        let index = (hash % N_SHARDS as u64) as usize;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Shard<V> {
    entries: HashMap<String, Entry<V>>,
    size_bytes: usize,
    clock: AtomicU64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Timestamp,
    used: u64,
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            size_bytes: 0,
            clock: AtomicU64::new(0),
        }
    }
}

/// What a value costs in memory, roughly.
trait Weigh {
    fn size_bytes(&self) -> usize;
}

/// Twice its bytes: once as they are, and once as what somebody has read out of them.
impl Weigh for Row {
    fn size_bytes(&self) -> usize {
        2 * self.bytes().len()
    }
}

impl Weigh for i64 {
    fn size_bytes(&self) -> usize {
        0
    }
}

impl Weigh for Code {
    fn size_bytes(&self) -> usize {
        self.code.len()
    }
}

impl<V: Weigh> Shard<V> {
    fn live(&mut self, key: &CacheKey, now: Timestamp) -> Option<&mut Entry<V>> {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let entry = self.entries.get_mut(key.as_str()).filter(|entry| entry.expires > now)?;
        entry.used = used;
        Some(entry)
    }

    fn put(&mut self, key: &CacheKey, value: V, now: Timestamp, ttl: Duration) {
        self.remove(key.as_str());
        let size_bytes = cost(key.as_str(), &value);
        if size_bytes > BYTES_MAX / N_SHARDS {
            return;
        }
        while self.entries.len() >= ENTRIES_MAX / N_SHARDS || self.size_bytes + size_bytes > BYTES_MAX / N_SHARDS {
            self.make_room(now);
        }
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let expires = now.plus(ttl);
        self.size_bytes += size_bytes;
        self.entries
            .insert(key.as_str().to_owned(), Entry { value, expires, used });
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.size_bytes -= cost(key, &entry.value);
        }
    }

    fn forget_over(&mut self, now: Timestamp) {
        let is_over = |(_, entry): &(&String, &Entry<V>)| entry.expires <= now;
        let over: Vec<String> = self
            .entries
            .iter()
            .filter(is_over)
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.remove(&key);
        }
    }

    fn make_room(&mut self, now: Timestamp) {
        let sample = self.entries.iter().take(SAMPLE);
        let victim = sample
            .min_by_key(|(_, entry)| (entry.expires > now, entry.used))
            .map(|(key, _)| key.clone());
        if let Some(key) = victim {
            self.remove(&key);
        }
    }
}

fn cost(key: &str, value: &impl Weigh) -> usize {
    ENTRY_BYTES + key.len() + value.size_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_bounded_and_forgets_no_counter() {
        let engine = MemoryEngine::new(&Runtime::system());
        let hour = Duration::from_secs(3600);
        engine.increment(&CacheKey::new("attempts"), 1, hour).await.unwrap();
        for i in 0..(ENTRIES_MAX + 10_000) {
            engine
                .set(&CacheKey::new("row").part(i), Bytes::new(), hour)
                .await
                .unwrap();
        }
        let n_entries: usize = engine
            .rows
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().entries.len())
            .sum();
        assert!(n_entries <= ENTRIES_MAX, "{n_entries}");
        assert_eq!(
            engine.counter(&CacheKey::new("attempts")).await.unwrap().unwrap().value,
            1
        );
    }
    #[tokio::test]
    async fn big_rows_are_bounded_in_bytes() {
        let engine = MemoryEngine::new(&Runtime::system());
        let (hour, big) = (Duration::from_secs(3600), Bytes::from(vec![7; 100 << 10]));
        for i in 0..2_000 {
            engine
                .set(&CacheKey::new("row").part(i), big.clone(), hour)
                .await
                .unwrap();
        }
        for shard in &engine.rows.shards {
            let shard = shard.lock().unwrap();
            let kept: usize = shard.entries.values().map(|entry| entry.value.bytes().len()).sum();
            assert!(
                kept <= shard.size_bytes && shard.size_bytes <= BYTES_MAX / N_SHARDS,
                "{kept}"
            );
            assert!(kept > BYTES_MAX / N_SHARDS / 4, "{kept}");
        }
        let key = CacheKey::new("huge");
        engine.set(&key, Bytes::from_static(b"small"), hour).await.unwrap();
        engine
            .set(&key, Bytes::from(vec![7; BYTES_MAX / N_SHARDS]), hour)
            .await
            .unwrap();
        assert_eq!(
            engine.get(&key).await.unwrap().map(|row| row.bytes().clone()),
            None,
            "neither the huge one nor what it replaces"
        );
        for i in 0..2_000 {
            engine.remove(&CacheKey::new("row").part(i)).await.unwrap();
        }
        assert!(
            engine
                .rows
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().size_bytes == 0)
        );
    }
}
