//! Rows of the outbox: those that wait, and those that do no more.
//!
//! A row that was sent or refused moves to a table of its own. So what waits is all there is in the first, the transaction that
//! publishes fills in neither state nor index, and what was sent can be kept at no cost to it.

use bytes::Bytes;
use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query, SelectStatement};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, QueryResult, Statement, TryGetable, Value};
use mosaic_sql::{Transaction, into_error, micros, timestamp};

use super::StoredTask;
use crate::event::{EventId, Message, Record};
use crate::headers::Headers;
use crate::schema::{OUTBOX, OUTBOX_DONE};

/// Rows in one insert.
const INSERT_ROWS: usize = 200;
/// What is carried, in this order.
const COLUMNS: [&str; 8] = ["kind", "id", "target", "name", "event_key", "headers", "at", "payload"];

/// What a row is; numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 1,
    Task = 2,
}

/// What became of a row; numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
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
        name: message.name.to_string(),
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
pub(crate) fn headers_text(headers: &Headers) -> Result<String> {
    serde_json::to_string(headers).map_err(Error::internal)
}

/// Reads headers; none if they are damaged: no reason to lose the event.
pub(crate) fn headers_of(text: &str) -> Headers {
    serde_json::from_str(text).unwrap_or_default()
}

impl Entry {
    fn values(&self) -> [Value; COLUMNS.len()] {
        [
            (self.kind as i64).into(),
            self.id.to_hex().into(),
            self.target.as_str().into(),
            self.name.as_str().into(),
            self.key.as_str().into(),
            self.headers.as_str().into(),
            micros(self.at).into(),
            self.payload.to_vec().into(),
        ]
    }

    pub(super) fn message(&self) -> Result<Message> {
        Ok(Message::from(Record {
            id: self.id,
            topic: self.target.parse()?,
            name: self.name.clone().into(),
            key: self.key.clone(),
            payload: self.payload.clone(),
            headers: headers_of(&self.headers),
            at: self.at,
        }))
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

/// Returns inserts of `entries`, in their order.
pub(super) fn inserts(backend: DbBackend, entries: &[Entry]) -> impl Iterator<Item = Statement> {
    entries.chunks(INSERT_ROWS).map(move |entries| {
        let mut values = Vec::with_capacity(entries.len() * COLUMNS.len());
        let mut sql = format!("INSERT INTO {OUTBOX} ({}) VALUES ", COLUMNS.join(", "));
        for entry in entries {
            for (position, value) in (values.len() + 1..).zip(entry.values()) {
                let before = match (position - 1) % COLUMNS.len() {
                    0 if position == 1 => "(",
                    0 => "), (",
                    _ => ", ",
                };
                sql.push_str(before);
                match backend {
                    DbBackend::Postgres => sql.push_str(&format!("${position}")),
                    _ => sql.push('?'),
                }
                values.push(value);
            }
        }
        sql.push(')');
        Statement::from_sql_and_values(backend, sql, values)
    })
}

/// Finds rows that wait, the oldest first.
pub(super) fn find(limit: usize) -> SelectStatement {
    let mut find = Query::select();
    find.columns(COLUMNS.into_iter().chain(["seq"]))
        .from(OUTBOX)
        .order_by("seq", Order::Asc)
        .limit(limit as u64);
    find
}

/// Moves rows that wait to those that do no more.
pub(super) async fn finish(
    tx: &Transaction,
    seqs: &[i64],
    state: State,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let is_one = Expr::col("seq").is_in(seqs.iter().copied());
    let mut carried = Query::select();
    carried
        .columns(COLUMNS)
        .exprs([Expr::val(state.number()), Expr::val(micros(now)), Expr::val(error)])
        .from(OUTBOX)
        .and_where(is_one.clone())
        .order_by("seq", Order::Asc);
    let columns = COLUMNS.into_iter().chain(["state", "done_at", "error"]);
    move_rows(tx, (OUTBOX, is_one), (OUTBOX_DONE, columns), carried)
        .await
        .map(drop)
}

/// Moves a row that was refused to the end of those that wait; returns whether there was one.
pub(super) async fn begin_again(tx: &Transaction, seq: i64) -> Result<bool> {
    let is_one = is_dead(seq);
    let mut carried = Query::select();
    carried.columns(COLUMNS).from(OUTBOX_DONE).and_where(is_one.clone());
    move_rows(tx, (OUTBOX_DONE, is_one), (OUTBOX, COLUMNS.into_iter()), carried).await
}

/// The row that was refused and has this number.
pub(super) fn is_dead(seq: i64) -> Expr {
    Expr::col("seq")
        .eq(seq)
        .and(Expr::col("state").eq(State::Dead.number()))
}

async fn move_rows(
    tx: &Transaction,
    from: (&'static str, Expr),
    to: (&'static str, impl Iterator<Item = &'static str>),
    carried: SelectStatement,
) -> Result<bool> {
    let mut insert = Query::insert();
    insert.into_table(to.0).columns(to.1);
    insert.select_from(carried).map_err(Error::internal)?;
    tx.execute(&insert).await.map_err(into_error)?;
    let mut delete = Query::delete();
    delete.from_table(from.0).and_where(from.1);
    let deleted = tx.execute(&delete).await.map_err(into_error)?;
    Ok(deleted.rows_affected() > 0)
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
