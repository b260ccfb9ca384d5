//! Reading: pages of roots with their newest replies, pages of replies, counts.

use std::collections::HashMap;

use mosaic::Result;
use mosaic::sql::into_error;
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ExprTrait as _, Order, Query, SelectStatement, UnionType};
use mosaic::sql::sea_orm::{FromQueryResult as _, QueryOrder as _, QuerySelect as _};

use super::{Store, comment, find_item, item, read};
use crate::model::{Comment, CommentId, Item, Thread};

/// Replies that a list of roots shows of each.
const NEWEST_REPLIES: u64 = 3;

const COLUMNS: [&str; 9] = [
    "id",
    "item_id",
    "account_id",
    "root_id",
    "parent_id",
    "n_replies",
    "content",
    "created_at",
    "key_hash",
];

impl Store {
    /// Returns roots of `item`, newest first, older than `before` if that is not 0.
    pub(crate) async fn roots(&self, item: &Item, before: i64, limit: u32) -> Result<Vec<Thread>> {
        let Some(item) = find_item(item).one(&self.database).await.map_err(into_error)? else {
            return Ok(Vec::new());
        };
        let mut query = comment::Entity::find()
            .filter(comment::Column::ItemId.eq(item.id))
            .filter(comment::Column::RootId.eq(0));
        if before > 0 {
            query = query.filter(comment::Column::Id.lt(before));
        }
        let query = query.order_by_desc(comment::Column::Id).limit(u64::from(limit));
        let roots = query.all(&self.database).await.map_err(into_error)?;
        let mut replies = self.newest_replies(&roots).await?;
        let thread = |row: comment::Model| {
            let newest_replies = replies.remove(&row.id).unwrap_or_default();
            Ok(Thread {
                root: read(row)?,
                newest_replies,
            })
        };
        roots.into_iter().map(thread).collect()
    }

    /// Returns replies of `root` beyond `after`, oldest first, and the item they belong to.
    pub(crate) async fn replies(
        &self,
        root: CommentId,
        after: i64,
        limit: u32,
    ) -> Result<Option<(Item, Vec<Comment>)>> {
        let query = comment::Entity::find()
            .filter(comment::Column::RootId.eq(root.get()))
            .filter(comment::Column::Id.gt(after))
            .order_by_asc(comment::Column::Id)
            .limit(u64::from(limit));
        let rows = query.all(&self.database).await.map_err(into_error)?;
        let Some(first) = rows.first() else { return Ok(None) };
        let item = item::Entity::find_by_id(first.item_id).one(&self.database).await;
        let Some(item) = item.map_err(into_error)? else {
            return Ok(None);
        };
        let item = Item {
            biz: item.biz,
            biz_id: item.biz_id,
        };
        let replies = rows.into_iter().map(read).collect::<Result<_>>()?;
        Ok(Some((item, replies)))
    }

    /// Returns how many comments items have; those without a row have none.
    pub(crate) async fn counts(&self, biz: &str, biz_ids: &[i64]) -> Result<HashMap<i64, i64>> {
        let found = item::Entity::find()
            .filter(item::Column::Biz.eq(biz))
            .filter(item::Column::BizId.is_in(biz_ids.iter().copied()))
            .all(&self.database)
            .await
            .map_err(into_error)?;
        Ok(found.into_iter().map(|item| (item.biz_id, item.n_comments)).collect())
    }

    /// Returns the newest replies of each of `roots`, newest first.
    ///
    /// One query with a branch a root, each of which reads three rows of an index. `ROW_NUMBER()` would read all replies of all
    /// roots to number them, and one of them may have a hundred thousand.
    async fn newest_replies(&self, roots: &[comment::Model]) -> Result<HashMap<i64, Vec<Comment>>> {
        let mut branches = roots
            .iter()
            .filter(|root| root.n_replies > 0)
            .map(|root| newest_of(root.id));
        let Some(mut query) = branches.next() else {
            return Ok(HashMap::new());
        };
        query.unions(branches.map(|branch| (UnionType::All, branch)));
        let rows = self.database.query_all(&query).await.map_err(into_error)?;
        let mut replies = HashMap::<i64, Vec<Comment>>::new();
        for row in rows {
            let row = comment::Model::from_query_result(&row, "").map_err(into_error)?;
            replies.entry(row.root_id).or_default().push(read(row)?);
        }
        for of_root in replies.values_mut() {
            of_root.sort_unstable_by_key(|reply| std::cmp::Reverse(reply.id.get()));
        }
        Ok(replies)
    }
}

/// Wrapped once more, for SQLite allows no `LIMIT` in a branch itself.
fn newest_of(root: i64) -> SelectStatement {
    let newest = Query::select()
        .columns(COLUMNS)
        .from("comment")
        .and_where(Expr::col("root_id").eq(root))
        .order_by("id", Order::Desc)
        .limit(NEWEST_REPLIES)
        .to_owned();
    Query::select()
        .columns(COLUMNS)
        .from_subquery(newest, "newest")
        .to_owned()
}
