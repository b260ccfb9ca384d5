//! An engine as a process sees it that dies right before or right after a certain call: no answer ever comes.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::Result;
use mosaic_tasks::{
    Claim, Claimed, Command, Commanded, Engine, Enqueued, Flow, Hold, Lease, NewTask, Page, Promoted, QueueName,
    QueueStatus, Record, Report, Schedule, Schedules, Seen, State, Step, TaskId,
};
use tokio::sync::watch;

pub(crate) struct Dying {
    inner: Arc<dyn Engine>,
    n_calls: AtomicUsize,
    dies_at: usize,
    is_after: bool,
    dead: watch::Sender<bool>,
}

impl Dying {
    pub(crate) fn new(inner: Arc<dyn Engine>, dies_at: usize, is_after: bool) -> Self {
        Self {
            inner,
            n_calls: AtomicUsize::new(0),
            dies_at,
            is_after,
            dead: watch::Sender::new(false),
        }
    }

    /// Completes when the call has come.
    pub(crate) async fn died(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if *self.dead.borrow() {
            return pending().await;
        }
        let is_it = self.n_calls.fetch_add(1, Ordering::Relaxed) == self.dies_at;
        if is_it {
            if self.is_after {
                drop(call.await?);
            }
            self.dead.send_replace(true);
            return pending().await;
        }
        call.await
    }
}

#[async_trait]
impl Engine for Dying {
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        self.inner.enqueue(tasks).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        self.call(self.inner.claim(claim)).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        self.call(self.inner.extend(leases, lease)).await
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        self.call(self.inner.finish(reports)).await
    }

    async fn promote(&self, limit: usize) -> Result<Promoted> {
        self.call(self.inner.promote(limit)).await
    }

    async fn expire(&self, limit: usize) -> Result<usize> {
        self.call(self.inner.expire(limit)).await
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        self.call(self.inner.purge(limit)).await
    }

    async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        self.inner.command(id, command).await
    }

    async fn command_all(&self, page: &Page, command: Command) -> Result<Commanded> {
        self.inner.command_all(page, command).await
    }

    async fn set_payload(&self, id: TaskId, payload: &[u8]) -> Result<()> {
        self.inner.set_payload(id, payload).await
    }

    async fn set_flow(&self, queue: &QueueName, flow: Flow) -> Result<()> {
        self.inner.set_flow(queue, flow).await
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        self.inner.queues().await
    }

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        self.inner.counts(queue).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Record>> {
        self.inner.list(page).await
    }

    async fn look(&self, id: TaskId) -> Result<Option<Seen>> {
        self.inner.look(id).await
    }

    async fn declare(&self, owner: &str, schedules: &[Schedule]) -> Result<()> {
        self.inner.declare(owner, schedules).await
    }

    async fn schedules(&self, owner: &str) -> Result<Schedules> {
        self.inner.schedules(owner).await
    }

    async fn step(&self, step: &Step) -> Result<bool> {
        self.call(self.inner.step(step)).await
    }
}
