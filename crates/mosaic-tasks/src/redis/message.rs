//! What is stored of a task: asynq's message, and what asynq does not know beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic_core::Timestamp;
use prost::Message as _;

use crate::model::{Record, State, Turn, admit};
use crate::options::{Backoff, Group, KeyLimit, Rate};

/// asynq's `asynq.TaskMessage`, in the field `msg`; times are whole seconds.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskMessage {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    #[prost(string, tag = "4")]
    pub(super) queue: String,
    #[prost(int32, tag = "5")]
    pub(super) retry: i32,
    #[prost(int32, tag = "6")]
    pub(super) retried: i32,
    #[prost(string, tag = "7")]
    pub(super) error_msg: String,
    #[prost(int64, tag = "8")]
    pub(super) timeout: i64,
    #[prost(int64, tag = "9")]
    pub(super) deadline: i64,
    #[prost(string, tag = "10")]
    pub(super) unique_key: String,
    #[prost(int64, tag = "11")]
    pub(super) last_failed_at: i64,
    #[prost(int64, tag = "12")]
    pub(super) retention: i64,
    #[prost(int64, tag = "13")]
    pub(super) completed_at: i64,
    #[prost(string, tag = "14")]
    pub(super) group_key: String,
    #[prost(btree_map = "string, string", tag = "15")]
    pub(super) headers: BTreeMap<String, String>,
}

/// What asynq does not know, or less exactly, in the field `x`; times are microseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Extra {
    #[prost(uint32, tag = "1")]
    pub(super) priority: u32,
    #[prost(uint64, tag = "2")]
    pub(super) backoff_base: u64,
    #[prost(uint64, tag = "3")]
    pub(super) backoff_max: u64,
    #[prost(uint64, tag = "4")]
    pub(super) timeout: u64,
    #[prost(sint64, optional, tag = "5")]
    pub(super) deadline: Option<i64>,
    #[prost(uint64, tag = "6")]
    pub(super) retention: u64,
    #[prost(string, tag = "7")]
    pub(super) unique_key: String,
    #[prost(uint32, tag = "8")]
    pub(super) retries_max: u32,
    #[prost(uint32, tag = "9")]
    pub(super) n_predecessors: u32,
    #[prost(uint32, tag = "10")]
    pub(super) n_awaited: u32,
    #[prost(uint32, tag = "11")]
    pub(super) n_merged: u32,
    #[prost(message, optional, tag = "12")]
    pub(super) group: Option<ExtraGroup>,
    #[prost(message, optional, tag = "13")]
    pub(super) limit: Option<ExtraLimit>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExtraGroup {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    grace: u64,
    #[prost(uint64, tag = "3")]
    max_delay: u64,
    #[prost(uint32, tag = "4")]
    max_size: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExtraLimit {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint32, optional, tag = "2")]
    concurrency: Option<u32>,
    #[prost(uint32, tag = "3")]
    rate_n: u32,
    #[prost(uint64, tag = "4")]
    rate_per: u64,
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn secs(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX)
}

impl Extra {
    pub(super) fn of(task: &Record) -> Self {
        Self {
            priority: u32::from(task.priority),
            backoff_base: micros(task.backoff.base),
            backoff_max: micros(task.backoff.max),
            timeout: micros(task.timeout),
            deadline: task.deadline.map(Timestamp::as_micros),
            retention: micros(task.retention),
            unique_key: task
                .unique
                .as_ref()
                .map_or_else(String::new, |unique| unique.key.clone()),
            retries_max: task.retries_max,
            n_predecessors: task.n_predecessors,
            n_awaited: task.n_awaited,
            n_merged: task.n_merged,
            group: task.group.as_ref().map(|group| ExtraGroup {
                key: group.key.clone(),
                grace: micros(group.grace),
                max_delay: micros(group.max_delay),
                max_size: group.max_size,
            }),
            limit: task.limit.as_ref().map(|limit| ExtraLimit {
                key: limit.key.clone(),
                concurrency: limit.concurrency,
                rate_n: limit.rate.map_or(0, |rate| rate.n),
                rate_per: limit.rate.map_or(0, |rate| micros(rate.per)),
            }),
        }
    }

    /// Returns what a task has that asynq enqueued: its options, ours where it has none.
    pub(super) fn of_message(message: &TaskMessage) -> Self {
        let after = |secs: i64| u64::try_from(secs).unwrap_or(0).saturating_mul(1_000_000);
        let backoff = Backoff::default();
        let timeout = match message.timeout {
            // asynq's own default, which a task with a deadline does not have.
            0 => 1800,
            secs => secs,
        };
        Self {
            backoff_base: micros(backoff.base),
            backoff_max: micros(backoff.max),
            timeout: after(timeout),
            deadline: (message.deadline > 0).then(|| message.deadline.saturating_mul(1_000_000)),
            retention: after(message.retention),
            retries_max: u32::try_from(message.retry).unwrap_or(0),
            ..Self::default()
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff {
            base: Duration::from_micros(self.backoff_base),
            max: Duration::from_micros(self.backoff_max),
        }
    }

    pub(super) fn group(&self) -> Option<Group> {
        self.group.as_ref().map(|group| Group {
            key: group.key.clone(),
            grace: Duration::from_micros(group.grace),
            max_delay: Duration::from_micros(group.max_delay),
            max_size: group.max_size,
        })
    }

    pub(super) fn limit(&self) -> Option<KeyLimit> {
        self.limit.as_ref().map(|limit| KeyLimit {
            key: limit.key.clone(),
            concurrency: limit.concurrency,
            rate: (limit.rate_n > 0).then(|| Rate {
                n: limit.rate_n,
                per: Duration::from_micros(limit.rate_per),
            }),
        })
    }
}

impl TaskMessage {
    /// Returns the message of `task`, which has the id `id` in the store.
    pub(super) fn of(task: &Record, id: &str, payload: Vec<u8>) -> Self {
        Self {
            kind: task.kind.clone(),
            payload,
            id: id.to_owned(),
            queue: task.queue.to_string(),
            retry: i32::try_from(task.retries_max).unwrap_or(i32::MAX),
            timeout: secs(task.timeout),
            deadline: task.deadline.map_or(0, Timestamp::as_secs),
            retention: secs(task.retention),
            group_key: task.group.as_ref().map_or_else(String::new, |_| group_name(task)),
            headers: task.headers.clone(),
            ..Self::default()
        }
        .after(task, task.enqueued_at)
    }

    /// Returns the message after something happened to the task at `now`.
    pub(super) fn after(mut self, task: &Record, now: Timestamp) -> Self {
        let n_failed = i32::try_from(task.n_failed).unwrap_or(i32::MAX);
        if n_failed > self.retried {
            self.last_failed_at = now.as_secs();
        }
        self.retried = n_failed;
        self.error_msg = task.last_error.clone().unwrap_or_default();
        let completed_at = task.finished_at.filter(|_| task.state == State::Completed);
        self.completed_at = completed_at.map_or(0, Timestamp::as_secs);
        self
    }
}

/// Returns what asynq calls the group of `task`: kinds never gather together.
pub(super) fn group_name(task: &Record) -> String {
    let kind = task.kind.replace('%', "%25").replace(':', "%3a");
    let key = task.group.as_ref().map_or("", |group| group.key.as_str());
    format!("{kind}:{key}")
}

/// Returns a limit as scripts read it: most, when to look again, interval, burst, key. The rules are asked rather than
/// repeated: what they say of a key that was used just now, and of one that is used up, are interval and burst.
pub(super) fn limit_text(limit: &KeyLimit) -> String {
    let now = Timestamp::from_secs(1_000_000_000);
    let far = now.plus(Duration::from_secs(1 << 40));
    let rated = KeyLimit {
        concurrency: None,
        ..limit.clone()
    };
    let full = KeyLimit {
        concurrency: Some(0),
        rate: None,
        key: String::new(),
    };
    let interval = match admit(&rated, 0, now, now) {
        Turn::Now(time) | Turn::Later(time) => time.since(now),
    };
    let lead = match admit(&rated, 0, far, now) {
        Turn::Later(at) => far.since(at),
        Turn::Now(_) => Duration::ZERO,
    };
    let again = match admit(&full, 0, now, now) {
        Turn::Later(at) | Turn::Now(at) => at.since(now),
    };
    let most = limit.concurrency.unwrap_or(0);
    let [again, interval, lead] = [again, interval, lead].map(micros);
    format!("{most} {again} {interval} {lead} {}", limit.key)
}

/// Returns the bytes of `message` and `extra`.
pub(super) fn encode(message: &TaskMessage, extra: &Extra) -> (Vec<u8>, Vec<u8>) {
    (message.encode_to_vec(), extra.encode_to_vec())
}
