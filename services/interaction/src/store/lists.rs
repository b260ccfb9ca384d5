//! What accounts see of items, and their lists, newest first.

use mosaic::sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query, SelectStatement};
use mosaic::sql::sea_orm::{ConnectionTrait as _, QueryResult};
use mosaic::sql::{Database, into_error};
use mosaic::{AccountId, Error, Result};
use std::collections::HashMap;

use super::{biz_id, counts};
use crate::model::{Counts, FolderId, Item, Kind, Own};

/// An entry of a list: an item and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) biz_id: i64,
    pub(crate) at_us: i64,
}

/// Part of a list: at most so many entries, all behind `before`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) before: Option<Entry>,
    pub(crate) limit: u32,
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lists {
    database: Database,
}

impl Lists {
    pub(crate) fn new(database: &Database) -> Self {
        Self {
            database: database.clone(),
        }
    }

    /// Returns the counters of those of `ids` that anybody had to do with.
    pub(crate) async fn counts(&self, biz: &str, ids: &[i64]) -> Result<HashMap<i64, Counts>> {
        let find = find_counts(biz, ids);
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        rows.iter().map(|row| Ok((biz_id(row)?, counts(row)?))).collect()
    }

    /// Returns what `account` has done to those of `ids` to which it has done anything.
    pub(crate) async fn own(&self, account: AccountId, biz: &str, ids: &[i64]) -> Result<HashMap<i64, Own>> {
        let mut find = Query::select();
        find.columns(["biz_id", "kind"]).from("mark");
        find.and_where(Expr::col("biz").eq(biz))
            .and_where(Expr::col("biz_id").is_in(ids.iter().copied()))
            .and_where(Expr::col("account_id").eq(account.get()));
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        let mut own: HashMap<i64, Own> = HashMap::new();
        for row in &rows {
            let own = own.entry(biz_id(row)?).or_default();
            match Kind::of(row.try_get("", "kind").map_err(into_error)?) {
                Some(Kind::Like) => own.liked = true,
                Some(Kind::Collection) => own.collected = true,
                None => {}
            }
        }
        Ok(own)
    }

    /// Returns what `account` has marked, at most `max` of it.
    pub(crate) async fn marked(&self, account: AccountId, biz: &str, max: u64) -> Result<Vec<(i64, Kind)>> {
        let kinds = [Kind::Like, Kind::Collection].map(Kind::number);
        let mut find = Query::select();
        find.columns(["biz_id", "kind"]).from("mark");
        find.and_where(Expr::col("account_id").eq(account.get()))
            .and_where(Expr::col("kind").is_in(kinds))
            .and_where(Expr::col("biz").eq(biz))
            .limit(max);
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        let mut marked = Vec::with_capacity(rows.len());
        for row in &rows {
            let kind = Kind::of(row.try_get("", "kind").map_err(into_error)?);
            marked.extend(kind.map(|kind| Ok::<_, Error>((biz_id(row)?, kind))).transpose()?);
        }
        Ok(marked)
    }

    /// Returns what `account` has read.
    pub(crate) async fn history(&self, account: AccountId, biz: &str, page: Page) -> Result<Vec<Entry>> {
        let mut find = Query::select();
        find.column("biz_id").column("read_at").from("history");
        find.and_where(Expr::col("account_id").eq(account.get()))
            .and_where(Expr::col("biz").eq(biz));
        self.page(find, "read_at", page).await
    }

    /// Returns what `account` has collected, in `folder` or in all.
    pub(crate) async fn collected(
        &self,
        account: AccountId,
        biz: &str,
        folder: Option<FolderId>,
        page: Page,
    ) -> Result<Vec<Entry>> {
        let mut find = marks(account, biz, Kind::Collection);
        if let Some(folder) = folder {
            find.and_where(Expr::col("folder_id").eq(folder));
        }
        self.page(find, "marked_at", page).await
    }

    /// Returns what `account` likes.
    pub(crate) async fn liked(&self, account: AccountId, biz: &str, page: Page) -> Result<Vec<Entry>> {
        self.page(marks(account, biz, Kind::Like), "marked_at", page).await
    }

    async fn page(&self, mut find: SelectStatement, at: &'static str, page: Page) -> Result<Vec<Entry>> {
        if let Some(Entry { biz_id, at_us }) = page.before {
            let earlier = Expr::col(at).lt(at_us);
            let same_time = Expr::col(at).eq(at_us).and(Expr::col("biz_id").lt(biz_id));
            find.and_where(earlier.or(same_time));
        }
        find.order_by(at, Order::Desc)
            .order_by("biz_id", Order::Desc)
            .limit(u64::from(page.limit));
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        let entry = |row: &QueryResult| {
            Ok(Entry {
                biz_id: biz_id(row)?,
                at_us: row.try_get("", at).map_err(into_error)?,
            })
        };
        rows.iter().map(entry).collect()
    }
}

/// Returns the counters of `item`, `None` if nobody had to do with it.
pub(crate) async fn counts_of(database: &Database, item: &Item) -> Result<Option<Counts>> {
    let find = find_counts(&item.biz, &[item.biz_id]);
    let row = database.query_one(&find).await.map_err(into_error)?;
    row.as_ref().map(counts).transpose()
}

fn find_counts(biz: &str, ids: &[i64]) -> SelectStatement {
    let mut find = Query::select();
    find.columns(["biz_id", "n_reads", "n_likes", "n_collects"])
        .from("item");
    find.and_where(Expr::col("biz").eq(biz))
        .and_where(Expr::col("biz_id").is_in(ids.iter().copied()));
    find
}

fn marks(account: AccountId, biz: &str, kind: Kind) -> SelectStatement {
    let mut find = Query::select();
    find.column("biz_id").column("marked_at").from("mark");
    find.and_where(Expr::col("account_id").eq(account.get()))
        .and_where(Expr::col("kind").eq(kind.number()))
        .and_where(Expr::col("biz").eq(biz));
    find
}
