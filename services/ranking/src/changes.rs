//! What events change, a transaction a batch.
//!
//! Rows are read under lock, changed by the rules and written back, of each topic its own columns: an item that is published and liked
//! for the first time at once is inserted by one of two transactions and completed by the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use mosaic::events::{Arrived, EventId, HandleBatchIn};
use mosaic::sql::sea_orm::sea_query::{Expr, ExprTrait as _, LockType, OnConflict, Order, Query};
use mosaic::sql::sea_orm::{ConnectionTrait as _, DbErr, QueryResult};
use mosaic::sql::{Transaction, into_error};
use mosaic::{Error, Result};
use mosaic_api::events::{self, ItemPublished, ItemWithdrawn, LikesChanged};
use tokio::sync::Notify;

use crate::model::{BIZ_MAX, Change, Item, State};
use crate::store::{ITEMS, raise_version};

/// Rows in one statement.
const ROWS_MAX: usize = 500;

/// Handles events; tells `changed` of commits.
pub(crate) struct Changes {
    pub(crate) changed: Arc<Notify>,
}

/// What happened to items of one kind: by item, in order, each with its event's number.
type OfKind = BTreeMap<i64, Vec<(Change, i64)>>;

/// Which events the columns belong to.
#[derive(Debug, Clone, Copy)]
enum Aspect {
    Item,
    Likes,
}

impl Aspect {
    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Item => &["author_id", "published_at", "state", "item_seen"],
            Self::Likes => &["likes", "likes_seen"],
        }
    }
}

impl HandleBatchIn<ItemPublished> for Changes {
    async fn handle(&self, events: Vec<Arrived<ItemPublished>>, tx: &Transaction) -> Result<()> {
        let changes = events.into_iter().map(|arrived| {
            let (id, event) = (arrived.id(), arrived.event);
            let change = Change::Published {
                author: event.author.get(),
                published_at: event.published_at_us,
            };
            (id, event.item, change)
        });
        self.apply(tx, Aspect::Item, changes).await
    }
}

impl HandleBatchIn<ItemWithdrawn> for Changes {
    async fn handle(&self, events: Vec<Arrived<ItemWithdrawn>>, tx: &Transaction) -> Result<()> {
        let changes = events.into_iter().map(|arrived| {
            let (id, event) = (arrived.id(), arrived.event);
            let author = event.author.get();
            (id, event.item, Change::Withdrawn { author })
        });
        self.apply(tx, Aspect::Item, changes).await
    }
}

impl HandleBatchIn<LikesChanged> for Changes {
    async fn handle(&self, events: Vec<Arrived<LikesChanged>>, tx: &Transaction) -> Result<()> {
        let changes = events
            .into_iter()
            .map(|arrived| (arrived.id(), arrived.event.item, Change::Likes(arrived.event.likes)));
        self.apply(tx, Aspect::Likes, changes).await
    }
}

impl Changes {
    async fn apply(
        &self,
        tx: &Transaction,
        aspect: Aspect,
        changes: impl Iterator<Item = (EventId, events::Item, Change)>,
    ) -> Result<()> {
        let mut kinds: BTreeMap<String, OfKind> = BTreeMap::new();
        for (id, item, change) in changes {
            if item.biz.is_empty() || item.biz.chars().count() > BIZ_MAX {
                return Err(Error::invalid_argument(
                    "BIZ_INVALID",
                    "the name of a kind has 1 to 32 characters",
                ));
            }
            let of_item = kinds.entry(item.biz).or_default().entry(item.biz_id).or_default();
            of_item.push((change, number_of(id)));
        }
        let mut changed = Vec::new();
        for (biz, items) in &kinds {
            let items: Vec<_> = items.iter().collect();
            let mut is_changed = false;
            for items in items.chunks(ROWS_MAX) {
                is_changed |= apply_to_rows(tx, aspect, biz, items).await?;
            }
            changed.extend(is_changed.then_some(biz));
        }
        // Last, for it makes the transactions of a kind wait for each other.
        for biz in &changed {
            raise_version(tx, biz).await?;
        }
        if !changed.is_empty() {
            let changed = self.changed.clone();
            tx.on_commit(move || changed.notify_one());
        }
        Ok(())
    }
}

/// Returns the event's number: such numbers rise in a process, and with the clock across processes.
fn number_of(id: EventId) -> i64 {
    i64::try_from(id.bits() >> 64).unwrap_or(i64::MAX)
}

/// Changes some rows; says whether the ranking changes.
async fn apply_to_rows(
    tx: &Transaction,
    aspect: Aspect,
    biz: &str,
    changes: &[(&i64, &Vec<(Change, i64)>)],
) -> Result<bool> {
    let mut rows = locked(tx, biz, changes.iter().map(|(biz_id, _)| **biz_id)).await?;
    let mut upsert = Query::insert();
    upsert.into_table(ITEMS).columns([
        "biz",
        "biz_id",
        "author_id",
        "published_at",
        "likes",
        "state",
        "item_seen",
        "likes_seen",
    ]);
    let (mut n_rows, mut is_changed) = (0, false);
    for (biz_id, events) in changes {
        let mut item = rows.remove(*biz_id).unwrap_or_default();
        let before = (item.standing(), item.published_at);
        // Not `any`, which would stop at the first.
        let n_applied = events.iter().filter(|(change, at)| item.apply(*change, *at)).count();
        if n_applied == 0 {
            continue;
        }
        n_rows += 1;
        is_changed |= before != (item.standing(), item.published_at);
        upsert.values_panic([
            biz.into(),
            (**biz_id).into(),
            item.author.into(),
            item.published_at.into(),
            item.likes.into(),
            item.state.number().into(),
            item.item_seen.into(),
            item.likes_seen.into(),
        ]);
    }
    if n_rows > 0 {
        let replace = OnConflict::columns(["biz", "biz_id"])
            .update_columns(aspect.columns().iter().copied())
            .to_owned();
        tx.execute(upsert.on_conflict(replace)).await.map_err(into_error)?;
        metrics::counter!("ranking_rows_changed_total").increment(n_rows);
    }
    Ok(is_changed)
}

async fn locked(tx: &Transaction, biz: &str, ids: impl Iterator<Item = i64>) -> Result<BTreeMap<i64, Item>> {
    let mut find = Query::select();
    find.columns([
        "biz_id",
        "author_id",
        "published_at",
        "likes",
        "state",
        "item_seen",
        "likes_seen",
    ])
    .from(ITEMS);
    find.and_where(Expr::col("biz").eq(biz))
        .and_where(Expr::col("biz_id").is_in(ids));
    // All in the same order, so that two transactions do not wait for each other.
    find.order_by("biz_id", Order::Asc).lock(LockType::Update);
    let rows = tx.query_all(&find).await.map_err(into_error)?;
    let read = |row: &QueryResult| -> Result<(i64, Item), DbErr> {
        let item = Item {
            author: row.try_get_by_index(1)?,
            published_at: row.try_get_by_index(2)?,
            likes: row.try_get_by_index(3)?,
            state: State::of(row.try_get_by_index(4)?),
            item_seen: row.try_get_by_index(5)?,
            likes_seen: row.try_get_by_index(6)?,
        };
        Ok((row.try_get_by_index(0)?, item))
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(into_error)
}
