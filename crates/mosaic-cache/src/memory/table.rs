//! What the memory engine keeps of one kind, in shards.
//!
//! Bounded in entries and bytes: when a shard is full, what is over goes first, then the least recently used of a small sample
//! (as Redis does it). Uses are told apart by what was stored since, and the locks are those of many readers: who only reads
//! writes nothing that others read.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::sync::{ShardedLock, ShardedLockWriteGuard};
use hashbrown::HashTable;
use mosaic_core::{Timestamp, split_mix};

use crate::CacheKey;

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

#[derive(Debug)]
pub(super) struct Table<V> {
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
    pub(super) fn place<'a>(&'a self, key: &'a CacheKey) -> Place<'a, V> {
        let (hash, shard) = self.shard_of(key);
        Place {
            shard: shard.write().unwrap_or_else(PoisonError::into_inner),
            key: key.as_str(),
            hash,
        }
    }

    /// Shows the value of `key` to `look`, beside others who look.
    pub(super) fn look(&self, key: &CacheKey, now: Timestamp, look: &mut dyn FnMut(&V)) {
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

/// The place of a key in its shard, which nobody else has meanwhile.
pub(super) struct Place<'a, V> {
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
pub(super) struct Entry<V> {
    key: Box<str>,
    hash: u64,
    pub(super) value: V,
    pub(super) expires: Timestamp,
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
pub(super) trait Weigh {
    fn size_bytes(&self) -> usize;
}

impl<V: Weigh> Table<V> {
    /// Forgets what is over at `now`.
    pub(super) fn forget_over(&self, now: Timestamp) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).forget_over(now);
        }
    }
}

impl<V: Weigh> Place<'_, V> {
    /// Returns the entry, if there is one that is not over.
    pub(super) fn live(&mut self, now: Timestamp) -> Option<&mut Entry<V>> {
        let clock = self.shard.clock;
        let found = self.shard.entries.find_mut(self.hash, |entry| *entry.key == *self.key);
        let entry = found.filter(|entry| entry.expires > now)?;
        entry.mark_used(clock);
        Some(entry)
    }

    /// Stores `value` for `ttl`, in the place of what was there.
    pub(super) fn put(&mut self, value: V, now: Timestamp, ttl: Duration) {
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

    pub(super) fn remove(&mut self) {
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
    use bytes::Bytes;
    use mosaic_core::Runtime;

    use super::super::MemoryEngine;
    use super::*;
    use crate::CacheEngine as _;

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
