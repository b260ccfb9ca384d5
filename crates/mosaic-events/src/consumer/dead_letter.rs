//! Dead letters: events that a group could not handle, as rows of its module's database.
//!
//! Rows and not a topic: they are looked at, replayed one by one and deleted, which a log cannot do; they are there even if
//! the bus is away; and they are the group's own, so a replay does not reach others.

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Func, OnConflict, Order, Query};
use mosaic_sql::sea_orm::{ConnectionTrait as _, QueryResult, TryGetable};
use mosaic_sql::{Database, into_error, micros, timestamp};

use crate::event::{EventId, Message, Record};
use crate::names::GroupName;
use crate::outbox::{headers_of, headers_text};
use crate::schema::DEAD;
use crate::text::shortened;

/// An event that a group could not handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Number of the row.
    pub seq: i64,
    /// The event.
    pub message: Message,
    /// How often it was tried.
    pub attempts: u32,
    /// The last error, with its causes.
    pub error: String,
    /// When it was given up.
    pub failed_at: Timestamp,
}

/// The dead letters of one group; the database has [`MIGRATIONS`](crate::MIGRATIONS).
#[derive(Debug, Clone)]
pub struct DeadLetters {
    database: Database,
    group: GroupName,
}

impl DeadLetters {
    /// Makes the door to the dead letters of `group`.
    pub fn new(database: &Database, group: &GroupName) -> Self {
        Self {
            database: database.clone(),
            group: group.clone(),
        }
    }

    /// Keeps an event that cannot be handled; once, however often it comes.
    pub(crate) async fn put(&self, message: &Message, attempts: u32, error: &str, now: Timestamp) -> Result<()> {
        let mut insert = Query::insert();
        let columns = [
            "consumer",
            "id",
            "topic",
            "name",
            "event_key",
            "headers",
            "at",
            "payload",
        ];
        insert
            .into_table(DEAD)
            .columns(columns.into_iter().chain(["attempts", "failed_at", "error"]));
        insert.values_panic([
            self.group.as_str().into(),
            message.id.to_string().into(),
            message.topic.as_str().into(),
            (*message.name).into(),
            message.key.as_str().into(),
            headers_text(&message.headers)?.into(),
            micros(message.at).into(),
            message.payload.to_vec().into(),
            i64::from(attempts).into(),
            micros(now).into(),
            shortened(error, 1000).into(),
        ]);
        let again = OnConflict::columns(["consumer", "id"])
            .update_columns(["attempts", "failed_at", "error"])
            .to_owned();
        insert.on_conflict(again);
        self.database
            .transaction(async |tx| tx.execute(&insert).await.map(|_| ()).map_err(into_error))
            .await
    }

    /// Returns dead letters with numbers above `after`, the oldest first.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn list(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut find = Query::select();
        let columns = ["seq", "id", "topic", "name", "event_key", "headers", "at", "payload"];
        find.columns(columns.into_iter().chain(["attempts", "failed_at", "error"]))
            .from(DEAD)
            .and_where(Expr::col("consumer").eq(self.group.as_str()))
            .and_where(Expr::col("seq").gt(after))
            .order_by("seq", Order::Asc)
            .limit(limit as u64);
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        rows.iter().map(read).collect()
    }

    /// Returns the dead letter with this number.
    ///
    /// # Errors
    /// `DEAD_LETTER_NOT_FOUND`; failures of the database.
    pub async fn get(&self, seq: i64) -> Result<DeadLetter> {
        let found = self
            .list(seq - 1, 1)
            .await?
            .into_iter()
            .find(|letter| letter.seq == seq);
        found.ok_or_else(not_found)
    }

    /// Returns how many there are.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn count(&self) -> Result<u64> {
        let mut count = Query::select();
        count.expr_as(Func::count(Expr::col("seq")), "n").from(DEAD);
        count.and_where(Expr::col("consumer").eq(self.group.as_str()));
        let row = self.database.query_one(&count).await.map_err(into_error)?;
        row.map_or(Ok(0), |row| column::<i64>(&row, "n").map(i64::unsigned_abs))
    }

    /// Deletes a dead letter: the event is never handled.
    ///
    /// # Errors
    /// `DEAD_LETTER_NOT_FOUND`; failures of the database.
    pub async fn delete(&self, seq: i64) -> Result<()> {
        let mut delete = Query::delete();
        delete
            .from_table(DEAD)
            .and_where(Expr::col("consumer").eq(self.group.as_str()));
        delete.and_where(Expr::col("seq").eq(seq));
        let done = self
            .database
            .transaction(async |tx| tx.execute(&delete).await.map_err(into_error))
            .await?;
        match done.rows_affected() {
            0 => Err(not_found()),
            _ => Ok(()),
        }
    }
}

fn not_found() -> Error {
    Error::not_found("DEAD_LETTER_NOT_FOUND", "the group has no such dead letter")
}

fn column<T: TryGetable>(row: &QueryResult, name: &str) -> Result<T> {
    row.try_get("", name).map_err(into_error)
}

fn read(row: &QueryResult) -> Result<DeadLetter> {
    let id: EventId = column::<String>(row, "id")?.parse()?;
    let message = Message::from(Record {
        id,
        topic: column::<String>(row, "topic")?.parse()?,
        name: column::<String>(row, "name")?.into(),
        key: column(row, "event_key")?,
        payload: column::<Vec<u8>>(row, "payload")?.into(),
        headers: headers_of(&column::<String>(row, "headers")?),
        at: timestamp(column(row, "at")?),
    });
    Ok(DeadLetter {
        seq: column(row, "seq")?,
        message,
        attempts: u32::try_from(column::<i64>(row, "attempts")?).unwrap_or(u32::MAX),
        error: column(row, "error")?,
        failed_at: timestamp(column(row, "failed_at")?),
    })
}
