//! Making topics and appending to them.

use std::collections::BTreeMap;

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, LockType, OnConflict, Order, Query};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};
use mosaic_sql::{Transaction, into_error, micros};

use super::schema::{BATCH, PARTITION, TOPIC};
use super::{codec, get, partition};
use crate::bus::Topic;
use crate::log::Batch;

/// Bytes of records in one insert: MySQL takes 16 MiB in a packet.
const INSERT_BYTES: usize = 4 << 20;
/// What a row of a batch has.
const COLUMNS: [&str; 7] = ["topic", "part", "base", "n", "n_bytes", "stored_at", "records"];

pub(super) async fn declare(tx: &Transaction, topic: &Topic, is_set: bool) -> Result<u32> {
    let name = topic.name.as_str();
    let retention_us = i64::try_from(topic.retention.as_micros()).unwrap_or(i64::MAX);
    let retention_bytes = i64::try_from(topic.retention_bytes).unwrap_or(i64::MAX);
    let mut insert = Query::insert();
    insert
        .into_table(TOPIC)
        .columns(["topic", "partitions", "retention_us", "retention_bytes"]);
    insert.values_panic([
        name.into(),
        i64::from(topic.partitions).into(),
        retention_us.into(),
        retention_bytes.into(),
    ]);
    insert.on_conflict(OnConflict::new().do_nothing_on(["topic"]).to_owned());
    tx.execute(&insert).await.map_err(into_error)?;
    if is_set {
        let mut update = Query::update();
        update
            .table(TOPIC)
            .value("retention_us", retention_us)
            .value("retention_bytes", retention_bytes);
        tx.execute(update.and_where(Expr::col("topic").eq(name)))
            .await
            .map_err(into_error)?;
    }
    let mut find = Query::select();
    find.column("partitions")
        .from(TOPIC)
        .and_where(Expr::col("topic").eq(name));
    let row = tx.query_one(&find).await.map_err(into_error)?;
    let n_partitions: i64 = row.map_or(Ok(i64::from(topic.partitions)), |row| get(&row, "partitions"))?;
    let mut insert = Query::insert();
    insert.into_table(PARTITION).columns(["topic", "part", "end_offset"]);
    for partition in 0..n_partitions {
        insert.values_panic([name.into(), partition.into(), 0_i64.into()]);
    }
    insert.on_conflict(OnConflict::new().do_nothing_on(["topic", "part"]).to_owned());
    tx.execute(&insert).await.map_err(into_error)?;
    Ok(u32::try_from(n_partitions).unwrap_or(u32::MAX))
}

/// A batch, ready to be stored.
struct Row<'a> {
    batch: &'a Batch<'a>,
    records: Vec<u8>,
}

impl Row<'_> {
    fn n(&self) -> i64 {
        self.batch.messages.len() as i64
    }
}

/// Sorts batches by topic: who appends to several locks them in this order.
fn rows<'a>(batches: &'a [Batch<'a>]) -> BTreeMap<&'a str, Vec<Row<'a>>> {
    let mut rows: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
    for batch in batches {
        rows.entry(batch.topic.as_str()).or_default().push(Row {
            batch,
            records: codec::encode(&batch.messages),
        });
    }
    rows
}

/// Stores `batches`; returns at which offset each begins.
pub(super) async fn append<'a>(
    tx: &Transaction,
    batches: &'a [Batch<'a>],
    now: Timestamp,
) -> Result<Vec<(&'a Batch<'a>, u64)>> {
    let mut stored = Vec::new();
    for (topic, rows) in rows(batches) {
        let mut ends = lock(tx, topic, &rows).await?;
        let bases: Vec<i64> = rows.iter().map(|row| take(&mut ends, row)).collect();
        advance(tx, topic, &ends).await?;
        stored.extend(
            rows.iter()
                .zip(&bases)
                .map(|(row, base)| (row.batch, base.unsigned_abs())),
        );
        insert(tx, topic, rows, &bases, now).await?;
    }
    Ok(stored)
}

/// Locks the partitions of `rows` and returns where they end.
async fn lock(tx: &Transaction, topic: &str, rows: &[Row<'_>]) -> Result<BTreeMap<u32, i64>> {
    let mut find = Query::select();
    find.columns(["part", "end_offset"])
        .from(PARTITION)
        .and_where(Expr::col("topic").eq(topic))
        .and_where(Expr::col("part").is_in(rows.iter().map(|row| i64::from(row.batch.partition))))
        .order_by("part", Order::Asc)
        .lock(LockType::Update);
    let found = tx.query_all(&find).await.map_err(into_error)?;
    found
        .iter()
        .map(|row| Ok((partition(row)?, get(row, "end_offset")?)))
        .collect()
}

/// Gives `row` its offset.
fn take(ends: &mut BTreeMap<u32, i64>, row: &Row<'_>) -> i64 {
    let end = ends.entry(row.batch.partition).or_default();
    let base = *end;
    *end += row.n();
    base
}

async fn advance(tx: &Transaction, topic: &str, ends: &BTreeMap<u32, i64>) -> Result<()> {
    let mut end = CaseStatement::new();
    for (partition, offset) in ends {
        end = end.case(Expr::col("part").eq(i64::from(*partition)), Expr::val(*offset));
    }
    let mut update = Query::update();
    update
        .table(PARTITION)
        .value("end_offset", end)
        .and_where(Expr::col("topic").eq(topic))
        .and_where(Expr::col("part").is_in(ends.keys().map(|partition| i64::from(*partition))));
    tx.execute(&update).await.map_err(into_error)?;
    Ok(())
}

/// The text is put together here: for a statement of sea-query's each blob would be copied twice.
async fn insert(tx: &Transaction, topic: &str, rows: Vec<Row<'_>>, bases: &[i64], now: Timestamp) -> Result<()> {
    let backend = tx.get_database_backend();
    let mut pairs = rows.into_iter().zip(bases).peekable();
    while pairs.peek().is_some() {
        let mut sql = format!("INSERT INTO {BATCH} ({}) VALUES ", COLUMNS.join(", "));
        let mut values = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < INSERT_BYTES
            && let Some((row, base)) = pairs.next()
        {
            let between = if values.is_empty() { "" } else { ", " };
            let marks = (values.len() + 1..).take(COLUMNS.len()).map(|at| match backend {
                DbBackend::Postgres => format!("${at}"),
                _ => "?".to_owned(),
            });
            sql += &format!("{between}({})", marks.collect::<Vec<_>>().join(", "));
            n_bytes += row.records.len();
            let row: [Value; COLUMNS.len()] = [
                topic.into(),
                i64::from(row.batch.partition).into(),
                (*base).into(),
                row.n().into(),
                (row.records.len() as i64).into(),
                micros(now).into(),
                row.records.into(),
            ];
            values.extend(row);
        }
        tx.execute_raw(Statement::from_sql_and_values(backend, sql, values))
            .await
            .map_err(into_error)?;
    }
    Ok(())
}
