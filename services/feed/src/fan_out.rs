//! Brings an item to the inboxes of its author's followers, a page of them a task.
//!
//! The first task asks how many there are and decides whether the item is pushed or pulled; each then brings it to one page and
//! enqueues the next in the same transaction. A repeated page changes nothing: an inbox holds an item once. Each publication has
//! a number, and pages of an older one end: else an item withdrawn and published again would be brought twice at once.

use std::time::Duration;

use mosaic::tasks::{Backoff, Options, Task, TaskContext, UniqueFor};
use mosaic::{Context, Error, Result, Transactions, Tx};
use mosaic_api::relations::v1::{GetStatsRequest, ListFollowerIdsRequest, RelationsClient};
use serde::{Deserialize, Serialize};

use crate::model::Delivery;
use crate::store::{Publication, Store};

/// Attempts after the first: relations that are down for a day delay items and lose none.
const RETRIES_MAX: u32 = 300;
/// Pauses between attempts.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(300),
};
/// For so long at most a page keeps another one like it away.
const UNIQUE_FOR: Duration = Duration::from_secs(2 * 24 * 3600);

pub(crate) struct Needs {
    pub(crate) transactions: Transactions,
    pub(crate) store: Store,
    pub(crate) relations: RelationsClient,
    pub(crate) push_max_followers: u32,
    pub(crate) page: u32,
}

/// Brings an item to the followers beyond the account `after`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FanOut {
    item_id: i64,
    publication: i64,
    after: i64,
}

impl FanOut {
    pub(crate) const fn first(published: Publication) -> Self {
        Self {
            item_id: published.item_id,
            publication: published.number,
            after: 0,
        }
    }

    pub(crate) async fn enqueue(&self, cx: &Context, tx: &Tx) -> Result<()> {
        let options = Options {
            retries_max: RETRIES_MAX,
            backoff: BACKOFF,
            unique: Some(UniqueFor {
                key: format!("{}:{}:{}", self.item_id, self.publication, self.after),
                hold: UNIQUE_FOR,
            }),
            ..Options::default()
        };
        tx.enqueue_with(cx, self, options).await.map(drop)
    }

    const fn publication(&self) -> Publication {
        Publication {
            item_id: self.item_id,
            number: self.publication,
        }
    }

    /// Brings the item to one page, and enqueues the next one if there may be one.
    async fn page(&self, author: i64, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let request = ListFollowerIdsRequest {
            account_id: author,
            after: self.after,
            limit: needs.page,
        };
        let followers = needs.relations.list_follower_ids(cx, request).await?.account_ids;
        let next = followers.last().filter(|_| followers.len() >= needs.page as usize);
        let next = next.map(|&after| Self { after, ..self.clone() });
        let followers = &followers;
        needs
            .transactions
            .run(|tx| {
                let next = next.clone();
                async move {
                    let is_current = needs.store.bring(&tx, self.publication(), followers).await?;
                    match next {
                        Some(next) if is_current => next.enqueue(cx, &tx).await,
                        Some(_) => Ok(()),
                        None => needs.store.decide(&tx, self.publication(), Delivery::Push).await,
                    }
                }
            })
            .await
    }
}

impl Task for FanOut {
    const NAME: &'static str = "feed.fan_out";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let Some(author) = needs.store.author(self.publication()).await? else {
            return Ok(());
        };
        if self.after == 0 {
            let request = GetStatsRequest {
                account_ids: vec![author],
                viewer_id: 0,
            };
            let found = needs.relations.get_stats(cx, request).await?;
            let stats = found.stats.first();
            let stats = stats.ok_or_else(|| Error::internal("relations say nothing of the author"))?;
            if Delivery::of(stats.followers, needs.push_max_followers) == Delivery::Pull {
                let publication = self.publication();
                let decide = |tx: Tx| async move { needs.store.decide(&tx, publication, Delivery::Pull).await };
                return needs.transactions.run(decide).await;
            }
        }
        self.page(author, needs, cx).await
    }
}
