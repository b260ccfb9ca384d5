//! The door for those who enqueue, with the bell that wakes the workers of this process.

use std::sync::Arc;

use mosaic_core::{Result, Runtime};
use tokio::sync::watch;

use crate::engine::{Engine, Enqueued};
use crate::options::{NewTask, Options};
use crate::task::Task;

/// Enqueues tasks. Cheap to clone: clones share the bell.
#[derive(Clone)]
pub struct Queue {
    engine: Arc<dyn Engine>,
    runtime: Runtime,
    bell: watch::Sender<()>,
}

impl Queue {
    /// Makes a queue over `engine`.
    pub fn new(engine: Arc<dyn Engine>, runtime: &Runtime) -> Self {
        Self {
            engine,
            runtime: runtime.clone(),
            bell: watch::Sender::new(()),
        }
    }

    /// Adds one task.
    ///
    /// # Errors
    /// As [`NewTask::of`] and [`Engine::enqueue`].
    pub async fn enqueue<T: Task>(&self, task: &T, options: Options) -> Result<Enqueued> {
        let new = NewTask::of(&self.runtime, task, options)?;
        let id = new.id();
        let answers = self.enqueue_all(&[new]).await?;
        Ok(answers.first().copied().unwrap_or(Enqueued::Added(id)))
    }

    /// Adds tasks, all or none.
    ///
    /// # Errors
    /// As [`Engine::enqueue`].
    pub async fn enqueue_all(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        let answers = self.engine.enqueue(tasks).await?;
        metrics::counter!("tasks_enqueued_total").increment(answers.len() as u64);
        self.wake();
        Ok(answers)
    }

    /// Makes the workers of this process look now; for after a commit of what was enqueued in a transaction.
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

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
