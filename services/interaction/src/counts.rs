//! Counters as they are read: through the cache.
//!
//! A counter in the cache is never changed, only forgotten after the commit that changed it: to add to it there would race with
//! whoever loads it. What a crash comes between stays for as long as `interaction.cached_for`.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use mosaic::Result;
use mosaic::cache::{Cache, CacheKey, ReadThrough};
use mosaic::sql::Database;

use crate::model::{Counts, Item};
use crate::store;

/// Items that are forgotten side by side.
const FORGET_AT_ONCE: usize = 64;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CachedCounts {
    database: Database,
    cached: ReadThrough<Counts>,
}

impl CachedCounts {
    pub(crate) fn new(database: &Database, cache: &Cache, cached_for: Duration) -> Self {
        Self {
            database: database.clone(),
            cached: ReadThrough::new(cache, cached_for),
        }
    }

    /// Returns the counters of `item`, zeros if nobody had to do with it.
    pub(crate) async fn get(&self, item: &Item) -> Result<Counts> {
        let load = || store::counts_of(&self.database, item);
        let counts = self.cached.look_or_load(&key(item), load, |counts| *counts).await?;
        Ok(counts.unwrap_or_default())
    }

    /// Forgets `items`; to be called after their counters have changed and the change is committed.
    pub(crate) async fn forget(&self, items: &[Item]) {
        let forget = |item: Item| async move { self.cached.invalidate(&key(&item)).await };
        stream::iter(items.to_vec())
            .for_each_concurrent(FORGET_AT_ONCE, forget)
            .await;
    }
}

fn key(item: &Item) -> CacheKey {
    CacheKey::new("interaction").part(&*item.biz).part(item.biz_id)
}
