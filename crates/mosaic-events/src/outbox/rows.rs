//! Rows of the outbox.

use bytes::Bytes;
use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query, SelectStatement};
use mosaic_sql::sea_orm::{DbBackend, QueryResult, Statement, TryGetable, Value};
use mosaic_sql::{into_error, micros, timestamp};

use super::StoredTask;
use crate::event::{EventId, Message};
use crate::schema::OUTBOX;

/// Rows in one insert.
const INSERT_ROWS: usize = 200;
const INSERT: &str =
    "INSERT INTO mosaic_outbox (kind, id, target, name, event_key, headers, at, payload, state, done_at) VALUES ";
/// Values of a row that differ, all but the last two.
const N_BOUND: usize = 8;
/// The last two: it waits, and was never sent.
const NEW: &str = "1, 0)";

/// What a row is; numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 1,
    Task = 2,
}

/// Where a row stands; numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting = 1,
    Sent = 2,
    Dead = 3,
}

impl State {
    pub(super) fn number(self) -> i64 {
        self as i64
    }
}

/// A row that is to be, or (with its number) is.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    id: EventId,
    target: String,
    name: String,
    key: String,
    headers: String,
    at: Timestamp,
    payload: Bytes,
}

pub(super) fn of_message(message: &Message) -> Result<Entry> {
    Ok(Entry {
        seq: 0,
        kind: Kind::Event,
        id: message.id,
        target: message.topic.to_string(),
        name: message.name.clone(),
        key: message.key.clone(),
        headers: headers_text(&message.headers)?,
        at: message.at,
        payload: message.payload.clone(),
    })
}

pub(super) fn of_task(task: &StoredTask) -> Entry {
    Entry {
        seq: 0,
        kind: Kind::Task,
        id: task.id,
        target: task.queue.clone(),
        name: task.name.clone(),
        key: String::new(),
        headers: String::new(),
        at: task.at,
        payload: task.payload.clone(),
    }
}

/// Writes headers as JSON, as they are stored here and with dead letters.
pub(crate) fn headers_text(headers: &[(String, String)]) -> Result<String> {
    serde_json::to_string(headers).map_err(Error::internal)
}

/// Reads headers; none if they are damaged: no reason to lose the event.
pub(crate) fn headers_of(text: &str) -> Vec<(String, String)> {
    serde_json::from_str(text).unwrap_or_default()
}

impl Entry {
    fn values(&self) -> [Value; N_BOUND] {
        [
            (self.kind as i64).into(),
            self.id.to_string().into(),
            self.target.as_str().into(),
            self.name.as_str().into(),
            self.key.as_str().into(),
            self.headers.as_str().into(),
            micros(self.at).into(),
            self.payload.to_vec().into(),
        ]
    }

    pub(super) fn message(&self) -> Result<Message> {
        Ok(Message {
            id: self.id,
            topic: self.target.parse()?,
            name: self.name.clone(),
            key: self.key.clone(),
            payload: self.payload.clone(),
            headers: headers_of(&self.headers),
            at: self.at,
        })
    }

    pub(super) fn task(&self) -> StoredTask {
        StoredTask {
            id: self.id,
            queue: self.target.clone(),
            name: self.name.clone(),
            payload: self.payload.clone(),
            at: self.at,
        }
    }
}

const COLUMNS: [&str; 8] = ["kind", "id", "target", "name", "event_key", "headers", "at", "payload"];

/// Returns inserts of `entries`; of one row, which most have, always the same text, which the connection has prepared.
pub(super) fn inserts(backend: DbBackend, entries: &[Entry]) -> impl Iterator<Item = Statement> {
    entries.chunks(INSERT_ROWS).map(move |entries| {
        let mut values = Vec::with_capacity(entries.len() * N_BOUND);
        let mut sql = String::from(INSERT);
        for entry in entries {
            sql.push_str(if values.is_empty() { "(" } else { ", (" });
            for position in values.len() + 1..=values.len() + N_BOUND {
                match backend {
                    DbBackend::Postgres => sql.push_str(&format!("${position}, ")),
                    _ => sql.push_str("?, "),
                }
            }
            sql.push_str(NEW);
            values.extend(entry.values());
        }
        Statement::from_sql_and_values(backend, sql, values)
    })
}

/// Finds rows in `state`, the oldest first.
pub(super) fn find(state: State, limit: usize) -> SelectStatement {
    let mut find = Query::select();
    find.columns(COLUMNS.into_iter().chain(["seq"]))
        .from(OUTBOX)
        .and_where(Expr::col("state").eq(state.number()))
        .order_by("seq", Order::Asc)
        .limit(limit as u64);
    find
}

pub(super) fn read(row: &QueryResult) -> Result<Entry> {
    let kind = match get::<i64>(row, "kind")? {
        1 => Kind::Event,
        2 => Kind::Task,
        other => return Err(Error::internal(format!("an outbox row of the unknown kind {other}"))),
    };
    Ok(Entry {
        seq: get(row, "seq")?,
        kind,
        id: get::<String>(row, "id")?.parse()?,
        target: get(row, "target")?,
        name: get(row, "name")?,
        key: get(row, "event_key")?,
        headers: get(row, "headers")?,
        at: timestamp(get(row, "at")?),
        payload: get::<Vec<u8>>(row, "payload")?.into(),
    })
}

pub(super) fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T> {
    row.try_get("", column).map_err(into_error)
}
