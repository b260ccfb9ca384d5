//! Rows that the bus will never take: kept until somebody decides.

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use mosaic_sql::{Database, into_error, timestamp};

use super::Outbox;
use super::rows::{self, State, get};
use crate::event::EventId;
use crate::schema::OUTBOX_DONE;

/// A row that was refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxDeadLetter {
    /// Number of the row, another one each time it is refused.
    pub seq: i64,
    /// The event or task.
    pub id: EventId,
    /// Topic or queue.
    pub target: String,
    /// The kind of event or task.
    pub name: String,
    /// What refused it, in whose words.
    pub error: String,
    /// When it was refused.
    pub refused_at: Timestamp,
}

impl Outbox {
    /// Returns the oldest rows that were refused for good.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn dead_letters(&self, database: &Database, limit: usize) -> Result<Vec<OutboxDeadLetter>> {
        let mut find = Query::select();
        find.columns(["seq", "id", "target", "name", "error", "done_at"])
            .from(OUTBOX_DONE)
            .and_where(Expr::col("state").eq(State::Dead.number()))
            .order_by("seq", Order::Asc)
            .limit(limit as u64);
        let rows = database.query_all(&find).await.map_err(into_error)?;
        let read = |row| {
            Ok(OutboxDeadLetter {
                seq: get(row, "seq")?,
                id: get::<String>(row, "id")?.parse()?,
                target: get(row, "target")?,
                name: get(row, "name")?,
                error: get::<Option<String>>(row, "error")?.unwrap_or_default(),
                refused_at: timestamp(get(row, "done_at")?),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Lets the relay try a refused row again; later rows of its key have gone before it.
    ///
    /// # Errors
    /// `OUTBOX_ROW_NOT_FOUND`; failures of the database.
    pub async fn retry_dead_letter(&self, database: &Database, seq: i64) -> Result<()> {
        let is_found = database
            .transaction(async |tx| rows::begin_again(&tx, seq).await)
            .await?;
        self.wake();
        found(is_found)
    }

    /// Deletes a refused row.
    ///
    /// # Errors
    /// `OUTBOX_ROW_NOT_FOUND`; failures of the database.
    pub async fn delete_dead_letter(&self, database: &Database, seq: i64) -> Result<()> {
        let mut delete = Query::delete();
        delete.from_table(OUTBOX_DONE).and_where(rows::is_dead(seq));
        let done = database
            .transaction(async |tx| tx.execute(&delete).await.map_err(into_error))
            .await?;
        found(done.rows_affected() > 0)
    }
}

fn found(is_found: bool) -> Result<()> {
    if is_found {
        return Ok(());
    }
    Err(Error::not_found(
        "OUTBOX_ROW_NOT_FOUND",
        "no refused row of the outbox has this number",
    ))
}
