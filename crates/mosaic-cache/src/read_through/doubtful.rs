//! Rows that changed while the engine could not be told.
//!
//! The engine may hold the old row, so until it has been told, this process does not ask it for such a row: who changed
//! something reads his change even while the engine is away or just back. Other processes may see the old row until its
//! end; that is what a cache without an answer costs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mosaic_core::{Result, Timestamp};

use crate::{Cache, CacheKey};

/// Rows that are remembered; more are changed during an outage only where the loss of the cache is the smaller worry.
const ROWS_MAX: usize = 10_000;

/// Until when the old row of a key may live, and which change it was that made it old.
type Changed = HashMap<String, (Timestamp, u64)>;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Doubtful {
    rows: Mutex<Changed>,
    next_change: AtomicU64,
    /// So that a hit needs no lock.
    n_rows: AtomicUsize,
}

impl Doubtful {
    /// Remembers that the engine may hold the old row of `key` for `ttl`.
    pub(super) fn add(&self, key: &CacheKey, now: Timestamp, ttl: Duration) {
        let mut rows = self.rows();
        if rows.len() >= ROWS_MAX {
            rows.retain(|_, (until, _)| *until > now);
        }
        if rows.len() < ROWS_MAX {
            let change = self.next_change.fetch_add(1, Ordering::Relaxed);
            rows.insert(key.as_str().to_owned(), (now.plus(ttl), change));
        }
        self.n_rows.store(rows.len(), Ordering::Release);
    }

    /// May the engine be asked for `key`? Tells it of the change first, where that is due.
    pub(super) async fn is_settled(&self, cache: &Cache, key: &CacheKey) -> bool {
        !self.has(key) || self.settle(cache, key).await.is_ok()
    }

    /// May the engine hold an old row of `key`?
    pub(super) fn has(&self, key: &CacheKey) -> bool {
        self.n_rows.load(Ordering::Acquire) > 0 && self.rows().contains_key(key.as_str())
    }

    /// Removes the row of `key` from the engine, and from here if that was possible.
    pub(super) async fn settle(&self, cache: &Cache, key: &CacheKey) -> Result<()> {
        let added = self.rows().get(key.as_str()).copied();
        cache.remove(key).await?;
        let mut rows = self.rows();
        // Unless it changed once more meanwhile.
        if rows.get(key.as_str()).copied() == added {
            rows.remove(key.as_str());
        }
        self.n_rows.store(rows.len(), Ordering::Release);
        Ok(())
    }

    fn rows(&self) -> MutexGuard<'_, Changed> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
