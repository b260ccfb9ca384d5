//! What a handler is told beside its payload: who asked, what came before, and how to finish together with its effect.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use mosaic_core::{Context, Error, Result};
use mosaic_sql::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Earlier, Engine, Lease, Outcome, Report};
use crate::id::TaskId;
use crate::model::Record;
use crate::task::kept;

/// A [`Context`] (with the trace of the enqueuer, the deadline of the attempt, and the task's id as idempotency key) and the
/// task.
pub struct TaskContext {
    cx: Context,
    task: Record,
    earlier: Vec<Earlier>,
    engine: Arc<dyn Engine>,
    completion: Arc<Completion>,
}

/// How far [`TaskContext::complete_in`] came.
#[derive(Debug, Default)]
pub(crate) struct Completion(AtomicU8);

impl Completion {
    const REPORTED: u8 = 1;
    const COMMITTED: u8 = 2;

    pub(crate) fn is_committed(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::COMMITTED
    }

    /// Was it reported in a transaction that did not commit?
    pub(crate) fn is_undone(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::REPORTED
    }
}

impl TaskContext {
    pub(crate) fn new(
        cx: Context,
        task: Record,
        earlier: Vec<Earlier>,
        engine: Arc<dyn Engine>,
        completion: Arc<Completion>,
    ) -> Self {
        Self {
            cx,
            task,
            earlier,
            engine,
            completion,
        }
    }

    /// Returns the task.
    pub fn task(&self) -> &Record {
        &self.task
    }

    /// Returns what travels beside the payload.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.task.headers
    }

    /// Returns the tasks that came before it, by id.
    pub fn earlier(&self) -> &[Earlier] {
        &self.earlier
    }

    /// Returns what the earlier task `id` left, `None` if it left nothing.
    ///
    /// # Errors
    /// Internal if it left something else.
    pub fn result_of<T: DeserializeOwned>(&self, id: TaskId) -> Result<Option<T>> {
        let earlier = self.earlier.iter().find(|earlier| earlier.id == id);
        let result = earlier
            .and_then(|earlier| earlier.result.as_deref())
            .unwrap_or_default();
        if result.is_empty() {
            return Ok(None);
        }
        let invalid = |cause| Error::internal("an earlier task left something else").caused_by(cause);
        serde_json::from_slice(result).map(Some).map_err(invalid)
    }

    /// Reports success in the transaction of the effect: they commit together, so the effect happens once.
    ///
    /// Call it at any place in the transaction; if it fails, give the transaction up. What the handler returns after the
    /// commit changes nothing any more; a handler that returns without having committed has failed.
    ///
    /// # Errors
    /// `TASK_LEASE_LOST` if the task is somebody else's by now; `TASK_NOT_IN_SQL` if tasks are not in this database;
    /// failures of the store.
    pub async fn complete_in(&self, tx: &Transaction, output: &(impl Serialize + Sync)) -> Result<()> {
        let result = kept(output);
        let report = Report {
            lease: Lease {
                id: self.task.id,
                fence: self.task.fence,
            },
            outcome: Outcome::Succeeded { result },
        };
        let taken = self.engine.finish_in(tx, &[report]).await?;
        if taken != [true] {
            return Err(Error::aborted("TASK_LEASE_LOST", "the task went to another worker"));
        }
        self.completion.0.store(Completion::REPORTED, Ordering::Release);
        let completion = self.completion.clone();
        tx.on_commit(move || completion.0.store(Completion::COMMITTED, Ordering::Release));
        Ok(())
    }
}

impl Deref for TaskContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.cx
    }
}

impl std::fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskContext")
            .field("cx", &self.cx)
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}
