//! The inbox: which events a consumer has handled, written in the transaction that handled them.
//!
//! Delivery is at least once; a row per (consumer, event) makes the effects happen once. The primary key is the referee: of two
//! transactions that handle the same event at the same time one fails and runs again, and then sees the row.

use std::collections::HashSet;

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::rows::{self, Column};
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend};
use mosaic_sql::{Database, Transaction, into_error, micros, unique_violation};

use crate::event::EventId;
use crate::schema::INBOX;

/// Rows that are deleted at once.
const PURGED_MAX: usize = 500;
const ID: Column = Column::Fixed("id", 32);

/// The inbox of one consumer; the database has [`MIGRATIONS`](crate::MIGRATIONS).
#[derive(Debug, Clone)]
pub struct Inbox {
    consumer: String,
}

impl Inbox {
    /// Makes the inbox of `consumer`, a name that no other consumer of the database has.
    pub fn new(consumer: &str) -> Self {
        Self {
            consumer: consumer.to_owned(),
        }
    }

    /// Notes that `tx` handles these events at `now`; returns those that were not handled before.
    ///
    /// # Errors
    /// `SQL_CONFLICT` if another transaction handles one of them now; failures of the database.
    pub async fn take(&self, tx: &Transaction, ids: &[EventId], now: Timestamp) -> Result<HashSet<EventId>> {
        let mut new: HashSet<EventId> = ids.iter().copied().collect();
        for known in self.known(tx, ids).await? {
            new.remove(&known);
        }
        if !new.is_empty() {
            self.insert(tx, &new, now).await?;
        }
        Ok(new)
    }

    async fn known(&self, tx: &Transaction, ids: &[EventId]) -> Result<Vec<EventId>> {
        let backend = tx.get_database_backend();
        let (from, consumer) = (rows::table(backend, &[ID]), placeholder(backend, 2, "text"));
        let sql =
            format!("SELECT i.event_id FROM {from} k JOIN {INBOX} i ON i.event_id = k.id AND i.consumer = {consumer}");
        let statement = rows::statement(backend, sql, &texts(ids), [self.consumer.as_str().into()])?;
        let found = tx.query_all_raw(statement).await.map_err(into_error)?;
        found
            .iter()
            .map(|row| row.try_get::<String>("", "event_id").map_err(into_error)?.parse())
            .collect()
    }

    async fn insert(&self, tx: &Transaction, ids: &HashSet<EventId>, now: Timestamp) -> Result<()> {
        let backend = tx.get_database_backend();
        let (consumer, at) = (placeholder(backend, 2, "text"), placeholder(backend, 3, "bigint"));
        let sql = format!(
            "INSERT INTO {INBOX} (event_id, consumer, handled_at) \
             SELECT k.id, c.consumer, c.handled_at FROM {} k CROSS JOIN (SELECT {consumer} AS consumer, {at} AS handled_at) c",
            rows::table(backend, &[ID])
        );
        let rest = [self.consumer.as_str().into(), micros(now).into()];
        // In the order of the key: that is where the rows lie.
        let mut ids: Vec<_> = ids.iter().copied().collect();
        ids.sort_unstable();
        let inserted = tx.execute_raw(rows::statement(backend, sql, &texts(&ids), rest)?).await;
        inserted.map(drop).map_err(|error| match unique_violation(&error) {
            Some(_) => Error::aborted("SQL_CONFLICT", "another change came first, try again").caused_by(error),
            None => into_error(error),
        })
    }

    /// Forgets, for all consumers of `database`, what was handled before `before`; returns how much.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn purge(database: &Database, before: Timestamp) -> Result<u64> {
        let mut n_gone = 0;
        loop {
            let mut find = Query::select();
            find.columns(["consumer", "event_id"]).from(INBOX);
            find.and_where(Expr::col("handled_at").lt(micros(before)));
            find.order_by("handled_at", Order::Asc).limit(PURGED_MAX as u64);
            let rows = database.query_all(&find).await.map_err(into_error)?;
            let ids = rows
                .iter()
                .map(|row| row.try_get::<String>("", "event_id").map_err(into_error));
            let mut delete = Query::delete();
            delete
                .from_table(INBOX)
                .and_where(Expr::col("event_id").is_in(ids.collect::<Result<Vec<_>>>()?));
            delete.and_where(Expr::col("handled_at").lt(micros(before)));
            if !rows.is_empty() {
                let deleted = database.transaction(async |tx| tx.execute(&delete).await.map_err(into_error));
                n_gone += deleted.await?.rows_affected();
            }
            if rows.len() < PURGED_MAX {
                return Ok(n_gone);
            }
        }
    }
}

fn texts(ids: &[EventId]) -> Vec<[String; 1]> {
    ids.iter().map(|id| [id.to_string()]).collect()
}

/// Returns the placeholder of a value behind the rows; PostgreSQL wants its type where nothing else tells it.
fn placeholder(backend: DbBackend, position: usize, kind: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("${position}::{kind}"),
        _ => "?".to_owned(),
    }
}
