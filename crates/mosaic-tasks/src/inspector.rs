//! What people see of the tasks, and what they may do to them.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Error, Result};
use tokio::time::sleep;

use crate::engine::{Command, Engine, Flow, Page, QueueStatus, Seen, no_such_task};
use crate::id::{QueueName, TaskId};
use crate::model::{Record, State};

/// Most tasks on a page.
const PAGE_MAX: usize = 500;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub struct Inspector(Arc<dyn Engine>);

impl Inspector {
    /// Makes an inspector of the tasks in `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self(engine)
    }

    /// Returns how all queues stand, by name.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>> {
        self.0.queues().await
    }

    /// Reports how the queues of `module` stand, every `interval`, for ever. All processes that run the module report the same.
    pub async fn measure_for_ever(&self, module: &str, interval: Duration) {
        loop {
            match self.queues().await {
                Ok(queues) => queues.iter().for_each(|queue| report(module, queue)),
                Err(error) => tracing::warn!(module, cause = error.cause_chain(), "cannot measure queues: {error}"),
            }
            sleep(interval).await;
        }
    }

    /// Returns how a queue stands.
    ///
    /// # Errors
    /// `TASK_QUEUE_UNKNOWN`; failures of the store.
    pub async fn queue(&self, queue: &QueueName) -> Result<QueueStatus> {
        let found = self.queues().await?.into_iter().find(|status| status.queue == *queue);
        found.ok_or_else(|| Error::not_found("TASK_QUEUE_UNKNOWN", "no such queue"))
    }

    /// Returns at most `limit` (500) tasks of a queue in one state, by id, those after `after`.
    ///
    /// # Errors
    /// `TASK_QUEUE_UNKNOWN`; failures of the store.
    pub async fn list(
        &self,
        queue: &QueueName,
        state: State,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let page = Page {
            queue: queue.clone(),
            state,
            after,
            limit: limit.min(PAGE_MAX),
        };
        let tasks = self.0.list(&page).await?;
        if tasks.is_empty() {
            self.queue(queue).await?;
        }
        Ok(tasks)
    }

    /// Returns everything known of a task.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`; failures of the store.
    pub async fn look(&self, id: TaskId) -> Result<Seen> {
        self.0.look(id).await?.ok_or_else(no_such_task)
    }

    /// Runs, archives, deletes or cancels a task.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`; `TASK_STATE` where its state does not allow it; failures of the store.
    pub async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        self.0.command(id, command).await
    }

    /// Runs, archives, deletes or cancels all tasks of a queue that are in one state, page by page, and returns how many
    /// allowed it. Tasks that come to this state meanwhile may be among them. After a failure it can be called again.
    ///
    /// # Errors
    /// `TASK_QUEUE_UNKNOWN`; failures of the store.
    pub async fn command_all(&self, queue: &QueueName, state: State, command: Command) -> Result<usize> {
        self.queue(queue).await?;
        let mut page = Page {
            queue: queue.clone(),
            state,
            after: None,
            limit: PAGE_MAX,
        };
        let mut n_done = 0;
        loop {
            let done = self.0.command_all(&page, command).await?;
            n_done += done.n_done;
            match done.last {
                Some(last) => page.after = Some(last),
                None => return Ok(n_done),
            }
        }
    }

    /// Gives a task that does not run another payload, which its handler will read.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`; `TASK_STATE` for one that runs or has succeeded; `TASK_PAYLOAD_TOO_LARGE`; failures of the store.
    pub async fn set_payload(&self, id: TaskId, payload: &[u8]) -> Result<()> {
        self.0.set_payload(id, payload).await
    }

    /// Pauses a queue: workers finish what they run and get no more.
    ///
    /// # Errors
    /// `TASK_QUEUE_UNKNOWN`; failures of the store.
    pub async fn pause(&self, queue: &QueueName) -> Result<()> {
        self.queue(queue).await?;
        self.0.set_flow(queue, Flow::Paused).await
    }

    /// Goes on with a paused queue.
    ///
    /// # Errors
    /// `TASK_QUEUE_UNKNOWN`; failures of the store.
    pub async fn resume(&self, queue: &QueueName) -> Result<()> {
        self.queue(queue).await?;
        self.0.set_flow(queue, Flow::Running).await
    }
}

fn report(module: &str, queue: &QueueStatus) {
    let labels = [("module", module.to_owned()), ("queue", queue.queue.to_string())];
    metrics::gauge!("tasks_latency_seconds", &labels).set(queue.latency.as_secs_f64());
    metrics::gauge!("tasks_paused", &labels).set(f64::from(u8::from(queue.flow == Flow::Paused)));
    for state in State::ALL {
        let n = queue.counts.iter().find(|(of, _)| *of == state).map_or(0, |(_, n)| *n);
        let [module, queue] = labels.clone();
        let labels = [module, queue, ("state", format!("{state:?}").to_lowercase())];
        metrics::gauge!("tasks_in_state", &labels).set(n as f64);
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}
