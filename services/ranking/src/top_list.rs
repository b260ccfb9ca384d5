//! The most liked items of each kind, as this node knows them.
//!
//! The index over (kind, state, likes, id) is the sorted set; a node keeps the first thousand entries of it, and reads them
//! again when the version of the kind has changed. See `docs/guides/top-n.md`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mosaic::{Result, Runtime, Timestamp};

use crate::model::TOP_MAX;
use crate::store::Store;

/// The first items of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Top {
    version: i64,
    /// When reading it began; a clock that is set must not keep an old list.
    begun: Instant,
    /// When the table had nothing newer.
    pub(crate) as_of: Timestamp,
    /// Ids and likes, most likes first.
    pub(crate) items: Arc<[(i64, i64)]>,
}

/// See the module documentation.
pub(crate) struct TopLists {
    store: Store,
    runtime: Runtime,
    known: Mutex<HashMap<String, Top>>,
}

impl TopLists {
    pub(crate) fn new(store: &Store, runtime: &Runtime) -> Self {
        Self {
            store: store.clone(),
            runtime: runtime.clone(),
            known: Mutex::default(),
        }
    }

    /// Returns the list of a kind from memory, else from the table; `None` if the kind never had an item.
    pub(crate) async fn get(&self, biz: &str) -> Result<Option<Top>> {
        if let Some(top) = self.known().get(biz) {
            return Ok(Some(top.clone()));
        }
        metrics::counter!("ranking_top_misses_total").increment(1);
        let begun = (self.runtime.instant(), self.runtime.now());
        match self.store.version(biz).await? {
            Some(version) => self.load(biz, version, begun).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads what has changed.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let begun = (self.runtime.instant(), self.runtime.now());
        for (biz, version) in self.store.versions().await? {
            let is_current = match self.known().get_mut(&biz) {
                Some(top) if top.version == version => {
                    (top.begun, top.as_of) = begun;
                    true
                }
                _ => false,
            };
            if !is_current {
                self.load(&biz, version, begun).await?;
            }
        }
        Ok(())
    }

    /// The version was read before the items, so these are of that version or newer.
    async fn load(&self, biz: &str, version: i64, (begun, as_of): (Instant, Timestamp)) -> Result<Top> {
        let items = self.store.top(biz, TOP_MAX).await?.into();
        let top = Top {
            version,
            begun,
            as_of,
            items,
        };
        let mut known = self.known();
        let kept = known.entry(biz.to_owned()).or_insert_with(|| top.clone());
        // Another load may have ended first.
        if kept.begun <= begun {
            *kept = top.clone();
        }
        Ok(kept.clone())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Top>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
