//! Keeps what is searched for fresh: every article that is published is found, every one that is withdrawn is not.
//!
//! The search service knows nothing of articles, so this product hears its own events and brings it the texts. The event says
//! only which article; a task sends what readers see *now*, with the time of its last change as version, so that events that
//! come late, twice or in another order end in the same index. A search service that is down delays the task and no event.

use std::sync::Arc;

use mosaic::events::HandleIn;
use mosaic::sql::Transaction;
use mosaic::tasks::{Task, TaskContext};
use mosaic::{Context, Module, Result, Transactions};
use mosaic_api::events::{Item, ItemPublished, ItemWithdrawn};
use mosaic_api::search::v1::{IndexItemRequest, RemoveItemRequest, SearchClient};
use serde::{Deserialize, Serialize};

use super::BIZ;
use super::model::ArticleId;
use super::store::{Store, Visible};

/// Wires the consumer and its task up.
pub(crate) fn install(m: &mut Module, store: &Store) -> Result<()> {
    let needs = Needs {
        store: store.clone(),
        search: m.client(),
    };
    m.on_task::<IndexArticle>(Arc::new(needs))?;
    let index = Arc::new(Index {
        transactions: m.transactions()?,
    });
    let group = m.group("content.index")?;
    m.consume(
        group
            .on_in_transaction::<ItemPublished>(index.clone())
            .on_in_transaction::<ItemWithdrawn>(index),
    );
    Ok(())
}

/// Handles what changes for readers.
struct Index {
    transactions: Transactions,
}

impl Index {
    async fn enqueue(&self, cx: &Context, item: &Item, tx: &Transaction) -> Result<()> {
        if item.biz != BIZ {
            return Ok(());
        }
        let article = ArticleId::try_from(item.biz_id)?;
        let queue = self.transactions.within(tx);
        queue.enqueue(cx, &IndexArticle { article }).await.map(drop)
    }
}

impl HandleIn<ItemPublished> for Index {
    async fn handle(&self, cx: &Context, event: ItemPublished, tx: &Transaction) -> Result<()> {
        self.enqueue(cx, &event.item, tx).await
    }
}

impl HandleIn<ItemWithdrawn> for Index {
    async fn handle(&self, cx: &Context, event: ItemWithdrawn, tx: &Transaction) -> Result<()> {
        self.enqueue(cx, &event.item, tx).await
    }
}

struct Needs {
    store: Store,
    search: SearchClient,
}

/// Makes the index say what readers see of one article.
#[derive(Serialize, Deserialize)]
struct IndexArticle {
    article: ArticleId,
}

impl Task for IndexArticle {
    const NAME: &'static str = "content.index_article";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let biz_id = self.article.get();
        let biz = BIZ.to_owned();
        // From the table: the cache may still have what was there before the event.
        match needs.store.visible(self.article).await? {
            Some(Visible::Yes(article)) => {
                let request = IndexItemRequest {
                    biz,
                    biz_id,
                    title: article.title,
                    content: article.content,
                    tags: article.tags,
                    author_id: article.author.get(),
                    version: article.updated_us,
                };
                needs.search.index_item(cx, request).await
            }
            Some(Visible::No { since_us }) => {
                let request = RemoveItemRequest {
                    biz,
                    biz_id,
                    version: since_us,
                };
                needs.search.remove_item(cx, request).await
            }
            None => Ok(()),
        }
    }
}
