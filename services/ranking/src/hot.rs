//! Computes hot lists: newest items first, page by page, in the memory of a page and a heap.
//!
//! Newest first, because the age of a page then says how many likes anything behind it needs to be hot enough, and the
//! database leaves out what has fewer.

use std::sync::Arc;
use std::time::Duration;

use mosaic::lease::{Leadership, Lease};
use mosaic::{Error, Result, Runtime, Timestamp};

use crate::RankingConfig;
use crate::hot_list::{HotList, HotLists};
use crate::model::{Hot, Hottest, likes_min, score};
use crate::store::{Saved, Store};

/// Times that a list is computed anew because another one came first.
const ATTEMPTS: usize = 3;

/// See the module documentation.
pub(crate) struct Computer {
    store: Store,
    lists: Arc<HotLists>,
    runtime: Runtime,
    config: RankingConfig,
}

impl Computer {
    pub(crate) fn new(store: &Store, lists: Arc<HotLists>, runtime: &Runtime, config: &RankingConfig) -> Self {
        Self {
            store: store.clone(),
            lists,
            runtime: runtime.clone(),
            config: config.clone(),
        }
    }

    /// Computes all lists every few minutes, as long as this node leads.
    pub(crate) async fn lead(self: Arc<Self>, leadership: Leadership) {
        let mut ending = leadership.clone();
        tokio::select! {
            () = ending.ending() => {}
            () = self.compute_until_lost(leadership.lease()) => {}
        }
    }

    async fn compute_until_lost(&self, lease: &Lease) {
        loop {
            if let Err(error) = self.compute_all(lease).await {
                if error.reason() == "LEASE_LOST" {
                    return;
                }
                tracing::warn!(cause = error.cause_chain(), "hot lists stay as they are: {error}");
            }
            tokio::time::sleep(self.config.hot_every).await;
        }
    }

    async fn compute_all(&self, lease: &Lease) -> Result<()> {
        for (biz, _) in self.store.versions().await? {
            self.compute(&biz, Some(lease)).await?;
        }
        Ok(())
    }

    /// Computes a list and stores it: as the one that leads, or without a lease because somebody wants it now.
    ///
    /// # Errors
    /// `LEASE_LOST`; `HOT_LIST_BUSY` if others store lists all the time; failures of the database.
    pub(crate) async fn compute(&self, biz: &str, lease: Option<&Lease>) -> Result<HotList> {
        for _ in 0..ATTEMPTS {
            let last = self.store.hot_list(biz).await?;
            let seen = last.map_or(0, |list| list.computed_at);
            let started = self.runtime.instant();
            let list = self.hottest(biz).await?;
            let elapsed = self.runtime.instant().saturating_duration_since(started);
            metrics::histogram!("ranking_hot_seconds", "biz" => biz.to_owned()).record(elapsed.as_secs_f64());
            if let Saved::Stored(list) = self.store.save_hot(biz, &list, seen, lease).await? {
                self.lists.publish(biz, list.clone()).await;
                return Ok(list);
            }
        }
        Err(Error::aborted("HOT_LIST_BUSY", "others compute the list, too"))
    }

    async fn hottest(&self, biz: &str) -> Result<HotList> {
        let now = self.runtime.now();
        let since = now.minus(self.config.hot_window).as_micros();
        let mut hottest = Hottest::new(self.config.hot_size);
        let (mut after, mut needed) = (None, 0);
        loop {
            let page = self.store.page(biz, since, needed, after, self.config.page).await?;
            for item in &page {
                let age = age(now, item.at.published_at);
                hottest.show(Hot {
                    score: score(item.likes, age, self.config.gravity),
                    biz_id: item.at.biz_id,
                });
            }
            let Some(last) = page.last().filter(|_| page.len() as u64 >= self.config.page) else {
                break;
            };
            after = Some(last.at);
            let worst = hottest.worst();
            needed = worst.map_or(0, |worst| {
                likes_min(worst, age(now, last.at.published_at), self.config.gravity)
            });
        }
        let items = hottest.into_list().into_iter().map(|hot| (hot.biz_id, hot.score));
        Ok(HotList {
            computed_at: now.as_micros(),
            items: items.collect(),
        })
    }
}

/// What is dated in the future is new.
fn age(now: Timestamp, published_at: i64) -> Duration {
    now.since(Timestamp::from_micros(published_at))
}
