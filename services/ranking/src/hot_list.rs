//! The hot lists as this node knows them: in its memory, in the shared cache, in the table.
//!
//! Each of the three may be away. A list is replaced by a newer one only, wherever it is kept, so nobody who is late puts an
//! old one back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mosaic::cache::{Cache, CacheKey};
use mosaic::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::store::Store;

/// For ever, as far as caches are concerned: a list goes when a newer one comes.
const CACHED_FOR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Times that the cache is asked to replace what it has.
const ATTEMPTS: usize = 3;

/// A list as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub(crate) struct HotList {
    /// Microseconds since 1970; rises from list to list.
    pub(crate) computed_at: i64,
    /// Ids and scores, hottest first.
    pub(crate) items: Vec<(i64, f64)>,
}

/// See the module documentation.
pub(crate) struct HotLists {
    store: Store,
    cache: Cache,
    known: Mutex<HashMap<String, Arc<HotList>>>,
}

impl HotLists {
    pub(crate) fn new(store: &Store, cache: &Cache) -> Self {
        Self {
            store: store.clone(),
            cache: cache.clone(),
            known: Mutex::default(),
        }
    }

    /// Returns the newest list that this node can get hold of; `None` if none was ever computed.
    ///
    /// # Errors
    /// There is none in memory, and neither cache nor database can tell.
    pub(crate) async fn get(&self, biz: &str) -> Result<Option<Arc<HotList>>> {
        if let Some(list) = self.known().get(biz) {
            return Ok(Some(list.clone()));
        }
        metrics::counter!("ranking_hot_misses_total").increment(1);
        self.fetch(biz, 0).await?;
        Ok(self.known().get(biz).cloned())
    }

    /// Fetches lists that are newer than those in memory.
    ///
    /// # Errors
    /// The database is away; what the cache has is fetched nevertheless.
    pub(crate) async fn refresh(&self) -> Result<()> {
        match self.store.hot_times().await {
            Ok(times) => {
                for (biz, computed_at) in times {
                    if self.computed_at(&biz) != computed_at {
                        self.fetch(&biz, computed_at).await?;
                    }
                }
                Ok(())
            }
            Err(error) => {
                let kinds: Vec<String> = self.known().keys().cloned().collect();
                for biz in kinds {
                    if let Ok(Some((_, list))) = self.cached(&biz).await {
                        self.take(&biz, list);
                    }
                }
                Err(error)
            }
        }
    }

    /// Takes a list that has been stored into memory and cache.
    pub(crate) async fn publish(&self, biz: &str, list: HotList) {
        let list = Arc::new(list);
        self.take(biz, list.clone());
        if let Err(error) = self.put(biz, &list).await {
            tracing::warn!(
                biz,
                cause = error.cause_chain(),
                "a hot list is not in the cache: {error}"
            );
        }
    }

    /// Fetches a list at least as new as `computed_at` from the cache, else what the table has.
    async fn fetch(&self, biz: &str, computed_at: i64) -> Result<()> {
        if let Ok(Some((_, list))) = self.cached(biz).await
            && list.computed_at >= computed_at
        {
            self.take(biz, list);
            return Ok(());
        }
        if let Some(list) = self.store.hot_list(biz).await? {
            self.publish(biz, list).await;
        }
        Ok(())
    }

    fn take(&self, biz: &str, list: Arc<HotList>) {
        let mut known = self.known();
        if known.get(biz).is_none_or(|known| known.computed_at < list.computed_at) {
            known.insert(biz.to_owned(), list);
        }
    }

    fn computed_at(&self, biz: &str) -> i64 {
        self.known().get(biz).map_or(0, |list| list.computed_at)
    }

    /// Returns what the cache has, as bytes and read.
    async fn cached(&self, biz: &str) -> Result<Option<(Bytes, Arc<HotList>)>> {
        let Some(row) = self.cache.get(&key(biz)).await? else {
            return Ok(None);
        };
        // What another release wrote is as good as nothing.
        let list = row.read(|bytes| serde_json::from_slice(bytes).ok());
        Ok(list.map(|list| (row.bytes().clone(), list)))
    }

    /// Stores a list in the cache unless a newer one is there.
    async fn put(&self, biz: &str, list: &HotList) -> Result<()> {
        let key = key(biz);
        let new: Bytes = serde_json::to_vec(list).map_err(Error::internal)?.into();
        for _ in 0..ATTEMPTS {
            let is_done = match self.cached(biz).await? {
                Some((_, cached)) if cached.computed_at >= list.computed_at => true,
                Some((old, _)) => self.cache.replace(&key, &old, new.clone(), CACHED_FOR).await?,
                None => {
                    self.cache.set(&key, new.clone(), CACHED_FOR).await?;
                    true
                }
            };
            if is_done {
                return Ok(());
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<HotList>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(biz: &str) -> CacheKey {
    CacheKey::new("hot_list").part(biz)
}
