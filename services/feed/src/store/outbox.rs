//! What authors have published, and how it reaches readers.

use std::cmp::Reverse;
use std::collections::HashSet;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ExprTrait as _, OnConflict, Order, Query, SelectStatement, UnionType};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Transaction, into_error};
use mosaic::{Result, Runtime};
use mosaic_api::events::{Item, ItemPublished};

use super::{Store, entry, older};
use crate::model::{Delivery, Entry, Position};

/// Authors whose items one query fetches: SQLite joins 500 branches at most.
const AUTHORS_PER_QUERY: usize = 50;
/// Ids that one condition names.
const IDS_PER_QUERY: usize = 1000;

mod item {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: i64,
        pub(crate) biz: String,
        pub(crate) biz_id: i64,
        pub(crate) author_id: i64,
        pub(crate) published_at: i64,
        pub(crate) is_published: bool,
        /// How often it was published after it could not be seen.
        pub(crate) publication: i64,
        /// One of `UNDECIDED`, `PUSHED`, `PULLED`.
        pub(crate) delivery: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod pull_author {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "pull_author")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) author_id: i64,
        pub(crate) latest_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// The first task has not asked yet how many followers there are, or has not finished with them.
const UNDECIDED: i64 = 0;
const PUSHED: i64 = 1;
const PULLED: i64 = 2;

/// One time that an item was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) item_id: i64,
    pub(crate) number: i64,
}

impl Store {
    /// Lets an item be seen; `None` if it was already.
    pub(crate) async fn publish(
        &self,
        tx: &Transaction,
        runtime: &Runtime,
        event: &ItemPublished,
    ) -> Result<Option<Publication>> {
        let found = by_name(&event.item)
            .lock_exclusive()
            .one(tx)
            .await
            .map_err(into_error)?;
        let publication = match found {
            Some(found) if found.is_published => return Ok(None),
            Some(found) => {
                let again = item::ActiveModel {
                    id: Set(found.id),
                    is_published: Set(true),
                    publication: Set(found.publication + 1),
                    ..Default::default()
                };
                let again = item::Entity::update(again).exec(tx).await.map_err(into_error)?;
                Publication {
                    item_id: again.id,
                    number: again.publication,
                }
            }
            None => {
                let row = item::ActiveModel {
                    id: Set(runtime.next_id()),
                    biz: Set(event.item.biz.clone()),
                    biz_id: Set(event.item.biz_id),
                    author_id: Set(event.author.get()),
                    published_at: Set(event.published_at_us),
                    is_published: Set(true),
                    publication: Set(1),
                    delivery: Set(UNDECIDED),
                };
                let item_id = *row.id.as_ref();
                item::Entity::insert(row)
                    .exec_without_returning(tx)
                    .await
                    .map_err(into_error)?;
                Publication { item_id, number: 1 }
            }
        };
        Ok(Some(publication))
    }

    /// Takes an item out of every feed; one that is not known is in none.
    pub(crate) async fn withdraw(&self, tx: &Transaction, item: &Item) -> Result<()> {
        let hidden = item::Entity::update_many()
            .col_expr(item::Column::IsPublished, false.into())
            .filter(item::Column::Biz.eq(item.biz.as_str()))
            .filter(item::Column::BizId.eq(item.biz_id));
        hidden.exec(tx).await.map(drop).map_err(into_error)
    }

    /// Returns who published; `None` if that was undone or repeated since.
    pub(crate) async fn author(&self, publication: Publication) -> Result<Option<i64>> {
        let found = current(publication).one(&self.database).await.map_err(into_error)?;
        Ok(found.map(|item| item.author_id))
    }

    /// Is this still the way in which the item is seen?
    pub(super) async fn published(&self, tx: &Transaction, publication: Publication) -> Result<Option<item::Model>> {
        current(publication).one(tx).await.map_err(into_error)
    }

    /// Notes how a publication reaches readers: it has reached all inboxes, or nobody is to bring it there.
    pub(crate) async fn decide(&self, tx: &Transaction, publication: Publication, delivery: Delivery) -> Result<()> {
        let Some(item) = self.published(tx, publication).await? else {
            return Ok(());
        };
        let delivery = match delivery {
            Delivery::Push => PUSHED,
            Delivery::Pull => {
                pull(tx, &item).await?;
                PULLED
            }
        };
        item::Entity::update_many()
            .col_expr(item::Column::Delivery, delivery.into())
            .filter(item::Column::Id.eq(item.id))
            .exec(tx)
            .await
            .map(drop)
            .map_err(into_error)
    }

    /// Returns the newest items of `author` that are not pulled.
    pub(super) async fn newest_pushed(&self, tx: &Transaction, author: i64, limit: u32) -> Result<Vec<item::Model>> {
        item::Entity::find()
            .filter(item::Column::AuthorId.eq(author))
            .filter(item::Column::IsPublished.eq(true))
            .filter(item::Column::Delivery.ne(PULLED))
            .order_by_desc(item::Column::PublishedAt)
            .order_by_desc(item::Column::Id)
            .limit(u64::from(limit))
            .all(tx)
            .await
            .map_err(into_error)
    }

    /// Returns those of `authors` who have items to be pulled: the `max` who published last.
    pub(crate) async fn pulled_authors(&self, authors: &HashSet<i64>, max: u32) -> Result<Vec<i64>> {
        let authors: Vec<_> = authors.iter().copied().collect();
        let mut found = Vec::new();
        for chunk in authors.chunks(IDS_PER_QUERY) {
            let query = pull_author::Entity::find()
                .filter(pull_author::Column::AuthorId.is_in(chunk.iter().copied()))
                .order_by_desc(pull_author::Column::LatestAt)
                .limit(u64::from(max));
            found.extend(query.all(&self.database).await.map_err(into_error)?);
        }
        found.sort_unstable_by_key(|author| Reverse((author.latest_at, author.author_id)));
        found.truncate(max as usize);
        Ok(found.into_iter().map(|author| author.author_id).collect())
    }

    /// Returns items of `authors` that are pulled, from `before` on, newest first: the newest `limit` at least.
    ///
    /// A branch an author reads so many of his rows: what is read does not grow with what he ever published.
    pub(crate) async fn pulled(&self, authors: &[i64], before: Position, limit: usize) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for chunk in authors.chunks(AUTHORS_PER_QUERY) {
            let mut branches = chunk.iter().map(|&author| of_author(author, before, limit));
            let Some(mut all) = branches.next() else { continue };
            all.unions(branches.map(|branch| (UnionType::All, branch)));
            let query = Query::select()
                .columns(COLUMNS)
                .from_subquery(all, "pulled")
                .order_by("published_at", Order::Desc)
                .order_by("id", Order::Desc)
                .limit(limit as u64)
                .to_owned();
            let rows = self.database.query_all(&query).await.map_err(into_error)?;
            for row in &rows {
                found.push(entry(row).map_err(into_error)?);
            }
        }
        Ok(found)
    }
}

const COLUMNS: [&str; 5] = ["id", "biz", "biz_id", "author_id", "published_at"];

/// Wrapped once more, for SQLite allows no `LIMIT` in a branch itself.
fn of_author(author: i64, before: Position, limit: usize) -> SelectStatement {
    let newest = Query::select()
        .columns(COLUMNS)
        .from("item")
        .and_where(Expr::col("author_id").eq(author))
        .and_where(Expr::col("delivery").eq(PULLED))
        .and_where(Expr::col("is_published").eq(true))
        .cond_where(older("published_at", "id", before))
        .order_by("published_at", Order::Desc)
        .order_by("id", Order::Desc)
        .limit(limit as u64)
        .to_owned();
    Query::select()
        .columns(COLUMNS)
        .from_subquery(newest, "newest")
        .to_owned()
}

fn by_name(item: &Item) -> Select<item::Entity> {
    item::Entity::find()
        .filter(item::Column::Biz.eq(item.biz.as_str()))
        .filter(item::Column::BizId.eq(item.biz_id))
}

fn current(publication: Publication) -> Select<item::Entity> {
    item::Entity::find_by_id(publication.item_id)
        .filter(item::Column::Publication.eq(publication.number))
        .filter(item::Column::IsPublished.eq(true))
}

/// Notes that the author of `item` has one to be pulled.
async fn pull(tx: &Transaction, item: &item::Model) -> Result<()> {
    let row = pull_author::ActiveModel {
        author_id: Set(item.author_id),
        latest_at: Set(item.published_at),
    };
    let unless_there = OnConflict::column(pull_author::Column::AuthorId)
        .do_nothing_on([pull_author::Column::AuthorId])
        .to_owned();
    pull_author::Entity::insert(row)
        .on_conflict(unless_there)
        .exec_without_returning(tx)
        .await
        .map_err(into_error)?;
    pull_author::Entity::update_many()
        .col_expr(pull_author::Column::LatestAt, item.published_at.into())
        .filter(pull_author::Column::AuthorId.eq(item.author_id))
        .filter(pull_author::Column::LatestAt.lt(item.published_at))
        .exec(tx)
        .await
        .map(drop)
        .map_err(into_error)
}
