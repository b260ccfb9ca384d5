//! Deleting what no topic keeps: the oldest rows of each partition, while they are too old or the partition is too large.

use std::time::Duration;

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Func, Order, Query};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend};
use mosaic_sql::{Database, into_error, timestamp};

use super::schema::{BATCH, TOPIC};
use super::{ends, get, of_partition};
use crate::names::TopicName;

/// Rows deleted at once.
const DELETE_MAX: u64 = 500;

pub(super) async fn trim(database: &Database, now: Timestamp) -> Result<u64> {
    let mut find = Query::select();
    find.columns(["topic", "retention_us", "retention_bytes"]).from(TOPIC);
    let mut n_gone = 0;
    for row in database.query_all(&find).await.map_err(into_error)? {
        let topic: TopicName = get::<String>(&row, "topic")?.parse()?;
        let retention = Duration::from_micros(get::<i64>(&row, "retention_us")?.unsigned_abs());
        let max_bytes: i64 = get(&row, "retention_bytes")?;
        for bounds in ends(database, &topic).await? {
            loop {
                let n = trim_once(database, &topic, bounds.partition, now.minus(retention), max_bytes).await?;
                n_gone += n;
                if n < DELETE_MAX {
                    break;
                }
            }
        }
    }
    Ok(n_gone)
}

async fn trim_once(db: &Database, topic: &TopicName, partition: u32, before: Timestamp, max_bytes: i64) -> Result<u64> {
    let integer = match db.backend() {
        DbBackend::MySql => "SIGNED",
        _ => "BIGINT",
    };
    let mut sum = Query::select();
    let total = Func::sum(Expr::col("n_bytes"));
    sum.expr_as(Expr::expr(total).cast_as(Alias::new(integer)), "total");
    sum.from(BATCH).cond_where(of_partition(topic, partition));
    let row = db.query_one(&sum).await.map_err(into_error)?;
    let mut total = row
        .map_or(Ok(None), |row| get::<Option<i64>>(&row, "total"))?
        .unwrap_or(0);

    let mut find = Query::select();
    find.columns(["base", "n_bytes", "stored_at"])
        .from(BATCH)
        .cond_where(of_partition(topic, partition));
    find.order_by("base", Order::Asc).limit(DELETE_MAX);
    let mut gone = Vec::new();
    for row in db.query_all(&find).await.map_err(into_error)? {
        if timestamp(get(&row, "stored_at")?) >= before && total <= max_bytes {
            break;
        }
        total -= get::<i64>(&row, "n_bytes")?;
        gone.push(get::<i64>(&row, "base")?);
    }
    if let Some(last) = gone.last() {
        let mut delete = Query::delete();
        delete
            .from_table(BATCH)
            .cond_where(of_partition(topic, partition))
            .and_where(Expr::col("base").lte(*last));
        db.transaction(async |tx| tx.execute(&delete).await.map(|_| ()).map_err(into_error))
            .await?;
    }
    Ok(gone.len() as u64)
}
