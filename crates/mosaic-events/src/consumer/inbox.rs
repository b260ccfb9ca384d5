//! The inbox: which events a consumer has handled, written in the transaction that handled them.
//!
//! Delivery is at least once; a row per (consumer, event) makes the effects happen once. The primary key is the referee: of two
//! transactions that handle the same event at the same time one fails and runs again, and then sees the row.

use std::collections::HashSet;

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use mosaic_sql::{Database, Transaction, into_error, micros, unique_violation};

use crate::event::EventId;
use crate::schema::INBOX;

/// Ids in one statement.
const IDS_MAX: usize = 500;

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
        let mut new = HashSet::with_capacity(ids.len());
        for ids in ids.chunks(IDS_MAX) {
            let known = self.known(tx, ids).await?;
            let fresh: Vec<EventId> = ids.iter().filter(|id| !known.contains(id)).copied().collect();
            let before = new.len();
            let mut insert = Query::insert();
            insert.into_table(INBOX).columns(["consumer", "event_id", "handled_at"]);
            for id in fresh {
                if new.insert(id) {
                    let row = [self.consumer.as_str().into(), id.to_string().into(), micros(now).into()];
                    insert.values_panic(row);
                }
            }
            if new.len() > before {
                tx.execute(&insert)
                    .await
                    .map_err(|error| match unique_violation(&error) {
                        Some(_) => {
                            Error::aborted("SQL_CONFLICT", "another change came first, try again").caused_by(error)
                        }
                        None => into_error(error),
                    })?;
            }
        }
        Ok(new)
    }

    async fn known(&self, tx: &Transaction, ids: &[EventId]) -> Result<HashSet<EventId>> {
        let mut find = Query::select();
        find.column("event_id")
            .from(INBOX)
            .and_where(Expr::col("consumer").eq(self.consumer.as_str()));
        find.and_where(Expr::col("event_id").is_in(ids.iter().map(EventId::to_string)));
        let rows = tx.query_all(&find).await.map_err(into_error)?;
        rows.iter()
            .map(|row| row.try_get::<String>("", "event_id").map_err(into_error)?.parse())
            .collect()
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
            find.order_by("handled_at", Order::Asc).limit(IDS_MAX as u64);
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
            if rows.len() < IDS_MAX {
                return Ok(n_gone);
            }
        }
    }
}
