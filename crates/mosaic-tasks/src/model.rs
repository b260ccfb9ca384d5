//! The life of a task as pure functions: from a task, an event and the time to the task after it.
//!
//! ```text
//! Scheduled -> Pending -> Active -> Completed (or gone, without retention)
//!                 ^         |
//!                 +- Retry <+-> Archived
//! ```
//! Engines fetch a task, ask [`apply`] and store the answer; none has rules of its own, so all of them agree. A task only
//! goes by succeeding, by a person's [`Event::Delete`], or by having been kept for its time after it ended.
//! The fencing number rises with each claim: what an earlier holder reports is refused by [`holds`].

use std::time::Duration;

use mosaic_core::{Error, Timestamp};

use crate::id::{QueueName, TaskId};
use crate::options::{Backoff, NewTask, When};

/// How long archived tasks are kept for somebody to look at.
pub const ARCHIVED_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Of the text of a failure this many bytes are kept.
const ERROR_MAX: usize = 1000;

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Due, waits for a worker.
    Pending,
    /// Not due yet.
    Scheduled,
    /// A worker has it, for as long as its lease lasts.
    Active,
    /// Failed, waits for its next attempt.
    Retry,
    /// Succeeded, kept for its result.
    Completed,
    /// Given up: out of retries, cancelled, or past its deadline.
    Archived,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Scheduled,
        Self::Active,
        Self::Retry,
        Self::Completed,
        Self::Archived,
    ];
}

/// A key that no other task holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key.
    pub key: String,
    /// Until when, if the task does not end before.
    pub until: Timestamp,
}

/// A task without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Id.
    pub id: TaskId,
    /// Queue.
    pub queue: QueueName,
    /// Which handler runs it.
    pub kind: String,
    /// Higher goes first.
    pub priority: u8,
    /// Where it is in its life.
    pub state: State,
    /// When it may run.
    pub due_at: Timestamp,
    /// Attempts that failed or whose lease ran out.
    pub n_failed: u32,
    /// How many of them are followed by another attempt.
    pub retries_max: u32,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// Longest time of one attempt.
    pub timeout: Duration,
    /// After this no attempt is begun.
    pub deadline: Option<Timestamp>,
    /// How long it is kept after it succeeded.
    pub retention: Duration,
    /// The key it holds.
    pub unique: Option<Unique>,
    /// Rises with each claim.
    pub fence: i64,
    /// Until when its worker may be trusted to have it.
    pub lease_until: Option<Timestamp>,
    /// Has somebody asked to cancel it while it ran?
    pub is_cancelled: bool,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it was completed or archived.
    pub finished_at: Option<Timestamp>,
    /// Until when it is kept now that it has ended.
    pub keep_until: Option<Timestamp>,
    /// Text of the last failure.
    pub last_error: Option<String>,
}

/// What may happen to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its time may have come.
    Due,
    /// A worker takes it for `lease`.
    Claim {
        /// Length of the lease.
        lease: Duration,
    },
    /// Its worker is alive and keeps it for `lease` from now.
    Extend {
        /// Length of the lease.
        lease: Duration,
    },
    /// The attempt succeeded.
    Succeed,
    /// The attempt failed.
    Fail {
        /// What is kept of the error.
        error: String,
        /// Is another attempt useless?
        is_final: bool,
        /// Random, for the pause.
        roll: u32,
    },
    /// The worker gives it back without having failed (it shuts down).
    Release,
    /// Its lease may have run out.
    Expire {
        /// Random, for the pause.
        roll: u32,
    },
    /// Nobody wants it any more.
    Cancel,
    /// Somebody wants it at once, whatever its time and its failures.
    RunNow,
    /// Somebody puts it aside.
    Archive,
    /// Somebody removes it.
    Delete,
    /// The time for which it is kept may be over.
    Purge,
}

/// What an event leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The task as it is now.
    Kept(Box<Record>),
    /// The task is gone.
    Gone,
}

/// The event does not happen to a task in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {0:?} does not allow this")]
pub struct Refused(pub State);

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::failed_precondition("TASK_STATE", refused.to_string())
    }
}

/// Returns the task that `new` becomes when it is enqueued at `now`.
pub fn enqueued(new: &NewTask, now: Timestamp) -> Record {
    let options = new.options();
    let due_at = match options.when {
        When::Now => now,
        When::In(pause) => now.plus(pause),
        When::At(time) => time,
    };
    Record {
        id: new.id(),
        queue: options.queue.clone(),
        kind: new.kind().to_owned(),
        priority: options.priority,
        state: if due_at > now { State::Scheduled } else { State::Pending },
        due_at,
        n_failed: 0,
        retries_max: options.retries_max,
        backoff: options.backoff,
        timeout: options.timeout,
        deadline: options.deadline,
        retention: options.retention,
        unique: options.unique.as_ref().map(|unique| Unique {
            key: unique.key.clone(),
            until: now.plus(unique.hold),
        }),
        fence: 0,
        lease_until: None,
        is_cancelled: false,
        enqueued_at: now,
        finished_at: None,
        keep_until: None,
        last_error: None,
    }
}

/// Has the claim that was given the number `fence` still got the task?
pub fn holds(task: &Record, fence: i64) -> bool {
    task.state == State::Active && task.fence == fence
}

/// Returns what `event` makes of `task` at `now`.
///
/// # Errors
/// [`Refused`] where the event does not fit: nothing changes.
pub fn apply(task: &Record, event: &Event, now: Timestamp) -> Result<Next, Refused> {
    use State::{Active, Archived, Completed, Pending, Retry, Scheduled};
    let next = match (task.state, event) {
        (Scheduled | Retry, Event::Due) if task.due_at <= now => waiting(task, Pending, task.due_at),
        (Pending, Event::Claim { .. }) if is_too_late(task, now) => archived(task, now, "the deadline has passed"),
        (Pending, Event::Claim { lease }) => claimed(task, now.plus(*lease)),
        (Active, Event::Extend { lease }) => Record {
            lease_until: Some(now.plus(*lease)),
            ..task.clone()
        },
        (Active, Event::Succeed) if task.retention.is_zero() => return Ok(Next::Gone),
        (Active, Event::Succeed) => ended(task, Completed, now, task.retention),
        (Active, Event::Fail { error, is_final, roll }) => failed(task, error, *is_final, *roll, now),
        (Active, Event::Expire { roll }) if task.lease_until.is_none_or(|until| until <= now) => {
            failed(task, "the lease ran out: its worker died or hung", false, *roll, now)
        }
        (Active, Event::Release) if task.is_cancelled => archived(task, now, "cancelled"),
        (Active, Event::Release) => waiting(task, Pending, task.due_at),
        (Active, Event::Cancel) => Record {
            is_cancelled: true,
            ..task.clone()
        },
        (Pending | Scheduled | Retry, Event::Cancel) => archived(task, now, "cancelled"),
        (Pending, Event::RunNow) => task.clone(),
        (Scheduled | Retry | Archived, Event::RunNow) => again(task, now),
        (Pending | Scheduled | Retry, Event::Archive) => {
            let why = task.last_error.clone().unwrap_or_else(|| "archived".to_owned());
            archived(task, now, &why)
        }
        (Pending | Scheduled | Retry | Completed | Archived, Event::Delete) => return Ok(Next::Gone),
        (Completed | Archived, Event::Purge) if task.keep_until.is_some_and(|until| until <= now) => {
            return Ok(Next::Gone);
        }
        (state, _) => return Err(Refused(state)),
    };
    Ok(Next::Kept(Box::new(next)))
}

fn is_too_late(task: &Record, now: Timestamp) -> bool {
    task.deadline.is_some_and(|deadline| deadline <= now)
}

fn claimed(task: &Record, until: Timestamp) -> Record {
    Record {
        state: State::Active,
        fence: task.fence + 1,
        lease_until: Some(until),
        ..task.clone()
    }
}

fn waiting(task: &Record, state: State, due_at: Timestamp) -> Record {
    Record {
        state,
        due_at,
        lease_until: None,
        ..task.clone()
    }
}

fn again(task: &Record, now: Timestamp) -> Record {
    Record {
        n_failed: 0,
        is_cancelled: false,
        finished_at: None,
        keep_until: None,
        ..waiting(task, State::Pending, now)
    }
}

fn failed(task: &Record, error: &str, is_final: bool, roll: u32, now: Timestamp) -> Record {
    let task = Record {
        n_failed: task.n_failed.saturating_add(1),
        last_error: Some(shortened(error)),
        ..task.clone()
    };
    let due_at = now.plus(task.backoff.pause(task.n_failed, roll));
    if is_final || task.is_cancelled || task.n_failed > task.retries_max || is_too_late(&task, due_at) {
        return ended(&task, State::Archived, now, ARCHIVED_FOR);
    }
    waiting(&task, State::Retry, due_at)
}

fn archived(task: &Record, now: Timestamp, why: &str) -> Record {
    Record {
        last_error: Some(shortened(why)),
        ..ended(task, State::Archived, now, ARCHIVED_FOR)
    }
}

/// Whoever has ended holds nothing any more.
fn ended(task: &Record, state: State, now: Timestamp, keep: Duration) -> Record {
    Record {
        state,
        unique: None,
        lease_until: None,
        finished_at: Some(now),
        keep_until: Some(now.plus(keep)),
        ..task.clone()
    }
}

/// PostgreSQL stores no NUL in a text.
fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_MAX)].replace('\0', " ")
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
