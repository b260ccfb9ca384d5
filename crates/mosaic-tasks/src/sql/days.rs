//! Counters by day: a row of each queue and day is several, so that workers do not queue up for one.

use mosaic_core::{Result, Runtime, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query};
use mosaic_sql::{Transaction, into_error};

use super::change::Tally;
use super::schema::DAYS;

/// Rows of each queue and day.
const SHARDS: u64 = 8;
/// Days that counters are kept.
const KEPT_DAYS: i64 = 90;

/// Returns days since the epoch, UTC.
pub(super) fn day(now: Timestamp) -> i64 {
    now.as_secs().div_euclid(24 * 3600)
}

/// Adds to the counters of today.
pub(super) async fn count(tx: &Transaction, tally: &Tally, now: Timestamp, runtime: &Runtime) -> Result<()> {
    for (queue, (n_processed, n_failed)) in tally {
        let shard = runtime.random_below(SHARDS).cast_signed();
        let (n_processed, n_failed) = (n_processed.cast_signed(), n_failed.cast_signed());
        let key = || {
            Expr::col("queue")
                .eq(queue.as_str())
                .and(Expr::col("day").eq(day(now)))
                .and(Expr::col("shard").eq(shard))
        };
        let mut add = Query::update();
        add.table(DAYS)
            .value("n_processed", Expr::col("n_processed").add(n_processed))
            .value("n_failed", Expr::col("n_failed").add(n_failed))
            .and_where(key());
        if tx.execute(&add).await.map_err(into_error)?.rows_affected() > 0 {
            continue;
        }
        let mut make = Query::insert();
        make.into_table(DAYS)
            .columns(["queue", "day", "shard", "n_processed", "n_failed"])
            .values_panic([
                queue.as_str().into(),
                day(now).into(),
                shard.into(),
                0_i64.into(),
                0_i64.into(),
            ])
            .on_conflict(OnConflict::new().do_nothing_on(["queue", "day", "shard"]).to_owned());
        tx.execute(&make).await.map_err(into_error)?;
        tx.execute(&add).await.map_err(into_error)?;
    }
    Ok(())
}

/// Deletes counters of long ago.
pub(super) async fn forget(tx: &Transaction, now: Timestamp) -> Result<()> {
    let mut forget = Query::delete();
    forget
        .from_table(DAYS)
        .and_where(Expr::col("day").lt(day(now) - KEPT_DAYS));
    tx.execute(&forget).await.map_err(into_error)?;
    Ok(())
}
