//! An engine as a process sees it that dies right before or right after a certain call: no answer ever comes.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::Result;
use mosaic_tasks::{
    Claim, Claimed, Command, Engine, Enqueued, Hold, Lease, MemoryEngine, NewTask, Promoted, QueueName, Record, Report,
    State, TaskId,
};
use tokio::sync::watch;

pub(crate) struct Dying {
    inner: Arc<MemoryEngine>,
    n_calls: AtomicUsize,
    dies_at: usize,
    is_after: bool,
    dead: watch::Sender<bool>,
}

impl Dying {
    pub(crate) fn new(inner: Arc<MemoryEngine>, dies_at: usize, is_after: bool) -> Self {
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

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        self.inner.counts(queue).await
    }

    async fn list(&self, queue: &QueueName, state: State, after: Option<TaskId>, limit: usize) -> Result<Vec<Record>> {
        self.inner.list(queue, state, after, limit).await
    }

    async fn look(&self, id: TaskId) -> Result<Option<(Record, Vec<u8>)>> {
        self.inner.look(id).await
    }
}
