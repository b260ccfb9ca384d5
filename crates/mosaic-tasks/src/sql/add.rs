//! Adding tasks: many rows in few statements, and who holds which unique key.
//!
//! The unique index is the referee: an insert leaves out what it refuses, and a look afterwards tells who holds the key.

use std::collections::HashMap;

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use mosaic_sql::{Transaction, into_error, micros};

use super::rows::{self, TABLE};
use crate::engine::Enqueued;
use crate::id::TaskId;
use crate::model::Record;
use crate::options::NewTask;

/// Rows in one insert: engines allow some 32,000 values in a statement.
const INSERT_ROWS: usize = 500;
/// Bytes of payload in one insert: MySQL takes 16 MiB in a packet.
const INSERT_BYTES: usize = 4 << 20;

/// Inserts `records`, which are what `tasks` became at `now`.
pub(super) async fn add(
    tx: &Transaction,
    tasks: &[NewTask],
    records: &[Record],
    now: Timestamp,
) -> Result<Vec<Enqueued>> {
    let keys: Vec<&str> = records
        .iter()
        .filter_map(|task| task.unique.as_ref().map(|unique| unique.key.as_str()))
        .collect();
    release_keys(tx, &keys, now).await?;
    let mut start = 0;
    while start < tasks.len() {
        let end = chunk_end(tasks, start);
        let mut insert = rows::insert();
        for (task, new) in records[start..end].iter().zip(&tasks[start..end]) {
            insert.values_panic(rows::values(task, new.payload()));
        }
        tx.execute(&insert).await.map_err(into_error)?;
        start = end;
    }
    let holders = holders(tx, &keys).await?;
    records.iter().map(|task| answer(task, &holders)).collect()
}

/// Returns where the insert that begins at `start` ends.
fn chunk_end(tasks: &[NewTask], start: usize) -> usize {
    let mut n_bytes = 0;
    let fits = |task: &&NewTask| {
        n_bytes += task.payload().len();
        n_bytes <= INSERT_BYTES
    };
    let n = tasks[start..].iter().take(INSERT_ROWS).take_while(fits).count();
    start + n.max(1)
}

/// Takes keys from tasks that have held them for their time.
async fn release_keys(tx: &Transaction, keys: &[&str], now: Timestamp) -> Result<()> {
    for keys in keys.chunks(INSERT_ROWS) {
        let mut release = Query::update();
        release
            .table(TABLE)
            .value("unique_key", None::<String>)
            .value("unique_until", None::<i64>)
            .and_where(Expr::col("unique_key").is_in(keys.iter().copied()))
            .and_where(Expr::col("unique_until").lte(micros(now)));
        tx.execute(&release).await.map_err(into_error)?;
    }
    Ok(())
}

/// Returns which task holds each key.
async fn holders(tx: &Transaction, keys: &[&str]) -> Result<HashMap<String, TaskId>> {
    let mut holders = HashMap::new();
    for keys in keys.chunks(INSERT_ROWS) {
        let mut find = Query::select();
        find.columns(["unique_key", "id"]).from(TABLE);
        find.and_where(Expr::col("unique_key").is_in(keys.iter().copied()));
        for row in tx.query_all(&find).await.map_err(into_error)? {
            let id: String = row.try_get("", "id").map_err(into_error)?;
            holders.insert(row.try_get("", "unique_key").map_err(into_error)?, id.parse()?);
        }
    }
    Ok(holders)
}

fn answer(task: &Record, holders: &HashMap<String, TaskId>) -> Result<Enqueued> {
    let Some(unique) = &task.unique else {
        return Ok(Enqueued::Added(task.id));
    };
    match holders.get(&unique.key) {
        Some(id) if *id == task.id => Ok(Enqueued::Added(task.id)),
        Some(id) => Ok(Enqueued::Duplicate { of: *id }),
        // It ended between our insert and our look: the whole transaction is run again.
        None => Err(Error::aborted("SQL_CONFLICT", "another change came first, try again")),
    }
}
