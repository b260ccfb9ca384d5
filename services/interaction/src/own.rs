//! What readers have done to items, as it is shown to them with each: through the cache.
//!
//! It is asked for with every item that somebody opens, and changes when he likes or collects. An entry for each reader and item would
//! fill the cache with what nobody asks for twice, so there is one for each reader: all that he has marked, as long as that is
//! little. Who has marked more is looked up item by item. As with [`counts`](crate::counts), an entry is only ever forgotten,
//! after the commit that changed it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use mosaic::cache::{Cache, CacheKey, ReadThrough};
use mosaic::{AccountId, Result};
use serde::{Deserialize, Serialize};

use crate::model::{Kind, Own};
use crate::store::Lists;

/// Marks that are kept of a reader: reading them is cheaper than asking the database.
const MARKS_MAX: u64 = 100;
/// Entries that are forgotten side by side.
const FORGET_AT_ONCE: usize = 64;

/// Somebody who marks items of a kind.
pub(crate) type Marker = (AccountId, Arc<str>);

/// What a reader has marked among the items of a kind.
#[derive(Debug, Serialize, Deserialize)]
enum Marks {
    /// All of it.
    Few { liked: Vec<i64>, collected: Vec<i64> },
    /// More than is kept.
    Many,
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CachedOwn {
    lists: Lists,
    cached: ReadThrough<Marks>,
}

impl CachedOwn {
    pub(crate) fn new(lists: &Lists, cache: &Cache, cached_for: Duration) -> Self {
        Self {
            lists: lists.clone(),
            cached: ReadThrough::new(cache, cached_for),
        }
    }

    /// Returns what `account` has done to the item `id`.
    pub(crate) async fn one(&self, account: AccountId, biz: &str, id: i64) -> Result<Own> {
        let look = |marks: &Marks| match marks {
            Marks::Few { liked, collected } => Some(of_item(id, liked, collected)),
            Marks::Many => None,
        };
        match self.look(account, biz, look).await?.flatten() {
            Some(own) => Ok(own),
            None => {
                let own = Box::pin(self.lists.own(account, biz, &[id])).await?;
                Ok(own.get(&id).copied().unwrap_or_default())
            }
        }
    }

    /// Returns what `account` has done to those of `ids` to which it has done anything.
    pub(crate) async fn many(&self, account: AccountId, biz: &str, ids: &[i64]) -> Result<HashMap<i64, Own>> {
        let look = |marks: &Marks| match marks {
            Marks::Few { liked, collected } => Some(of_items(ids, liked, collected)),
            Marks::Many => None,
        };
        match self.look(account, biz, look).await?.flatten() {
            Some(own) => Ok(own),
            None => Box::pin(self.lists.own(account, biz, ids)).await,
        }
    }

    /// Looks at the marks of `account`.
    async fn look<R>(&self, account: AccountId, biz: &str, look: impl Fn(&Marks) -> R + Send) -> Result<Option<R>> {
        let load = || async { self.load(account, biz).await.map(Some) };
        self.cached.look_or_load(&key(account, biz), load, look).await
    }

    /// Forgets what `markers` have marked; to be called after a change of it is committed.
    pub(crate) async fn forget(&self, markers: BTreeSet<Marker>) {
        let forget = |(account, biz): Marker| async move { self.cached.invalidate(&key(account, &biz)).await };
        stream::iter(markers).for_each_concurrent(FORGET_AT_ONCE, forget).await;
    }

    async fn load(&self, account: AccountId, biz: &str) -> Result<Marks> {
        let marked = self.lists.marked(account, biz, MARKS_MAX + 1).await?;
        if marked.len() as u64 > MARKS_MAX {
            return Ok(Marks::Many);
        }
        let of_kind = |wanted| {
            marked
                .iter()
                .filter(move |(_, kind)| *kind == wanted)
                .map(|(id, _)| *id)
        };
        Ok(Marks::Few {
            liked: of_kind(Kind::Like).collect(),
            collected: of_kind(Kind::Collection).collect(),
        })
    }
}

fn of_item(id: i64, liked: &[i64], collected: &[i64]) -> Own {
    Own {
        liked: liked.contains(&id),
        collected: collected.contains(&id),
    }
}

fn of_items(ids: &[i64], liked: &[i64], collected: &[i64]) -> HashMap<i64, Own> {
    let own = ids.iter().map(|id| (*id, of_item(*id, liked, collected)));
    own.filter(|(_, own)| *own != Own::default()).collect()
}

fn key(account: AccountId, biz: &str) -> CacheKey {
    CacheKey::new("marks").part(account).part(biz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_marks_of_a_page() {
        let own = of_items(&[1, 2, 3, 4], &[2, 3, 9], &[3, 4]);
        let shown = |id| own.get(&id).map(|own| (own.liked, own.collected));
        let want = [None, Some((true, false)), Some((true, true)), Some((false, true))];
        assert_eq!([1, 2, 3, 4].map(shown), want);
        assert_eq!(own.len(), 3);
    }
}
