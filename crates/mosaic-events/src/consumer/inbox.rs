//! The inbox: which events a consumer has handled, written in the transaction that handled them.
//!
//! Delivery is at least once; a row per (consumer, event) makes the effects happen once. The primary key is the referee: of two
//! transactions that handle the same event at the same time the second waits, and then sees the row or fails and runs again.
//!
//! Almost every event is new, so its row is written without a look first; what was there already is told by the attempt.

use std::collections::BTreeSet;

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::rows::{self, Column};
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, QueryResult, Statement};
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
    pub async fn take(&self, tx: &Transaction, ids: &[EventId], now: Timestamp) -> Result<BTreeSet<EventId>> {
        // In the order of the key: that is where the rows lie.
        let mut new: BTreeSet<EventId> = ids.iter().copied().collect();
        let backend = tx.get_database_backend();
        if backend == DbBackend::Postgres {
            // A statement that fails would take the transaction with it.
            let insert = self.insert(backend, &new, now, "ON CONFLICT DO NOTHING RETURNING event_id")?;
            return ids_of(&tx.query_all_raw(insert).await.map_err(into_error)?);
        }
        let insert = self.insert(backend, &new, now, "")?;
        if let Err(error) = tx.execute_raw(insert).await {
            unique_violation(&error).ok_or_else(|| into_error(error))?;
            for known in self.known(tx, &new).await? {
                new.remove(&known);
            }
            let insert = self.insert(backend, &new, now, "")?;
            tx.execute_raw(insert)
                .await
                .map_err(|error| match unique_violation(&error) {
                    Some(_) => Error::aborted("SQL_CONFLICT", "another change came first, try again").caused_by(error),
                    None => into_error(error),
                })?;
        }
        Ok(new)
    }

    async fn known(&self, tx: &Transaction, ids: &BTreeSet<EventId>) -> Result<BTreeSet<EventId>> {
        let backend = tx.get_database_backend();
        let from = rows::table(backend, &[ID]);
        let sql = format!("SELECT i.event_id FROM {from} k JOIN {INBOX} i ON i.event_id = k.id AND i.consumer = ?");
        let statement = rows::statement(backend, sql, ids, [self.consumer.as_str().into()])?;
        ids_of(&tx.query_all_raw(statement).await.map_err(into_error)?)
    }

    /// Makes the statement that writes the rows of `ids`, `and` what is to follow.
    fn insert(&self, backend: DbBackend, ids: &BTreeSet<EventId>, now: Timestamp, and: &str) -> Result<Statement> {
        let (consumer, at) = (placeholder(backend, 2, "text"), placeholder(backend, 3, "bigint"));
        let sql = format!(
            "INSERT INTO {INBOX} (event_id, consumer, handled_at) \
             SELECT k.id, c.consumer, c.handled_at FROM {} k CROSS JOIN (SELECT {consumer} AS consumer, {at} AS handled_at) c {and}",
            rows::table(backend, &[ID])
        );
        let rest = [self.consumer.as_str().into(), micros(now).into()];
        rows::statement(backend, sql, ids, rest)
    }

    /// Forgets, for all consumers of `database`, what was published and handled before `before`; returns how much.
    ///
    /// Ids rise with the time of their event, so what is old lies at the beginning of the key and no index of times is kept beside it,
    /// which would cost each event more than its row does.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn purge(database: &Database, before: Timestamp) -> Result<u64> {
        let id = |id: String| match database.get_database_backend() {
            // As another type of text it would be compared without the index.
            DbBackend::Postgres => Expr::val(id).cast_as("char(32)"),
            _ => Expr::val(id),
        };
        let is_old = || {
            let was_published = Expr::col("event_id").lt(id(EventId::least_at(before).to_hex()));
            was_published.and(Expr::col("handled_at").lt(micros(before)))
        };
        let mut find = Query::select();
        find.column("event_id").from(INBOX).and_where(is_old());
        find.order_by("event_id", Order::Asc).limit(PURGED_MAX as u64);
        let mut n_gone = 0;
        loop {
            let rows = database.query_all(&find).await.map_err(into_error)?;
            if let Some(last) = rows.last() {
                let last: String = last.try_get("", "event_id").map_err(into_error)?;
                let mut delete = Query::delete();
                delete.from_table(INBOX).and_where(is_old());
                delete.and_where(Expr::col("event_id").lte(id(last)));
                n_gone += database.execute(&delete).await.map_err(into_error)?.rows_affected();
            }
            if rows.len() < PURGED_MAX {
                return Ok(n_gone);
            }
        }
    }
}

fn ids_of(rows: &[QueryResult]) -> Result<BTreeSet<EventId>> {
    let id = |row: &QueryResult| row.try_get::<String>("", "event_id").map_err(into_error)?.parse();
    rows.iter().map(id).collect()
}

/// Returns the placeholder of a value behind the rows; PostgreSQL wants its type where nothing else tells it.
fn placeholder(backend: DbBackend, position: usize, kind: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("${position}::{kind}"),
        _ => "?".to_owned(),
    }
}
