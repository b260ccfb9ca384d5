//! The life of a task as pure functions: from a task, an event and the time to the task after it.
//!
//! ```text
//! Waiting -> Scheduled -> Pending -> Active -> Completed (or gone, without retention)
//!                            ^         |
//!                            +- Retry <+-> Archived
//! ```
//! A task only goes by succeeding, by being merged with its group, by a person's [`Event::Delete`], or after it ended: when it
//! was kept for its time, or there are too many.
//! The fencing number rises with each claim: what an earlier holder reports is refused by [`holds`].

use std::time::Duration;

use mosaic_core::{Error, Timestamp};

use super::record::{Record, State, Unique, Wait};
use crate::id::TaskId;
use crate::new_task::NewTask;
use crate::options::When;

/// How long archived tasks are kept for somebody to look at.
pub const ARCHIVED_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Of the text of a failure this many bytes are kept.
const ERROR_MAX: usize = 1000;

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
    /// It has ended, and there are too many like it.
    Evict,
    /// A task that had to succeed before it has.
    PredecessorSucceeded,
    /// A task that had to succeed before it will not any more.
    PredecessorGone {
        /// Which.
        id: TaskId,
    },
    /// Its key allows no more at the moment.
    Hold,
    /// Its key may allow it now.
    Turn,
    /// It becomes a part of the task of its group.
    Merge,
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

/// Returns the task that `new` becomes when it is enqueued at `now`, while `n_awaited` of its predecessors have not succeeded.
pub fn enqueued(new: &NewTask, n_awaited: u32, now: Timestamp) -> Record {
    let options = new.options();
    let due_at = match options.when {
        When::Now => now,
        When::In(pause) => now.plus(pause),
        When::At(time) => time,
    };
    let waits_for = match &options.group {
        _ if n_awaited > 0 => Some(Wait::Predecessors),
        Some(_) => Some(Wait::Group),
        None => None,
    };
    Record {
        id: new.id(),
        queue: options.queue.clone(),
        kind: new.kind().to_owned(),
        priority: options.priority,
        state: if waits_for.is_some() {
            State::Waiting
        } else {
            free(due_at, now)
        },
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
        headers: options.headers.clone(),
        waits_for,
        n_predecessors: u32::try_from(new.predecessors().len()).unwrap_or(u32::MAX),
        n_awaited,
        is_awaited: false,
        group: options.group.clone(),
        n_merged: 0,
        limit: options.limit.clone(),
    }
}

/// Where a task is that waits for nothing but its time.
fn free(due_at: Timestamp, now: Timestamp) -> State {
    if due_at > now { State::Scheduled } else { State::Pending }
}

/// Has the claim that was given the number `fence` still got the task?
pub fn holds(task: &Record, fence: i64) -> bool {
    task.state == State::Active && task.fence == fence
}

/// May somebody give `task` another payload?
///
/// # Errors
/// [`Refused`] if it runs, or has succeeded.
pub fn may_change(task: &Record) -> Result<(), Refused> {
    match task.state {
        State::Active | State::Completed => Err(Refused(task.state)),
        State::Pending | State::Scheduled | State::Retry | State::Archived | State::Waiting => Ok(()),
    }
}

/// Returns what `event` makes of `task` at `now`.
///
/// # Errors
/// [`Refused`] where the event does not fit: nothing changes.
pub fn apply(task: &Record, event: &Event, now: Timestamp) -> Result<Next, Refused> {
    use State::{Active, Archived, Completed, Pending, Retry, Scheduled, Waiting};
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
        (Pending | Scheduled | Retry | Waiting, Event::Cancel) => archived(task, now, "cancelled"),
        (Pending, Event::RunNow) => task.clone(),
        (Scheduled | Retry | Archived | Waiting, Event::RunNow) => again(task, now),
        (Pending | Scheduled | Retry | Waiting, Event::Archive) => {
            let why = task.last_error.clone().unwrap_or_else(|| "archived".to_owned());
            archived(task, now, &why)
        }
        (Pending | Scheduled | Retry | Completed | Archived | Waiting, Event::Delete) => return Ok(Next::Gone),
        (Completed | Archived, Event::Purge) if task.keep_until.is_some_and(|until| until <= now) => {
            return Ok(Next::Gone);
        }
        (Completed | Archived, Event::Evict) => return Ok(Next::Gone),
        (Pending, Event::Hold) if task.limit.is_some() => held(task, Wait::Turn),
        (Waiting, event) => return waited(task, event, now),
        (state, _) => return Err(Refused(state)),
    };
    Ok(Next::Kept(Box::new(next)))
}

/// What ends the waiting of a task.
fn waited(task: &Record, event: &Event, now: Timestamp) -> Result<Next, Refused> {
    let next = match (task.waits_for, event) {
        (Some(Wait::Turn), Event::Turn) => waiting(task, State::Pending, task.due_at),
        (Some(Wait::Group), Event::Merge) => return Ok(Next::Gone),
        (Some(Wait::Predecessors), Event::PredecessorSucceeded) => {
            let n_awaited = task.n_awaited.saturating_sub(1);
            let task = Record {
                n_awaited,
                ..task.clone()
            };
            if n_awaited > 0 {
                task
            } else {
                waiting(&task, free(task.due_at, now), task.due_at)
            }
        }
        (Some(Wait::Predecessors), Event::PredecessorGone { id }) => archived(
            task,
            now,
            &format!("task {id}, which had to succeed before it, is gone"),
        ),
        _ => return Err(Refused(State::Waiting)),
    };
    Ok(Next::Kept(Box::new(next)))
}

fn held(task: &Record, waits_for: Wait) -> Record {
    Record {
        state: State::Waiting,
        waits_for: Some(waits_for),
        ..task.clone()
    }
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
        waits_for: None,
        ..task.clone()
    }
}

/// Whoever wants it now does not want to wait for anything: a group or tasks that come before.
fn again(task: &Record, now: Timestamp) -> Record {
    Record {
        n_failed: 0,
        is_cancelled: false,
        finished_at: None,
        keep_until: None,
        n_awaited: 0,
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
        waits_for: None,
        finished_at: Some(now),
        keep_until: Some(now.plus(keep)),
        ..task.clone()
    }
}

/// PostgreSQL stores no NUL in a text.
fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_MAX)].replace('\0', " ")
}
