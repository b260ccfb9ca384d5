//! How a task becomes a row and back.
//!
//! What is asked for in a query has a column; what only the rules and handlers read and never changes is JSON in `extra`.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use mosaic_core::{Error, Result};
use mosaic_sql::sea_orm::sea_query::{InsertStatement, OnConflict, Query, SimpleExpr, Value};
use mosaic_sql::sea_orm::{DbErr, QueryResult, TryGetable};
use mosaic_sql::{into_error, micros, timestamp};
use serde::{Deserialize, Serialize};

use super::schema::TABLE;
use crate::id::{QueueName, TaskId};
use crate::model::{Record, State, Unique, Wait};
use crate::options::{Backoff, Group, KeyLimit};

/// What a [`Record`] is made of.
pub(super) const COLUMNS: [&str; 26] = [
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
    "waits_for",
    "n_awaited",
    "is_awaited",
    "extra",
];

/// Those of them that change, in the order of [`mutable`].
pub(super) const MUTABLE: [&str; 14] = [
    "state",
    "due_at",
    "n_failed",
    "fence",
    "lease_until",
    "is_cancelled",
    "unique_key",
    "unique_until",
    "finished_at",
    "keep_until",
    "last_error",
    "waits_for",
    "n_awaited",
    "is_awaited",
];

/// See the module documentation.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Extra {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    n_predecessors: u32,
    #[serde(skip_serializing_if = "is_zero")]
    n_merged: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<KeyLimit>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
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
        State::Waiting => 7,
    }
}

pub(super) fn wait_number(wait: Wait) -> i64 {
    match wait {
        Wait::Predecessors => 1,
        Wait::Group => 2,
        Wait::Turn => 3,
    }
}

fn wait(number: i64) -> Result<Wait> {
    let all = [Wait::Predecessors, Wait::Group, Wait::Turn];
    let known = all.into_iter().find(|wait| wait_number(*wait) == number);
    known.ok_or_else(|| Error::internal(format!("a task that waits for the unknown {number}")))
}

/// Returns what tasks with one limit have in `wait_key`. Keys hold no control characters.
pub(super) fn limit_key(key: &str) -> String {
    format!("k\n{key}")
}

/// Returns what tasks of one group have in `wait_key`.
pub(super) fn group_key(queue: &QueueName, kind: &str, key: &str) -> String {
    format!("g\n{queue}\n{kind}\n{key}")
}

fn wait_key(task: &Record) -> Option<String> {
    match (&task.group, &task.limit) {
        (Some(group), _) => Some(group_key(&task.queue, &task.kind, &group.key)),
        (None, limit) => limit.as_ref().map(|limit| limit_key(&limit.key)),
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
    let columns = COLUMNS.into_iter().chain(["wait_key", "payload", "result"]);
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
    values.push(task.waits_for.map(wait_number).into());
    values.push(i64::from(task.n_awaited).into());
    values.push(i64::from(task.is_awaited).into());
    values.push(extra(task).into());
    values.push(wait_key(task).into());
    values.push(payload.to_vec().into());
    values.push(Vec::<u8>::new().into());
    values
}

fn extra(task: &Record) -> String {
    let extra = Extra {
        headers: task.headers.clone(),
        n_predecessors: task.n_predecessors,
        n_merged: task.n_merged,
        group: task.group.clone(),
        limit: task.limit.clone(),
    };
    serde_json::to_string(&extra).expect("maps of texts and numbers are JSON")
}

/// Returns what of a task may change, in the order of [`MUTABLE`].
pub(super) fn mutable(task: &Record) -> [Value; 14] {
    [
        number(task.state).into(),
        micros(task.due_at).into(),
        i64::from(task.n_failed).into(),
        task.fence.into(),
        task.lease_until.map(micros).into(),
        i64::from(task.is_cancelled).into(),
        task.unique.as_ref().map(|unique| unique.key.clone()).into(),
        task.unique.as_ref().map(|unique| micros(unique.until)).into(),
        task.finished_at.map(micros).into(),
        task.keep_until.map(micros).into(),
        task.last_error.clone().into(),
        task.waits_for.map(wait_number).into(),
        i64::from(task.n_awaited).into(),
        i64::from(task.is_awaited).into(),
    ]
}

/// Reads a row with [`COLUMNS`].
pub(super) fn read(row: &QueryResult) -> Result<Record> {
    let fields = Fields(row);
    let extra: Extra = serde_json::from_str(&fields.get::<String>("extra")?).map_err(Error::internal)?;
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
        headers: extra.headers,
        waits_for: fields.get::<Option<i64>>("waits_for")?.map(wait).transpose()?,
        n_predecessors: extra.n_predecessors,
        n_awaited: fields.count("n_awaited")?,
        is_awaited: fields.get::<i64>("is_awaited")? != 0,
        group: extra.group,
        n_merged: extra.n_merged,
        limit: extra.limit,
    })
}

/// Values of a row by name.
pub(super) struct Fields<'a>(pub(super) &'a QueryResult);

impl Fields<'_> {
    pub(super) fn get<T: TryGetable>(&self, name: &str) -> Result<T> {
        self.0.try_get("", name).map_err(|error: DbErr| into_error(error))
    }

    pub(super) fn count(&self, name: &str) -> Result<u32> {
        Ok(u32::try_from(self.get::<i64>(name)?).unwrap_or(u32::MAX))
    }

    pub(super) fn span(&self, name: &str) -> Result<Duration> {
        Ok(Duration::from_micros(self.get::<i64>(name)?.unsigned_abs()))
    }
}
