//! Tasks as scripts return them.

use std::time::Duration;

use mosaic_core::{Error, Result, Timestamp};
use prost::Message as _;
use redis::Value;

use super::message::{Extra, TaskMessage};
use crate::engine::Earlier;
use crate::id::{QueueName, TaskId};
use crate::model::{ARCHIVED_FOR, Record, State, Unique, Wait};

/// A task with what is needed to change it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Its id in the store: ours has 32 digits, asynq's may be anything.
    pub(super) raw: String,
    /// Version and state: who changes it expects them.
    pub(super) expect: String,
    pub(super) message: TaskMessage,
    pub(super) record: Record,
    /// What the script sent with it.
    pub(super) rest: Value,
}

pub(super) fn state_name(task: &Record) -> &'static str {
    match (task.state, task.waits_for) {
        (State::Pending, _) => "pending",
        (State::Scheduled, _) => "scheduled",
        (State::Active, _) => "active",
        (State::Retry, _) => "retry",
        (State::Completed, _) => "completed",
        (State::Archived, _) => "archived",
        (State::Waiting, Some(Wait::Group)) => "aggregating",
        (State::Waiting, _) => "waiting",
    }
}

pub(super) fn wait_name(task: &Record) -> &'static str {
    match task.waits_for {
        Some(Wait::Predecessors) => "earlier",
        Some(Wait::Group) => "group",
        Some(Wait::Turn) => "turn",
        None => "",
    }
}

fn state_of(name: &str, waits_for: &str) -> Option<(State, Option<Wait>)> {
    let wait = match waits_for {
        "earlier" => Some(Wait::Predecessors),
        "turn" => Some(Wait::Turn),
        _ => Some(Wait::Group),
    };
    Some(match name {
        "pending" => (State::Pending, None),
        "scheduled" => (State::Scheduled, None),
        "active" => (State::Active, None),
        "retry" => (State::Retry, None),
        "completed" => (State::Completed, None),
        "archived" => (State::Archived, None),
        "waiting" | "aggregating" => (State::Waiting, wait),
        _ => return None,
    })
}

/// What cannot be read.
pub(super) fn garbled(what: &'static str) -> Error {
    Error::internal("the store of tasks answered what was not asked").caused_by(what)
}

/// Takes an answer apart.
pub(super) fn items(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(garbled("not a list")),
    }
}

/// Reads a value as `T`; what is missing as its default.
pub(super) fn plain<T: redis::FromRedisValue + Default>(value: Value) -> Result<T> {
    if value == Value::Nil {
        return Ok(T::default());
    }
    T::from_redis_value(value).map_err(|cause| garbled("a value").caused_by(cause))
}

/// Reads a time in microseconds.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let whole = text.parse().ok();
    // Times after all times are a little more than fits.
    let micros = whole.or_else(|| text.parse::<f64>().ok().map(|micros| micros as i64))?;
    Some(Timestamp::from_micros(micros))
}

pub(super) fn now(value: Value) -> Result<Timestamp> {
    let text: String = plain(value)?;
    time(&text).ok_or_else(|| garbled("no time"))
}

impl Stored {
    /// Reads a task; `None` if it is not there, or cannot be read, which is logged.
    pub(super) fn read(value: Value) -> Result<Option<Self>> {
        let mut fields = items(value)?;
        if fields.is_empty() {
            return Ok(None);
        }
        let rest = fields.pop().unwrap_or(Value::Nil);
        let mut texts = Vec::with_capacity(fields.len());
        for field in fields {
            texts.push(match field {
                Value::Int(number) => number.to_string().into_bytes(),
                field => plain::<Vec<u8>>(field)?,
            });
        }
        let texts: [Vec<u8>; 16] = texts.try_into().map_err(|_| garbled("not a task"))?;
        let raw = String::from_utf8_lossy(&texts[1]).into_owned();
        let read = Self::of(texts, rest);
        if read.is_none() {
            tracing::warn!(task.raw_id = raw, "a task in Redis cannot be read");
        }
        Ok(read)
    }

    fn of(texts: [Vec<u8>; 16], rest: Value) -> Option<Self> {
        let [queue, raw, name, state, msg, x, others @ ..] = texts;
        let others = others.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let queue: QueueName = String::from_utf8(queue).ok()?.parse().ok()?;
        let id: TaskId = String::from_utf8(name).ok()?.parse().ok()?;
        let state = String::from_utf8(state).ok()?;
        let message = TaskMessage::decode(msg.as_slice()).ok()?;
        let (extra, is_ours) = match x.as_slice() {
            [] => (Extra::of_message(&message), false),
            x => (Extra::decode(x).ok()?, true),
        };
        let [
            version,
            fence,
            enqueued,
            due,
            waits,
            cancelled,
            held_until,
            pending_since,
            awaited,
            at,
        ] = others;
        let (state, waits_for, expect) = {
            let (known, waits_for) = state_of(&state, &waits)?;
            (known, waits_for, format!("{version}/{fence}:{state}"))
        };
        let pending_since = pending_since
            .get(..pending_since.len().saturating_sub(3))
            .and_then(time);
        let times = Times::of(state, time(&enqueued).or(pending_since), time(&due), time(&at), &extra);
        let record = Record {
            id,
            queue,
            state,
            waits_for,
            fence: fence.parse().unwrap_or(0),
            is_cancelled: !cancelled.is_empty(),
            is_awaited: !awaited.is_empty(),
            unique: unique(&extra, &message, is_ours, &held_until),
            ..record(&message, &extra, &times)?
        };
        Some(Self {
            raw: String::from_utf8(raw).ok()?,
            expect,
            message,
            record,
            rest,
        })
    }
}

/// When what happens, or happened, to a task.
struct Times {
    enqueued: Timestamp,
    due: Timestamp,
    lease_until: Option<Timestamp>,
    finished: Option<Timestamp>,
    keep_until: Option<Timestamp>,
}

impl Times {
    /// `at` is the time of the state, see the scripts.
    fn of(
        state: State,
        enqueued: Option<Timestamp>,
        due: Option<Timestamp>,
        at: Option<Timestamp>,
        extra: &Extra,
    ) -> Self {
        let enqueued = enqueued.or(at).unwrap_or_default();
        let retention = Duration::from_micros(extra.retention);
        let (finished, keep_until) = match state {
            State::Completed => (at.map(|at| at.minus(retention)), at),
            State::Archived => (at, at.map(|at| at.plus(ARCHIVED_FOR))),
            _ => (None, None),
        };
        let is_timed = matches!(state, State::Scheduled | State::Retry);
        Self {
            enqueued,
            due: due.or(at.filter(|_| is_timed)).unwrap_or(enqueued),
            lease_until: at.filter(|_| state == State::Active),
            finished,
            keep_until,
        }
    }
}

/// Returns what of a task is in the message, its extras and its times.
fn record(message: &TaskMessage, extra: &Extra, times: &Times) -> Option<Record> {
    Some(Record {
        id: TaskId::MIN,
        queue: message.queue.parse().unwrap_or_default(),
        kind: message.kind.clone(),
        priority: u8::try_from(extra.priority).ok()?,
        state: State::Pending,
        due_at: times.due,
        n_failed: u32::try_from(message.retried).unwrap_or(0),
        retries_max: extra.retries_max,
        backoff: extra.backoff(),
        timeout: Duration::from_micros(extra.timeout),
        deadline: extra.deadline.map(Timestamp::from_micros),
        retention: Duration::from_micros(extra.retention),
        unique: None,
        fence: 0,
        lease_until: times.lease_until,
        is_cancelled: false,
        enqueued_at: times.enqueued,
        finished_at: times.finished,
        keep_until: times.keep_until,
        last_error: Some(message.error_msg.clone()).filter(|error| !error.is_empty()),
        headers: message.headers.clone(),
        waits_for: None,
        n_predecessors: extra.n_predecessors,
        n_awaited: extra.n_awaited,
        is_awaited: false,
        group: extra.group(),
        n_merged: extra.n_merged,
        limit: extra.limit(),
    })
}

/// Returns the key that a task holds: ours says until when; asynq's ends by itself.
fn unique(extra: &Extra, message: &TaskMessage, is_ours: bool, held_until: &str) -> Option<Unique> {
    let ours = time(held_until).map(|until| Unique {
        key: extra.unique_key.clone(),
        until,
    });
    let theirs = || Unique {
        key: message.unique_key.clone(),
        until: Timestamp::from_micros(i64::MAX),
    };
    ours.or_else(|| (!is_ours && !message.unique_key.is_empty()).then(theirs))
}

/// Reads what came before a task: ids and, after a plus, results.
pub(super) fn earlier(value: Value) -> Result<Vec<Earlier>> {
    let mut all = Vec::new();
    let mut fields = items(value)?.into_iter();
    while let (Some(id), Some(result)) = (fields.next(), fields.next()) {
        let id: String = plain(id)?;
        let result: Vec<u8> = plain(result)?;
        all.push(Earlier {
            id: id.parse()?,
            result: result.strip_prefix(b"+").map(<[u8]>::to_vec),
        });
    }
    all.sort_by_key(|earlier| earlier.id);
    Ok(all)
}
