//! The tables, and where the engines' dialects differ.
//!
//! `item` has the counters, `mark` a row for each account that likes or has collected an item, `history` when an account last read
//! it, `folder` places for what is collected. `folder_owner` counts folders, so that a limit is kept without looking first.

mod folders;
mod history;
mod lists;

use mosaic::Result;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, Table};
use mosaic::sql::sea_orm::{ConnectionTrait as _, DbBackend, QueryResult};
use mosaic::sql::{Migration, Schema, Transaction, into_error};

pub(crate) use folders::{Folders, lock as lock_folders};
pub(crate) use history::{Visit, keep as keep_history};
pub(crate) use lists::{Entry, Lists, Page, counts_of};

use crate::model::{Counts, Item};
use mosaic::sql::rows::{self, Column};

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_create_item_and_mark",
        up: create_item_and_mark,
    },
    Migration {
        name: "0002_create_history",
        up: create_history,
    },
    Migration {
        name: "0003_create_folder",
        up: create_folder,
    },
    Migration {
        name: "0004_drop_history_index",
        up: drop_history_index,
    },
];

const HISTORY_INDEX: &str = "ix_history_read_at";

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn biz() -> ColumnDef {
    ColumnDef::new("biz").string_len(32).not_null().take()
}

fn create_item_and_mark(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("item")
            .col(biz())
            .col(number("biz_id"))
            .col(number("n_reads"))
            .col(number("n_likes"))
            .col(number("n_collects"))
            .primary_key(Index::create().col("biz").col("biz_id")),
    );
    schema.run(
        Table::create()
            .table("mark")
            .col(biz())
            .col(number("biz_id"))
            .col(number("account_id"))
            .col(number("kind"))
            .col(number("folder_id"))
            .col(number("marked_at"))
            .primary_key(Index::create().col("biz").col("biz_id").col("account_id").col("kind")),
    );
    schema.run(
        Index::create()
            .name("ix_mark_account")
            .table("mark")
            .col("account_id")
            .col("kind")
            .col("biz")
            .col("folder_id")
            .col("marked_at")
            .col("biz_id"),
    );
}

fn create_history(schema: &mut Schema) {
    schema.run_clustered(
        Table::create()
            .table("history")
            .col(number("account_id"))
            .col(biz())
            .col(number("biz_id"))
            .col(number("read_at"))
            .primary_key(Index::create().col("account_id").col("biz").col("biz_id")),
    );
    schema.run(
        Index::create()
            .name(HISTORY_INDEX)
            .table("history")
            .col("account_id")
            .col("biz")
            .col("read_at")
            .col("biz_id"),
    );
}

/// Every reading is written, and into one tree at a place of its own; the few who look at their history have it sorted then.
fn drop_history_index(schema: &mut Schema) {
    schema.run(Index::drop().name(HISTORY_INDEX).table("history"));
}

fn create_folder(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("folder")
            .col(number("id").primary_key())
            .col(number("account_id"))
            .col(biz())
            .col(ColumnDef::new("name").string_len(64).not_null()),
    );
    schema.run(
        Index::create()
            .name("uq_folder_account_id_biz_name")
            .table("folder")
            .col("account_id")
            .col("biz")
            .col("name")
            .unique(),
    );
    schema.run(
        Table::create()
            .table("folder_owner")
            .col(number("account_id"))
            .col(biz())
            .col(number("n_folders"))
            .primary_key(Index::create().col("account_id").col("biz")),
    );
}

/// Columns of what is added to counters.
const ADDED: [Column; 5] = [
    Column::Text("biz"),
    Column::Number("biz_id"),
    Column::Number("n_reads"),
    Column::Number("n_likes"),
    Column::Number("n_collects"),
];

/// Adds to reads, likes and collects of items, each item once and in the order of items.
pub(crate) async fn add_counts(tx: &Transaction, rows: &[(&str, i64, i64, i64, i64)]) -> Result<()> {
    let backend = tx.get_database_backend();
    let from = rows::table(backend, &ADDED);
    let columns = "biz, biz_id, n_reads, n_likes, n_collects";
    let add = |counter: &str| match backend {
        DbBackend::MySql => format!("{counter} = item.{counter} + VALUES({counter})"),
        _ => format!("{counter} = item.{counter} + excluded.{counter}"),
    };
    let sums = ["n_reads", "n_likes", "n_collects"].map(add).join(", ");
    let sql = upsert(backend, "item", columns, &from, "biz, biz_id", &sums);
    let statement = rows::statement(backend, sql, rows, [])?;
    tx.execute_raw(statement).await.map(drop).map_err(into_error)
}

/// Returns an insert of the rows of `from` that changes those that are there already.
fn upsert(backend: DbBackend, table: &str, columns: &str, from: &str, key: &str, change: &str) -> String {
    let named: Vec<_> = columns.split(", ").map(|column| format!("k.{column}")).collect();
    let select = format!(
        "INSERT INTO {table} ({columns}) SELECT {} FROM {from} k",
        named.join(", ")
    );
    match backend {
        DbBackend::MySql => format!("{select} ON DUPLICATE KEY UPDATE {change}"),
        // SQLite takes `ON` for a join's without a condition.
        _ => format!("{select} WHERE true ON CONFLICT ({key}) DO UPDATE SET {change}"),
    }
}

/// Returns an insert that leaves alone what is there already.
pub(crate) fn insert_or_ignore(backend: DbBackend, into: &str, select: &str) -> String {
    match backend {
        DbBackend::MySql => format!("INSERT IGNORE INTO {into} {select}"),
        _ => format!("INSERT INTO {into} {select} WHERE true ON CONFLICT DO NOTHING"),
    }
}

/// Returns a delete of the rows of `table` that have the keys of `from`.
pub(crate) fn delete_matching(backend: DbBackend, table: &str, key: &[&str], from: &str) -> String {
    match backend {
        // It would read the whole table for an `IN`.
        DbBackend::MySql => {
            let same: Vec<_> = key.iter().map(|column| format!("t.{column} = k.{column}")).collect();
            format!("DELETE t FROM {from} k JOIN {table} t ON {}", same.join(" AND "))
        }
        _ => {
            let key = key.join(", ");
            format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {from} k)")
        }
    }
}

/// Returns what locks the rows of `alias` that a query finds; SQLite has one writer anyway.
pub(crate) fn for_update(backend: DbBackend, alias: &str) -> String {
    match backend {
        DbBackend::Postgres => format!(" FOR UPDATE OF {alias}"),
        DbBackend::MySql => " FOR UPDATE".to_owned(),
        _ => String::new(),
    }
}

/// Reads the counters of an item.
pub(crate) fn counts(row: &QueryResult) -> Result<Counts> {
    let get = |column| row.try_get("", column).map_err(into_error);
    Ok(Counts {
        reads: get("n_reads")?,
        likes: get("n_likes")?,
        collects: get("n_collects")?,
    })
}

/// Reads which item a row is about.
fn biz_id(row: &QueryResult) -> Result<i64> {
    row.try_get("", "biz_id").map_err(into_error)
}

/// Adds reads to items, each item once and in the order of items.
pub(crate) async fn add_reads<'a>(tx: &Transaction, reads: impl Iterator<Item = (&'a Item, i64)>) -> Result<()> {
    let rows: Vec<_> = reads.map(|(item, n)| (&*item.biz, item.biz_id, n, 0, 0)).collect();
    add_counts(tx, &rows).await
}
