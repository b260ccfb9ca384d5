//! The door for those who enqueue, with the bell that wakes the workers of this process.

use std::sync::Arc;

use mosaic_core::{Context, Result, Runtime};
use mosaic_sql::Transaction;
use tokio::sync::watch;

use crate::carried::Carrier;
use crate::engine::{Engine, Enqueued};
use crate::fullness::Fullness;
use crate::new_task::{NewTask, check_batch};
use crate::options::Options;
use crate::task::Task;

/// Enqueues tasks. Cheap to clone: clones share the bell.
#[derive(Clone)]
pub struct Queue {
    engine: Arc<dyn Engine>,
    runtime: Runtime,
    bell: watch::Sender<()>,
    carrier: Option<Arc<dyn Carrier>>,
    fullness: Option<Fullness>,
}

impl Queue {
    /// Makes a queue over `engine`.
    pub fn new(engine: Arc<dyn Engine>, runtime: &Runtime) -> Self {
        Self {
            engine,
            runtime: runtime.clone(),
            bell: watch::Sender::new(()),
            carrier: None,
            fullness: None,
        }
    }

    /// Lets `carrier` bring tasks of transactions to an engine that is in no database.
    #[must_use]
    pub fn carried_by(mut self, carrier: Arc<dyn Carrier>) -> Self {
        self.carrier = Some(carrier);
        self
    }

    /// Refuses tasks for queues that hold `limit` already which have not begun or wait for another attempt. Default: none.
    #[must_use]
    pub fn limited_to(mut self, limit: u64) -> Self {
        self.fullness = Some(Fullness::new(limit));
        self
    }

    /// Adds one task; the trace of `cx` goes on in it.
    ///
    /// # Errors
    /// As [`NewTask::of`] and [`Engine::enqueue`].
    pub async fn enqueue<T: Task>(&self, cx: &Context, task: &T, options: Options) -> Result<Enqueued> {
        let new = NewTask::of(cx, task, options)?;
        let id = new.id();
        let answers = self.enqueue_all(&[new]).await?;
        Ok(answers.first().copied().unwrap_or(Enqueued::Added(id)))
    }

    /// Adds tasks, all or none.
    ///
    /// # Errors
    /// `TASK_QUEUE_FULL` (see [`Queue::limited_to`]); as [`Engine::enqueue`].
    pub async fn enqueue_all(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        self.admit(tasks).await?;
        let answers = self.engine.enqueue(tasks).await?;
        added(&answers);
        self.wake();
        Ok(answers)
    }

    /// Counts how full queues are, for ever: for those who enqueue in transactions, which do not count themselves.
    pub async fn count_for_ever(&self) {
        match &self.fullness {
            Some(fullness) => fullness.count_for_ever(&*self.engine, &self.runtime).await,
            None => std::future::pending().await,
        }
    }

    async fn admit(&self, tasks: &[NewTask]) -> Result<()> {
        match &self.fullness {
            Some(fullness) => fullness.admit(&*self.engine, &self.runtime, tasks).await,
            None => Ok(()),
        }
    }

    /// Returns the door for tasks that are there if, and only if, `tx` commits. It must be a transaction of the database
    /// that the tasks are in, or of that of the [`Carrier`].
    pub fn within<'a>(&'a self, tx: &'a Transaction) -> QueueWithin<'a> {
        QueueWithin { queue: self, tx }
    }

    /// Makes the workers of this process look now.
    pub fn wake(&self) {
        self.bell.send_replace(());
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }
}

fn added(answers: &[Enqueued]) {
    let is_added = |answer: &&Enqueued| matches!(answer, Enqueued::Added(_));
    let n_added = answers.iter().filter(is_added).count();
    metrics::counter!("tasks_enqueued_total").increment(n_added as u64);
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Enqueues in a transaction: see [`Queue::within`]. Workers of this process are woken once it has committed.
#[derive(Debug, Clone, Copy)]
pub struct QueueWithin<'a> {
    queue: &'a Queue,
    tx: &'a Transaction,
}

impl QueueWithin<'_> {
    /// Adds one task; the trace of `cx` goes on in it.
    ///
    /// # Errors
    /// As [`NewTask::of`] and [`Engine::enqueue_in`].
    pub async fn enqueue<T: Task>(&self, cx: &Context, task: &T, options: Options) -> Result<Enqueued> {
        let new = NewTask::of(cx, task, options)?;
        let id = new.id();
        let answers = self.enqueue_all(&[new]).await?;
        Ok(answers.first().copied().unwrap_or(Enqueued::Added(id)))
    }

    /// Adds tasks. Those that are carried are never duplicates here: that is found out when they arrive.
    ///
    /// # Errors
    /// As [`Engine::enqueue_in`] or [`Carrier::carry`].
    pub async fn enqueue_all(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        // Not counted here: who holds one connection and waits for another one may wait for ever.
        if let Some(fullness) = &self.queue.fullness {
            fullness.admit_known(&self.queue.runtime, tasks)?;
        }
        if let Some(carrier) = &self.queue.carrier {
            check_batch(tasks)?;
            carrier.carry(self.tx, tasks).await?;
            return Ok(tasks.iter().map(|task| Enqueued::Added(task.id())).collect());
        }
        let answers = self.queue.engine.enqueue_in(self.tx, tasks).await?;
        let (queue, news) = (self.queue.clone(), answers.clone());
        self.tx.on_commit(move || {
            added(&news);
            queue.wake();
        });
        Ok(answers)
    }
}
