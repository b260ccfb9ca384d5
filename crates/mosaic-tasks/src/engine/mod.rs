//! The port: what a store of tasks must be able to do.
//!
//! An engine is the referee of time as well as of claims: no method takes the time, because the clocks of workers may be
//! minutes apart and a lease judged by two clocks is held by two workers. Everything is done in batches, and each method is
//! one step that happens as a whole or not at all (a transaction, a script): nothing is held between calls.

mod types;

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result};
use mosaic_sql::Transaction;

pub use types::{
    Claim, Claimed, Command, Commanded, Earlier, Enqueued, Flow, Hold, Lease, Outcome, Page, Promoted, QueueStatus,
    Report, Schedule, Schedules, Seen, Step,
};

use crate::id::{QueueName, TaskId};
use crate::model::{Record, State};
use crate::new_task::NewTask;

/// Completed tasks of one queue beyond these are deleted, and archived ones, the oldest first.
pub const ENDED_MAX: u64 = 10_000;

/// See the module documentation. Every method may be dropped at any time.
///
/// # Errors
/// Every method fails as the store does: then it did nothing, or all, and the answer was lost.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Adds tasks, all or (on failure) none; answers in their order. A task whose id is there already is not added again.
    ///
    /// A predecessor is one of the batch (of a duplicate: the one that is there) or in the store; see
    /// [`edges`](crate::edges).
    ///
    /// # Errors
    /// `TASK_BATCH_TOO_LARGE`, `TASK_INVALID`, `TASK_UNKNOWN_PREDECESSOR`.
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>>;

    /// As [`Engine::enqueue`], in the caller's transaction: they are there if, and only if, it commits.
    ///
    /// # Errors
    /// As [`Engine::enqueue`]; `SQL_CONFLICT` if the transaction is to be run again; `TASK_NOT_IN_SQL` from an engine that
    /// is not in a database.
    async fn enqueue_in(&self, tx: &Transaction, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        let _ = (tx, tasks);
        Err(not_in_sql())
    }

    /// Gives out pending tasks: higher priority first, then those that were due first. No task is given to two; none of a
    /// queue that is paused; those whose key allows no more are made to wait.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>>;

    /// Keeps leases for `lease` from now; answers in their order.
    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>>;

    /// Takes reports; `false` for one whose lease is lost, which changes nothing. Results go to the tasks that come after.
    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>>;

    /// As [`Engine::finish`], in the caller's transaction: it is reported if, and only if, that commits.
    ///
    /// # Errors
    /// `TASK_NOT_IN_SQL` from an engine that is not in a database.
    async fn finish_in(&self, tx: &Transaction, reports: &[Report]) -> Result<Vec<bool>> {
        let _ = (tx, reports);
        Err(not_in_sql())
    }

    /// Lets at most some `limit` tasks go whose time has come: those that are due, groups that have gathered (`limit` of
    /// them), those whose key is free again (`limit` keys).
    async fn promote(&self, limit: usize) -> Result<Promoted>;

    /// Counts a failure for at most `limit` tasks whose lease has run out, and returns how many.
    async fn expire(&self, limit: usize) -> Result<usize>;

    /// Deletes at most `limit` ended tasks that were kept for their time or are beyond [`ENDED_MAX`]; returns how many.
    async fn purge(&self, limit: usize) -> Result<usize>;

    /// Does what a person asks.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`; `TASK_STATE` where its state does not allow it.
    async fn command(&self, id: TaskId, command: Command) -> Result<()>;

    /// Does what a person asks to those of a page whose state allows it.
    async fn command_all(&self, page: &Page, command: Command) -> Result<Commanded>;

    /// Gives a task that does not run another payload.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`; `TASK_STATE` for one that runs or has succeeded; `TASK_PAYLOAD_TOO_LARGE`.
    async fn set_payload(&self, id: TaskId, payload: &[u8]) -> Result<()>;

    /// Stops handing out tasks of a queue, or goes on with it.
    async fn set_flow(&self, queue: &QueueName, flow: Flow) -> Result<()>;

    /// Returns every queue that has tasks, had some in the last days, or is paused; by name.
    async fn queues(&self) -> Result<Vec<QueueStatus>>;

    /// Returns how many tasks of `queue` are in each state; states without tasks are left out.
    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>>;

    /// Returns a page of tasks, by id.
    async fn list(&self, page: &Page) -> Result<Vec<Record>>;

    /// Returns a task, `None` if it is not there.
    async fn look(&self, id: TaskId) -> Result<Option<Seen>>;

    /// Makes `schedules` the schedules of `owner` and removes its other ones; one whose rule is the one that is stored keeps
    /// its stored tick.
    async fn declare(&self, owner: &str, schedules: &[Schedule]) -> Result<()>;

    /// Returns the schedules of `owner`.
    async fn schedules(&self, owner: &str) -> Result<Schedules>;

    /// Takes a step: returns `false`, and does nothing, if another one took it, the rule has changed, or it is too early.
    ///
    /// # Errors
    /// As [`Engine::enqueue`].
    async fn step(&self, step: &Step) -> Result<bool>;

    /// Calls `ring` whenever another process may have added tasks, until dropped. Engines that cannot tell never do.
    async fn listen(&self, ring: &(dyn Fn() + Send + Sync)) {
        let _ = ring;
        std::future::pending().await
    }
}

fn not_in_sql() -> Error {
    Error::failed_precondition("TASK_NOT_IN_SQL", "the tasks are not in this database")
}

/// Nobody knows this task.
pub(crate) fn no_such_task() -> Error {
    Error::not_found("TASK_NOT_FOUND", "no such task")
}
