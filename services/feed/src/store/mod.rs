//! The tables: items as their authors published them, inboxes, and the authors who are pulled.
//!
//! An item's row is the author's outbox and the only place that says whether it is to be seen. An inbox row is a reference to it,
//! unique by (account, item), with the time beside it so that a page is a range of one index.

mod inbox;
mod outbox;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, ExprTrait as _, Index, IntoColumnRef, Table};
use mosaic::sql::sea_orm::{Condition, QueryResult};
use mosaic::sql::{Database, Migration, Schema};

use crate::model::{Entry, Position};

pub(crate) use outbox::Publication;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_item_inbox_and_pull_author",
    up: create_item_inbox_and_pull_author,
}];

fn create_item_inbox_and_pull_author(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("item")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("biz").string_len(32).not_null())
            .col(ColumnDef::new("biz_id").big_integer().not_null())
            .col(ColumnDef::new("author_id").big_integer().not_null())
            .col(ColumnDef::new("published_at").big_integer().not_null())
            .col(ColumnDef::new("is_published").boolean().not_null())
            .col(ColumnDef::new("publication").big_integer().not_null())
            .col(ColumnDef::new("delivery").big_integer().not_null()),
    );
    schema.run(
        Index::create()
            .unique()
            .name("uq_item_biz_biz_id")
            .table("item")
            .col("biz")
            .col("biz_id"),
    );
    schema.run(
        Index::create()
            .name("ix_item_author_published")
            .table("item")
            .col("author_id")
            .col("published_at")
            .col("id"),
    );
    schema.run(
        Table::create()
            .table("inbox")
            .col(ColumnDef::new("account_id").big_integer().not_null())
            .col(ColumnDef::new("item_id").big_integer().not_null())
            .col(ColumnDef::new("author_id").big_integer().not_null())
            .col(ColumnDef::new("published_at").big_integer().not_null())
            .primary_key(Index::create().col("account_id").col("item_id")),
    );
    schema.run(
        Index::create()
            .name("ix_inbox_account_published")
            .table("inbox")
            .col("account_id")
            .col("published_at")
            .col("item_id"),
    );
    schema.run(
        Table::create()
            .table("pull_author")
            .col(ColumnDef::new("author_id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("latest_at").big_integer().not_null()),
    );
}

/// Reads and writes the tables. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
    inbox_max: u32,
}

impl Store {
    pub(crate) const fn new(database: Database, inbox_max: u32) -> Self {
        Self { database, inbox_max }
    }
}

/// Holds for rows that stand before `position`.
fn older(published_at: impl IntoColumnRef, item_id: impl IntoColumnRef, position: Position) -> Condition {
    let published_at = Expr::col(published_at);
    Condition::any()
        .add(published_at.clone().lt(position.published_at))
        .add(
            published_at
                .eq(position.published_at)
                .and(Expr::col(item_id).lt(position.item_id)),
        )
}

fn entry(row: &QueryResult) -> Result<Entry, DbErr> {
    Ok(Entry {
        position: Position {
            published_at: row.try_get("", "published_at")?,
            item_id: row.try_get("", "id")?,
        },
        biz: row.try_get("", "biz")?,
        biz_id: row.try_get("", "biz_id")?,
        author_id: row.try_get("", "author_id")?,
    })
}
