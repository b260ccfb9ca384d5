//! The port: what a store of tasks must be able to do.
//!
//! An engine is the referee of time as well as of claims: no method takes the time, because the clocks of workers may be
//! minutes apart and a lease judged by two clocks is held by two workers. Everything is done in batches.

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::Result;

use crate::id::{QueueName, TaskId};
use crate::model::{Event, Record, State};
use crate::options::NewTask;

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
    /// What its handler reads.
    pub payload: Vec<u8>,
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
    pub(crate) fn event(&self, roll: u32) -> Event {
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

/// What [`Engine::promote`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// So many tasks became due.
    pub n_due: usize,
    /// The next one is due in so long, `None` if none waits.
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
    pub(crate) fn event(self) -> Event {
        match self {
            Self::Cancel => Event::Cancel,
            Self::RunNow => Event::RunNow,
            Self::Archive => Event::Archive,
            Self::Delete => Event::Delete,
        }
    }
}

/// See the module documentation. Every method may be dropped at any time: it happened as a whole or not at all.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Adds tasks, all or (on failure) none; answers in their order.
    ///
    /// # Errors
    /// `TASK_BATCH_TOO_LARGE`; failures of the store.
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>>;

    /// Gives out pending tasks: higher priority first, then those that were due first. No task is given to two.
    ///
    /// # Errors
    /// Failures of the store.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>>;

    /// Keeps leases for `lease` from now; answers in their order.
    ///
    /// # Errors
    /// Failures of the store.
    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>>;

    /// Takes reports; `false` for one whose lease is lost, which changes nothing.
    ///
    /// # Errors
    /// Failures of the store: none of the reports was taken, or all were and the answer was lost.
    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>>;

    /// Makes at most `limit` tasks pending whose time has come.
    ///
    /// # Errors
    /// Failures of the store.
    async fn promote(&self, limit: usize) -> Result<Promoted>;

    /// Counts a failure for at most `limit` tasks whose lease has run out, and returns how many.
    ///
    /// # Errors
    /// Failures of the store.
    async fn expire(&self, limit: usize) -> Result<usize>;

    /// Deletes at most `limit` ended tasks that were kept for their time, and returns how many.
    ///
    /// # Errors
    /// Failures of the store.
    async fn purge(&self, limit: usize) -> Result<usize>;

    /// Does what a person asks.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`; `TASK_STATE` where its state does not allow it; failures of the store.
    async fn command(&self, id: TaskId, command: Command) -> Result<()>;

    /// Returns how many tasks of `queue` are in each state; states without tasks are left out.
    ///
    /// # Errors
    /// Failures of the store.
    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>>;

    /// Returns at most `limit` tasks of `queue` in `state`, by id, those after `after`.
    ///
    /// # Errors
    /// Failures of the store.
    async fn list(&self, queue: &QueueName, state: State, after: Option<TaskId>, limit: usize) -> Result<Vec<Record>>;

    /// Returns a task and its result (empty for none), `None` if there is no such task.
    ///
    /// # Errors
    /// Failures of the store.
    async fn look(&self, id: TaskId) -> Result<Option<(Record, Vec<u8>)>>;
}
