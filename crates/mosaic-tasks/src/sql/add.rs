//! Adding tasks: many rows in few statements, and who holds which unique key.
//!
//! The unique index is the referee: an insert leaves out what it refuses, and a look afterwards tells who holds the key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, LockType, Order, Query};
use mosaic_sql::{Transaction, into_error, micros};

use super::schema::TABLE;
use super::{ROWS_MAX, conflict, edges, find, groups, ids, rows};
use crate::engine::Enqueued;
use crate::id::TaskId;
use crate::model::{self, Record};
use crate::new_task::NewTask;

/// Rows in one insert: engines allow some 32,000 values in a statement.
const INSERT_ROWS: usize = 500;
/// Bytes of payload in one insert: MySQL takes 16 MiB in a packet.
const INSERT_BYTES: usize = 4 << 20;

/// Enqueues `tasks` at `now`.
pub(super) async fn add(tx: &Transaction, tasks: &[NewTask], now: Timestamp) -> Result<Vec<Enqueued>> {
    let keys: Vec<&str> = tasks
        .iter()
        .filter_map(|task| task.options().unique.as_ref().map(|unique| unique.key.as_str()))
        .collect();
    let named: BTreeSet<TaskId> = tasks.iter().flat_map(NewTask::predecessors).copied().collect();
    let mut known = known(tx, named).await?;
    // Asked before anything is stored: the transaction is the caller's, who may go on with it.
    let all: Vec<Enqueued> = tasks.iter().map(|task| Enqueued::Added(task.id())).collect();
    model::edges(tasks, &all, &known)?;
    release_keys(tx, &keys, now).await?;
    let mut start = 0;
    while start < tasks.len() {
        let end = chunk_end(tasks, start);
        let mut insert = rows::insert();
        for new in &tasks[start..end] {
            let n_awaited = u32::try_from(new.predecessors().len()).unwrap_or(u32::MAX);
            insert.values_panic(rows::values(&model::enqueued(new, n_awaited, now), new.payload()));
        }
        tx.execute(&insert).await.map_err(into_error)?;
        start = end;
    }
    let holders = holders(tx, &keys).await?;
    let answers: Vec<Enqueued> = tasks.iter().map(|task| answer(task, &holders)).collect::<Result<_>>()?;
    groups::gather(tx, tasks, now).await?;
    if tasks.iter().any(|task| !task.predecessors().is_empty()) {
        let in_place = answers.iter().filter_map(|answer| match answer {
            Enqueued::Added(_) => None,
            Enqueued::Duplicate { of } => Some(*of),
        });
        known.extend(self::known(tx, in_place.collect()).await?);
        edges::add(tx, tasks, model::edges(tasks, &answers, &known)?, now).await?;
    }
    Ok(answers)
}

/// Reads and locks tasks that others are to come after, with their results.
async fn known(tx: &Transaction, wanted: BTreeSet<TaskId>) -> Result<BTreeMap<TaskId, (Record, Vec<u8>)>> {
    let wanted: Vec<TaskId> = wanted.into_iter().collect();
    let mut known = BTreeMap::new();
    for wanted in wanted.chunks(ROWS_MAX) {
        let mut find = find();
        find.column("result")
            .and_where(ids("id", wanted.iter().copied()))
            .order_by("id", Order::Asc)
            .lock(LockType::Update);
        for row in tx.query_all(&find).await.map_err(into_error)? {
            let task = rows::read(&row)?;
            known.insert(task.id, (task, rows::Fields(&row).get("result")?));
        }
    }
    Ok(known)
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

fn answer(task: &NewTask, holders: &HashMap<String, TaskId>) -> Result<Enqueued> {
    let Some(unique) = &task.options().unique else {
        return Ok(Enqueued::Added(task.id()));
    };
    match holders.get(&unique.key) {
        Some(id) if *id == task.id() => Ok(Enqueued::Added(task.id())),
        Some(id) => Ok(Enqueued::Duplicate { of: *id }),
        // It ended between our insert and our look: the whole transaction is run again.
        None => Err(conflict()),
    }
}
