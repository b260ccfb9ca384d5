//! What engines are asked, and what they answer.

use std::time::Duration;

use mosaic_core::Timestamp;

use crate::id::{QueueName, TaskId};
use crate::model::{Event, Record, State};
use crate::new_task::NewTask;

/// What became of one task of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue.
    Added(TaskId),
    /// Another one holds its unique key; nothing was added.
    Duplicate {
        /// The one that is there.
        of: TaskId,
    },
}

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// From this queue.
    pub queue: QueueName,
    /// Kinds it has handlers for: others are left to other releases.
    pub kinds: Vec<String>,
    /// At most so many.
    pub limit: usize,
    /// For so long, unless extended.
    pub lease: Duration,
}

/// A task that is ours until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The task; its fencing number is that of the claim.
    pub task: Record,
    /// What its handler reads; of a merged task the payloads of its members, see [`unframe`](crate::unframe).
    pub payload: Vec<u8>,
    /// Results of the tasks that came before it, by id.
    pub earlier: Vec<Earlier>,
}

/// A task that had to succeed before another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The task.
    pub id: TaskId,
    /// What it left, empty for nothing; `None` if it has not succeeded.
    pub result: Option<Vec<u8>>,
}

/// The right to report on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task.
    pub id: TaskId,
    /// The number of the claim.
    pub fence: i64,
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The lease lasts.
    Kept,
    /// The lease lasts, but somebody wants the task cancelled.
    Cancelled,
    /// The task is somebody else's, or gone.
    Lost,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the result is kept as long as the task is.
    Succeeded {
        /// Bytes of the result, empty for none.
        result: Vec<u8>,
    },
    /// Failed.
    Failed {
        /// What is kept of the error.
        error: String,
        /// Is another attempt useless?
        is_final: bool,
    },
    /// Given back untouched.
    Released,
}

impl Outcome {
    /// Returns what it is to the rules; `roll` is random, for the pause.
    pub fn event(&self, roll: u32) -> Event {
        match self {
            Self::Succeeded { .. } => Event::Succeed,
            Self::Failed { error, is_final } => Event::Fail {
                error: error.clone(),
                is_final: *is_final,
                roll,
            },
            Self::Released => Event::Release,
        }
    }
}

/// A worker's word on one of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its right to give it.
    pub lease: Lease,
    /// How it ended.
    pub outcome: Outcome,
}

/// What [`Engine::promote`](super::Engine::promote) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// So many tasks may run now that could not before.
    pub n_due: usize,
    /// The next one may in so long, `None` if none waits for its time.
    pub next_in: Option<Duration>,
}

/// What a person may do to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Archive it; if it runs, its worker stops it with its next heartbeat.
    Cancel,
    /// Make it due now, with all its retries.
    RunNow,
    /// Put it aside.
    Archive,
    /// Remove it.
    Delete,
}

impl Command {
    /// Returns what it is to the rules.
    pub fn event(self) -> Event {
        match self {
            Self::Cancel => Event::Cancel,
            Self::RunNow => Event::RunNow,
            Self::Archive => Event::Archive,
            Self::Delete => Event::Delete,
        }
    }
}

/// Some of the tasks of a queue that are in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of this queue.
    pub queue: QueueName,
    /// In this state.
    pub state: State,
    /// Those after this id.
    pub after: Option<TaskId>,
    /// At most so many.
    pub limit: usize,
}

/// What became of a page of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commanded {
    /// So many allowed it.
    pub n_done: usize,
    /// The last task looked at, `None` if there was none: the next page is after it.
    pub last: Option<TaskId>,
}

/// Everything known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The task.
    pub task: Record,
    /// What its handler reads.
    pub payload: Vec<u8>,
    /// What it left, empty for nothing.
    pub result: Vec<u8>,
    /// What came or comes before it.
    pub earlier: Vec<Earlier>,
}

/// Are tasks of a queue handed out?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// They are.
    Running,
    /// Claims give nothing until somebody says otherwise.
    Paused,
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its name.
    pub queue: QueueName,
    /// Are its tasks handed out?
    pub flow: Flow,
    /// Tasks in each state; states without tasks are left out.
    pub counts: Vec<(State, u64)>,
    /// How long its oldest pending task could have been running.
    pub latency: Duration,
    /// Attempts that ended since midnight, UTC.
    pub n_processed_today: u64,
    /// Those of them that failed.
    pub n_failed_today: u64,
}

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its name: one schedule has it, whoever owns it.
    pub name: String,
    /// Who declares it: what an owner declares no more is removed.
    pub owner: String,
    /// Text of the rule by which it ticks.
    pub rule: String,
    /// Its next tick.
    pub next_at: Timestamp,
}

/// All schedules of an owner, and the time by which they are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    /// The engine's time.
    pub now: Timestamp,
    /// The schedules, by name.
    pub schedules: Vec<Schedule>,
}

/// A step of a schedule: happens if the schedule is as `from` says and its tick has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As the caller knows it.
    pub from: Schedule,
    /// The tick after those that are done with.
    pub to: Timestamp,
    /// What is enqueued with it.
    pub tasks: Vec<NewTask>,
}
