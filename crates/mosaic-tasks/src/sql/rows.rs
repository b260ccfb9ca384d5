//! The table of tasks, and how a task becomes a row and back.
//!
//! One table, one index for each question: who is next, what becomes due, whose lease ran out, what may be deleted. The
//! indexes lead with the state, so ended tasks cost the living nothing.

use std::str::FromStr as _;
use std::time::Duration;

use mosaic_core::{Error, Result};
use mosaic_sql::sea_orm::sea_query::{
    ColumnDef, Expr, ExprTrait as _, Index, IndexOrder, InsertStatement, OnConflict, Query, SimpleExpr, Table,
    UpdateStatement,
};
use mosaic_sql::sea_orm::{DbBackend, DbErr, QueryResult};
use mosaic_sql::{Migration, Schema, into_error, micros, timestamp};

use crate::id::{QueueName, TaskId};
use crate::model::{Record, State, Unique};
use crate::options::Backoff;

/// Migrations of the table of tasks; a service adds them to its own.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "mosaic_tasks_0001_create_mosaic_task",
    up: create,
}];

pub(super) const TABLE: &str = "mosaic_task";

/// What a [`Record`] is made of.
pub(super) const COLUMNS: [&str; 22] = [
    "id",
    "queue",
    "kind",
    "priority",
    "state",
    "due_at",
    "n_failed",
    "retries_max",
    "backoff_base_us",
    "backoff_max_us",
    "timeout_us",
    "deadline_at",
    "retention_us",
    "unique_key",
    "unique_until",
    "fence",
    "lease_until",
    "is_cancelled",
    "enqueued_at",
    "finished_at",
    "keep_until",
    "last_error",
];

fn create(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().take();
    let maybe = |name: &'static str| ColumnDef::new(name).big_integer().null().take();
    let bytes = |name: &'static str, backend| match backend {
        // MySQL's BLOB ends at 64 KiB.
        DbBackend::MySql => ColumnDef::new(name).custom("longblob").not_null().take(),
        _ => ColumnDef::new(name).blob().not_null().take(),
    };
    let mut table = Table::create();
    table
        .table(TABLE)
        .col(ColumnDef::new("id").char_len(32).not_null().primary_key())
        .col(ColumnDef::new("queue").string_len(64).not_null())
        .col(ColumnDef::new("kind").string_len(100).not_null())
        .col(bytes("payload", schema.backend()))
        .col(bytes("result", schema.backend()))
        .col(ColumnDef::new("unique_key").string_len(190).null())
        .col(ColumnDef::new("last_error").string_len(1000).null());
    for name in [
        "priority",
        "state",
        "due_at",
        "n_failed",
        "retries_max",
        "backoff_base_us",
        "backoff_max_us",
        "timeout_us",
        "retention_us",
        "fence",
        "is_cancelled",
        "enqueued_at",
    ] {
        table.col(number(name));
    }
    for name in [
        "deadline_at",
        "unique_until",
        "lease_until",
        "finished_at",
        "keep_until",
    ] {
        table.col(maybe(name));
    }
    schema.run(&table);
    let index = |name: &str| Index::create().name(name).table(TABLE).to_owned();
    let mut next = index("ix_mosaic_task_next");
    next.col("state").col("queue").col(("priority", IndexOrder::Desc));
    schema.run(next.col("due_at").col("id"));
    schema.run(index("ix_mosaic_task_due").col("state").col("due_at"));
    schema.run(index("ix_mosaic_task_lease").col("state").col("lease_until"));
    schema.run(index("ix_mosaic_task_keep").col("state").col("keep_until"));
    schema.run(index("uq_mosaic_task_unique_key").unique().col("unique_key"));
}

/// Numbers of states, as stored: never changed.
pub(super) fn number(state: State) -> i64 {
    match state {
        State::Pending => 1,
        State::Scheduled => 2,
        State::Active => 3,
        State::Retry => 4,
        State::Completed => 5,
        State::Archived => 6,
    }
}

pub(super) fn state(number: i64) -> Result<State> {
    let known = State::ALL.into_iter().find(|state| self::number(*state) == number);
    known.ok_or_else(|| Error::internal(format!("a task in the unknown state {number}")))
}

fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Begins an insert of tasks; one that is there already (by id or unique key) is left out.
pub(super) fn insert() -> InsertStatement {
    let mut insert = Query::insert();
    let columns = COLUMNS.into_iter().chain(["payload", "result"]);
    insert.into_table(TABLE).columns(columns);
    insert.on_conflict(OnConflict::new().do_nothing_on(["id"]).to_owned());
    insert
}

/// Values of an insert, in its order.
pub(super) fn values(task: &Record, payload: &[u8]) -> Vec<SimpleExpr> {
    let mut values = vec![
        task.id.to_string().into(),
        task.queue.as_str().into(),
        task.kind.as_str().into(),
    ];
    values.push(i64::from(task.priority).into());
    values.push(number(task.state).into());
    values.push(micros(task.due_at).into());
    for n in [task.n_failed, task.retries_max] {
        values.push(i64::from(n).into());
    }
    for duration in [task.backoff.base, task.backoff.max, task.timeout] {
        values.push(span(duration).into());
    }
    values.push(task.deadline.map(micros).into());
    values.push(span(task.retention).into());
    values.push(task.unique.as_ref().map(|unique| unique.key.clone()).into());
    values.push(task.unique.as_ref().map(|unique| micros(unique.until)).into());
    values.push(task.fence.into());
    values.push(task.lease_until.map(micros).into());
    values.push(i64::from(task.is_cancelled).into());
    values.push(micros(task.enqueued_at).into());
    values.push(task.finished_at.map(micros).into());
    values.push(task.keep_until.map(micros).into());
    values.push(task.last_error.clone().into());
    values.push(payload.to_vec().into());
    values.push(Vec::<u8>::new().into());
    values
}

/// Stores what of a task may change.
pub(super) fn update(task: &Record) -> UpdateStatement {
    let mut update = Query::update();
    update
        .table(TABLE)
        .value("state", number(task.state))
        .value("due_at", micros(task.due_at))
        .value("n_failed", i64::from(task.n_failed))
        .value("fence", task.fence)
        .value("lease_until", task.lease_until.map(micros))
        .value("is_cancelled", i64::from(task.is_cancelled))
        .value("unique_key", task.unique.as_ref().map(|unique| unique.key.clone()))
        .value("unique_until", task.unique.as_ref().map(|unique| micros(unique.until)))
        .value("finished_at", task.finished_at.map(micros))
        .value("keep_until", task.keep_until.map(micros))
        .value("last_error", task.last_error.clone())
        .and_where(Expr::col("id").eq(task.id.to_string()));
    update
}

/// Reads a row with [`COLUMNS`].
pub(super) fn read(row: &QueryResult) -> Result<Record> {
    let fields = Fields(row);
    let unique: (Option<String>, Option<i64>) = (fields.get("unique_key")?, fields.get("unique_until")?);
    Ok(Record {
        id: TaskId::from_str(&fields.get::<String>("id")?)?,
        queue: QueueName::from_str(&fields.get::<String>("queue")?)?,
        kind: fields.get("kind")?,
        priority: fields.count("priority")?.try_into().unwrap_or(u8::MAX),
        state: state(fields.get("state")?)?,
        due_at: timestamp(fields.get("due_at")?),
        n_failed: fields.count("n_failed")?,
        retries_max: fields.count("retries_max")?,
        backoff: Backoff {
            base: fields.span("backoff_base_us")?,
            max: fields.span("backoff_max_us")?,
        },
        timeout: fields.span("timeout_us")?,
        deadline: fields.get::<Option<i64>>("deadline_at")?.map(timestamp),
        retention: fields.span("retention_us")?,
        unique: unique.0.zip(unique.1).map(|(key, until)| Unique {
            key,
            until: timestamp(until),
        }),
        fence: fields.get("fence")?,
        lease_until: fields.get::<Option<i64>>("lease_until")?.map(timestamp),
        is_cancelled: fields.get::<i64>("is_cancelled")? != 0,
        enqueued_at: timestamp(fields.get("enqueued_at")?),
        finished_at: fields.get::<Option<i64>>("finished_at")?.map(timestamp),
        keep_until: fields.get::<Option<i64>>("keep_until")?.map(timestamp),
        last_error: fields.get("last_error")?,
    })
}

struct Fields<'a>(&'a QueryResult);

impl Fields<'_> {
    fn get<T: mosaic_sql::sea_orm::TryGetable>(&self, name: &str) -> Result<T> {
        self.0.try_get("", name).map_err(|error: DbErr| into_error(error))
    }

    fn count(&self, name: &str) -> Result<u32> {
        Ok(u32::try_from(self.get::<i64>(name)?).unwrap_or(u32::MAX))
    }

    fn span(&self, name: &str) -> Result<Duration> {
        Ok(Duration::from_micros(self.get::<i64>(name)?.unsigned_abs()))
    }
}
