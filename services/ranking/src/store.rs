//! The tables: items by what ranks them, a version for each kind, and the last hot list of each kind.
//!
//! The version of a kind rises in every transaction that changes its ranking, so who has read version 7 and then the items has
//! all of 7, and needs no other look until it is 8.

use mosaic::lease::{Lease, SqlLeases};
use mosaic::sql::sea_orm::sea_query::{
    ColumnDef, Expr, ExprTrait as _, Index, LockType, OnConflict, Order, Query, SelectStatement, Table,
};
use mosaic::sql::sea_orm::{ConnectionTrait, QueryResult};
use mosaic::sql::{Database, Migration, Schema, into_error, unique_violation};
use mosaic::{Error, Result, Runtime};

use crate::hot_list::HotList;
use crate::model::State;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_ranked_item",
    up: create,
}];

pub(crate) const ITEMS: &str = "ranked_item";
pub(crate) const KINDS: &str = "ranked_kind";
const HOT_LISTS: &str = "hot_list";
/// More kinds than a platform has.
const KINDS_MAX: u64 = 1000;

fn create(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().take();
    let biz = || ColumnDef::new("biz").string_len(32).not_null().take();
    let mut items = Table::create();
    items.table(ITEMS).col(biz());
    for name in [
        "biz_id",
        "author_id",
        "published_at",
        "likes",
        "state",
        "item_seen",
        "likes_seen",
    ] {
        items.col(number(name));
    }
    schema.run(items.primary_key(Index::create().col("biz").col("biz_id")));
    // Both are read backwards, and have all that is read.
    let mut top = Index::create();
    top.name("ranked_item_top").table(ITEMS);
    schema.run(top.col("biz").col("state").col("likes").col("biz_id"));
    let mut hot = Index::create();
    hot.name("ranked_item_hot").table(ITEMS);
    schema.run(
        hot.col("biz")
            .col("state")
            .col("published_at")
            .col("biz_id")
            .col("likes"),
    );
    let mut kinds = Table::create();
    schema.run(kinds.table(KINDS).col(biz().primary_key()).col(number("version")));
    let mut lists = Table::create();
    lists
        .table(HOT_LISTS)
        .col(biz().primary_key())
        .col(number("computed_at"))
        .col(number("fence"));
    schema.run(lists.col(ColumnDef::new("items").text().not_null()));
}

/// Where a scan of items goes on: behind this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) published_at: i64,
    pub(crate) biz_id: i64,
}

/// An item as it is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) at: Cursor,
    pub(crate) likes: i64,
}

/// What became of a hot list that was to be stored.
#[derive(Debug, PartialEq)]
pub(crate) enum Saved {
    Stored(HotList),
    /// Somebody has stored a newer one since the computing began.
    Outrun,
}

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
    leases: SqlLeases,
}

impl Store {
    pub(crate) fn new(database: &Database, runtime: &Runtime) -> Self {
        Self {
            database: database.clone(),
            leases: SqlLeases::new(database, runtime),
        }
    }

    pub(crate) fn leases(&self) -> &SqlLeases {
        &self.leases
    }

    /// Returns the kinds that have items, with their versions.
    pub(crate) async fn versions(&self) -> Result<Vec<(String, i64)>> {
        let mut find = Query::select();
        find.columns(["biz", "version"]).from(KINDS).limit(KINDS_MAX);
        self.texts_and_numbers(&find).await
    }

    /// Returns the version of a kind; `None` if it never had an item.
    pub(crate) async fn version(&self, biz: &str) -> Result<Option<i64>> {
        let mut find = Query::select();
        find.columns(["biz", "version"])
            .from(KINDS)
            .and_where(Expr::col("biz").eq(biz));
        Ok(self.texts_and_numbers(&find).await?.pop().map(|(_, version)| version))
    }

    /// Returns the `n` published items of a kind with the most likes, with these: one range of an index.
    pub(crate) async fn top(&self, biz: &str, n: u64) -> Result<Vec<(i64, i64)>> {
        let mut find = published(biz);
        find.columns(["biz_id", "likes"]);
        find.order_by("likes", Order::Desc)
            .order_by("biz_id", Order::Desc)
            .limit(n);
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        rows.iter().map(|row| Ok((number(row, 0)?, number(row, 1)?))).collect()
    }

    /// Returns up to `limit` published items with `likes_min` likes, newest first, published since `since`, behind `after`.
    ///
    /// Equal times are read apart, for a condition on both columns is no range to some engines.
    pub(crate) async fn page(
        &self,
        biz: &str,
        since: i64,
        likes_min: i64,
        after: Option<Cursor>,
        limit: u64,
    ) -> Result<Vec<Scanned>> {
        let mut page = Vec::new();
        if let Some(Cursor { published_at, biz_id }) = after {
            let mut equals = scan(biz, likes_min);
            equals.and_where(Expr::col("published_at").eq(published_at));
            equals.and_where(Expr::col("biz_id").lt(biz_id));
            self.read_page(equals.limit(limit), &mut page).await?;
        }
        let n_left = limit.saturating_sub(page.len() as u64);
        if n_left > 0 {
            let mut older = scan(biz, likes_min);
            older.and_where(Expr::col("published_at").gte(since));
            if let Some(Cursor { published_at, .. }) = after {
                older.and_where(Expr::col("published_at").lt(published_at));
            }
            self.read_page(older.limit(n_left), &mut page).await?;
        }
        Ok(page)
    }

    async fn read_page(&self, find: &SelectStatement, page: &mut Vec<Scanned>) -> Result<()> {
        let rows = self.database.query_all(find).await.map_err(into_error)?;
        for row in &rows {
            let at = Cursor {
                published_at: number(row, 0)?,
                biz_id: number(row, 1)?,
            };
            page.push(Scanned {
                at,
                likes: number(row, 2)?,
            });
        }
        Ok(())
    }

    /// Returns when the last hot list of each kind was computed.
    pub(crate) async fn hot_times(&self) -> Result<Vec<(String, i64)>> {
        let mut find = Query::select();
        find.columns(["biz", "computed_at"]).from(HOT_LISTS).limit(KINDS_MAX);
        self.texts_and_numbers(&find).await
    }

    /// Returns the last hot list of a kind.
    pub(crate) async fn hot_list(&self, biz: &str) -> Result<Option<HotList>> {
        let mut find = Query::select();
        find.columns(["computed_at", "items"])
            .from(HOT_LISTS)
            .and_where(Expr::col("biz").eq(biz));
        let row = self.database.query_one(&find).await.map_err(into_error)?;
        let Some(row) = row else { return Ok(None) };
        let items: String = row.try_get("", "items").map_err(into_error)?;
        Ok(Some(HotList {
            computed_at: row.try_get("", "computed_at").map_err(into_error)?,
            items: serde_json::from_str(&items).map_err(Error::internal)?,
        }))
    }

    /// Stores a list, if the last one is that of `seen` and nobody has taken `lease` over. Times of lists rise.
    ///
    /// # Errors
    /// `LEASE_LOST`; failures of the database.
    pub(crate) async fn save_hot(&self, biz: &str, list: &HotList, seen: i64, lease: Option<&Lease>) -> Result<Saved> {
        let items = serde_json::to_string(&list.items).map_err(Error::internal)?;
        let computed_at = Ord::max(list.computed_at, seen.saturating_add(1));
        let fence = lease.map_or(0, |lease| lease.fence);
        let saved = self.database.transaction(async |tx| {
            if let Some(lease) = lease {
                self.leases.check_in(&tx, lease).await?;
            }
            let mut find = Query::select();
            find.column("computed_at")
                .from(HOT_LISTS)
                .and_where(Expr::col("biz").eq(biz));
            let row = tx.query_one(&*find.lock(LockType::Update)).await.map_err(into_error)?;
            let last = row.as_ref().map(|row| number(row, 0)).transpose()?;
            if last.unwrap_or(0) != seen {
                return Ok(Saved::Outrun);
            }
            if last.is_some() {
                let mut update = Query::update();
                update.table(HOT_LISTS).and_where(Expr::col("biz").eq(biz));
                update.values([
                    ("computed_at", computed_at.into()),
                    ("fence", fence.into()),
                    ("items", items.as_str().into()),
                ]);
                tx.execute(&update).await.map_err(into_error)?;
            } else {
                let mut insert = Query::insert();
                insert
                    .into_table(HOT_LISTS)
                    .columns(["biz", "computed_at", "fence", "items"]);
                insert.values_panic([biz.into(), computed_at.into(), fence.into(), items.as_str().into()]);
                // Who was first is seen by the next attempt.
                tx.execute(&insert)
                    .await
                    .map_err(|error| match unique_violation(&error) {
                        Some(_) => Error::aborted("SQL_CONFLICT", "another list came first").caused_by(error),
                        None => into_error(error),
                    })?;
            }
            let items = list.items.clone();
            Ok(Saved::Stored(HotList { computed_at, items }))
        });
        saved.await
    }

    async fn texts_and_numbers(&self, find: &SelectStatement) -> Result<Vec<(String, i64)>> {
        let rows = self.database.query_all(find).await.map_err(into_error)?;
        let read = |row: &QueryResult| Ok((row.try_get_by_index(0).map_err(into_error)?, number(row, 1)?));
        rows.iter().map(read).collect()
    }
}

/// Raises the version of a kind; before the transaction ends nobody else can.
pub(crate) async fn raise_version(tx: &impl ConnectionTrait, biz: &str) -> Result<()> {
    let mut insert = Query::insert();
    insert.into_table(KINDS).columns(["biz", "version"]);
    insert.values_panic([biz.into(), 1_i64.into()]);
    let next = Expr::col((KINDS, "version")).add(1);
    insert.on_conflict(OnConflict::column("biz").value("version", next).to_owned());
    tx.execute(&insert).await.map(drop).map_err(into_error)
}

fn published(biz: &str) -> SelectStatement {
    let mut find = Query::select();
    find.from(ITEMS).and_where(Expr::col("biz").eq(biz));
    find.and_where(Expr::col("state").eq(State::Published.number()));
    find
}

fn scan(biz: &str, likes_min: i64) -> SelectStatement {
    let mut find = published(biz);
    find.columns(["published_at", "biz_id", "likes"]);
    if likes_min > 0 {
        // As a sum, lest an engine takes the index of likes and sorts what it finds.
        find.and_where(Expr::col("likes").add(0).gte(likes_min));
    }
    find.order_by("published_at", Order::Desc)
        .order_by("biz_id", Order::Desc);
    find
}

fn number(row: &QueryResult, position: usize) -> Result<i64> {
    row.try_get_by_index(position).map_err(into_error)
}
