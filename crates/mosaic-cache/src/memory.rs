//! The engine in the memory of one process.
//!
//! Bounded in entries and bytes: when a shard is full, what is over goes first, then the least recently used of a small sample
//! (as Redis does it). Uses are told apart by what was stored since, and the locks are those of many readers: who only reads
//! writes nothing that others read. Rows, counters and codes are bounded apart, so that a flood of rows forgets no counter.
//! Time is that of the runtime, so that tests hold it still.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use crossbeam_utils::sync::{ShardedLock, ShardedLockWriteGuard};
use futures::future::ready;
use hashbrown::HashTable;
use mosaic_core::{Result, Runtime, Timestamp, split_mix};
use subtle::ConstantTimeEq as _;

use crate::{Answer, CacheEngine, CacheKey, Count, Issued, Redeemed, Row};

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
    fn get<'a>(&'a self, key: &'a CacheKey) -> Answer<'a, Option<Row>> {
        let mut found = None;
        self.peek(key, &mut |row| found = Some(row.clone()));
        Answer::Left(ready(Ok(found)))
    }

    fn peek(&self, key: &CacheKey, look: &mut dyn FnMut(&Row)) {
        let now = self.runtime.now();
        self.rows.look(key, now, look);
    }

    async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()> {
        let now = self.runtime.now();
        self.rows.place(key).put(Row::new(value), now, ttl);
        Ok(())
    }

    async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        let mut place = self.rows.place(key);
        let is_absent = place.live(now).is_none();
        if is_absent {
            place.put(Row::new(value), now, ttl);
        }
        Ok(is_absent)
    }

    async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        let mut place = self.rows.place(key);
        let is_expected = place.live(now).is_some_and(|entry| entry.value.bytes() == expected);
        if is_expected {
            place.put(Row::new(value), now, ttl);
        }
        Ok(is_expected)
    }

    async fn remove(&self, key: &CacheKey) -> Result<()> {
        self.rows.place(key).remove();
        self.counters.place(key).remove();
        Ok(())
    }

    async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count> {
        let now = self.runtime.now();
        let mut place = self.counters.place(key);
        if let Some(entry) = place.live(now) {
            entry.value = entry.value.saturating_add(by);
            return Ok(Count {
                value: entry.value,
                remaining: entry.expires.since(now),
            });
        }
        place.put(by, now, ttl);
        Ok(Count {
            value: by,
            remaining: ttl,
        })
    }

    async fn counter(&self, key: &CacheKey) -> Result<Option<Count>> {
        let now = self.runtime.now();
        let mut place = self.counters.place(key);
        Ok(place.live(now).map(|entry| Count {
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
        let mut place = self.codes.place(key);
        if let Some(entry) = place.live(now) {
            let age = now.since(entry.value.issued);
            if age < every {
                return Ok(Issued::TooSoon {
                    retry_after: every - age,
                });
            }
        }
        let code = Code {
            code: code.to_owned(),
            issued: now,
            tries_left: tries,
        };
        place.put(code, now, ttl);
        Ok(Issued::Issued)
    }

    async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed> {
        let now = self.runtime.now();
        let mut place = self.codes.place(key);
        let Some(entry) = place.live(now) else {
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
            shard.write().unwrap_or_else(PoisonError::into_inner).forget_over(now);
        }
        Ok(0)
    }
}

#[derive(Debug)]
struct Table<V> {
    hasher: RandomState,
    shards: [ShardedLock<Shard<V>>; N_SHARDS],
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| ShardedLock::default()),
        }
    }
}

impl<V> Table<V> {
    /// Finds where `key` belongs: its shard, which nobody else has until the place is dropped.
    fn place<'a>(&'a self, key: &'a CacheKey) -> Place<'a, V> {
        let (hash, shard) = self.shard_of(key);
        Place {
            shard: shard.write().unwrap_or_else(PoisonError::into_inner),
            key: key.as_str(),
            hash,
        }
    }

    /// Shows the value of `key` to `look`, beside others who look.
    fn look(&self, key: &CacheKey, now: Timestamp, look: &mut dyn FnMut(&V)) {
        let (hash, shard) = self.shard_of(key);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        let found = shard.entries.find(hash, |entry| *entry.key == *key.as_str());
        if let Some(entry) = found.filter(|entry| entry.expires > now) {
            entry.mark_used(shard.clock);
            look(&entry.value);
        }
    }

    fn shard_of(&self, key: &CacheKey) -> (u64, &ShardedLock<Shard<V>>) {
        let hash = self.hasher.hash_one(key.as_str());
        // The remainder is below the number of shards.
        let index = (hash % N_SHARDS as u64) as usize;
        (hash, &self.shards[index])
    }
}

struct Place<'a, V> {
    shard: ShardedLockWriteGuard<'a, Shard<V>>,
    key: &'a str,
    hash: u64,
}

#[derive(Debug)]
struct Shard<V> {
    entries: HashTable<Entry<V>>,
    size_bytes: usize,
    /// Counts what was stored.
    clock: u64,
}

#[derive(Debug)]
struct Entry<V> {
    key: Box<str>,
    hash: u64,
    value: V,
    expires: Timestamp,
    /// What the clock showed at its last use.
    used: AtomicU64,
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self {
            entries: HashTable::new(),
            size_bytes: 0,
            clock: 0,
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

impl<V: Weigh> Place<'_, V> {
    fn live(&mut self, now: Timestamp) -> Option<&mut Entry<V>> {
        let clock = self.shard.clock;
        let found = self.shard.entries.find_mut(self.hash, |entry| *entry.key == *self.key);
        let entry = found.filter(|entry| entry.expires > now)?;
        entry.mark_used(clock);
        Some(entry)
    }

    fn put(&mut self, value: V, now: Timestamp, ttl: Duration) {
        self.remove();
        let entry = Entry {
            key: self.key.into(),
            hash: self.hash,
            value,
            expires: now.plus(ttl),
            used: AtomicU64::new(self.shard.tick()),
        };
        self.shard.put(entry, now);
    }

    fn remove(&mut self) {
        self.shard.remove(self.hash, self.key);
    }
}

impl<V: Weigh> Shard<V> {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Stores an entry that is not there yet.
    fn put(&mut self, entry: Entry<V>, now: Timestamp) {
        let size_bytes = entry.size_bytes();
        if size_bytes > BYTES_MAX / N_SHARDS {
            return;
        }
        while self.entries.len() >= ENTRIES_MAX / N_SHARDS || self.size_bytes + size_bytes > BYTES_MAX / N_SHARDS {
            self.make_room(now);
        }
        self.size_bytes += size_bytes;
        self.entries.insert_unique(entry.hash, entry, |entry| entry.hash);
    }

    fn remove(&mut self, hash: u64, key: &str) {
        if let Ok(found) = self.entries.find_entry(hash, |entry| *entry.key == *key) {
            let (entry, _) = found.remove();
            self.size_bytes -= entry.size_bytes();
        }
    }

    fn forget_over(&mut self, now: Timestamp) {
        let size_bytes = &mut self.size_bytes;
        self.entries.retain(|entry| {
            let is_over = entry.expires <= now;
            if is_over {
                *size_bytes -= entry.size_bytes();
            }
            !is_over
        });
    }

    fn make_room(&mut self, now: Timestamp) {
        // From anywhere: at the beginning of the table what is new would go soon, and what lies behind it never.
        let n_buckets = self.entries.num_buckets();
        let start = split_mix(self.clock) as usize % n_buckets;
        let places = (start..n_buckets).chain(0..start);
        let entry_at = |place| Some((place, self.entries.get_bucket(place)?));
        let victim = places
            .filter_map(entry_at)
            .take(SAMPLE)
            .min_by_key(|(_, entry)| (entry.expires > now, entry.used.load(Relaxed)))
            .map(|(place, _)| place);
        if let Some(Ok(victim)) = victim.map(|place| self.entries.get_bucket_entry(place)) {
            let (entry, _) = victim.remove();
            self.size_bytes -= entry.size_bytes();
        }
    }
}

impl<V> Entry<V> {
    fn mark_used(&self, clock: u64) {
        // Mostly it is marked already: a line of memory that nobody writes to is every processor's.
        if self.used.load(Relaxed) != clock {
            self.used.store(clock, Relaxed);
        }
    }
}

impl<V: Weigh> Entry<V> {
    fn size_bytes(&self) -> usize {
        ENTRY_BYTES + self.key.len() + self.value.size_bytes()
    }
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
            .map(|shard| shard.read().unwrap().entries.len())
            .sum();
        assert!(n_entries <= ENTRIES_MAX, "{n_entries}");
        assert_eq!(
            engine.counter(&CacheKey::new("attempts")).await.unwrap().unwrap().value,
            1
        );
    }

    #[tokio::test]
    async fn what_is_read_outlives_a_flood() {
        let engine = MemoryEngine::new(&Runtime::system());
        let hour = Duration::from_secs(3600);
        let hot: Vec<CacheKey> = (0..N_SHARDS).map(|i| CacheKey::new("hot").part(i)).collect();
        for key in &hot {
            engine.set(key, Bytes::from_static(b"kept"), hour).await.unwrap();
        }
        for i in 0..3 * ENTRIES_MAX {
            engine
                .set(&CacheKey::new("row").part(i), Bytes::new(), hour)
                .await
                .unwrap();
            if i % 1_000 == 0 {
                for key in &hot {
                    assert!(engine.get(key).await.unwrap().is_some(), "{key:?} at {i}");
                }
            }
        }
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
            let shard = shard.read().unwrap();
            let kept: usize = shard.entries.iter().map(|entry| entry.value.bytes().len()).sum();
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
                .all(|shard| shard.read().unwrap().size_bytes == 0)
        );
    }
}
