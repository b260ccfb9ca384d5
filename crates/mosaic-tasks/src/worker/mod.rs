//! Runs tasks: claims them, keeps their leases, reports how they ended.
//!
//! A worker is one future. Dropping it anywhere is what a crash is: handlers are dropped with it, leases run out, and the
//! tasks go to others. Short tasks are claimed ahead of their turn ([`pace`]). Reports are sent in batches and repeated while
//! the engine cannot be reached; only so many may be on their way, so a slow engine slows the worker instead of piling up.
//! Asked to stop, it claims no more, gives back what has not begun, gives handlers [`WorkerOptions::drain`], and hands back
//! what is left.

mod attempt;
mod fetch;
mod pace;
mod running;
mod settle;
mod upkeep;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mosaic_core::{Error, Runtime, StopSignal, TaskGroup};
use tokio::sync::{Notify, mpsc};

use crate::engine::Engine;
use crate::id::QueueName;
use crate::queue::Queue;
use crate::task::Handlers;
use pace::Pace;
use running::Running;
use settle::{Ended, REPORTS_MAX};

/// Most rows that one pass of upkeep touches.
const SWEEP_MAX: usize = 500;

/// Which of several queues is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueOrder {
    /// Heavier ones more often; none starves.
    #[default]
    Weighted,
    /// The heaviest always; lighter ones get what is left, perhaps nothing.
    Strict,
}

/// How a worker works; `WorkerOptions::default()` suits a service with one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Tasks that run at once. Default 10.
    pub concurrency: usize,
    /// Queues and their weights. Default `default` alone.
    pub queues: Vec<(QueueName, u32)>,
    /// What the weights mean. Default weighted.
    pub order: QueueOrder,
    /// After this without a heartbeat a task goes to another worker. Default 30 s.
    pub lease: Duration,
    /// How often at least to look for tasks of other processes when there is nothing to do. Default 1 s.
    pub poll: Duration,
    /// Time for running tasks when asked to stop. Default 8 s; the group must wait a little longer.
    pub drain: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 10,
            queues: vec![(QueueName::default(), 1)],
            order: QueueOrder::default(),
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(8),
        }
    }
}

/// See the module documentation.
pub struct Worker(Arc<Parts>);

struct Parts {
    queue: Queue,
    handlers: Handlers,
    options: WorkerOptions,
    running: Running,
    pace: Mutex<Pace>,
    /// Tasks that were claimed and whose handler has not ended.
    n_in_hand: AtomicUsize,
    /// There is room for more, or a key is free.
    changed: Notify,
    /// A key is free: somebody may wait for it.
    freed: Notify,
}

impl Worker {
    /// Makes a worker that runs what `handlers` can from the engine of `queue`.
    pub fn new(queue: &Queue, handlers: Handlers, options: WorkerOptions) -> Self {
        Self(Arc::new(Parts {
            queue: queue.clone(),
            handlers,
            options,
            running: Running::default(),
            pace: Mutex::default(),
            n_in_hand: AtomicUsize::new(0),
            changed: Notify::new(),
            freed: Notify::new(),
        }))
    }

    /// Starts the worker; it ends with `group`.
    pub fn spawn(self, group: &TaskGroup) {
        let stop = group.stop_signal();
        group.spawn("tasks.worker", self.run(stop));
    }

    /// Works until asked to stop. Dropping it is safe: what it had in hand runs again elsewhere.
    pub async fn run(self, stop: StopSignal) {
        let parts = &self.0;
        let (ended, reports) = mpsc::channel(REPORTS_MAX);
        let ring = || parts.queue.wake();
        let listen = parts.engine().listen(&ring);
        let upkeep = futures::future::join3(parts.keep_leases(), parts.tidy(), listen);
        let work = futures::future::join(parts.clone().work(stop, ended), parts.settle(reports));
        tokio::select! {
            _ = work => {}
            _ = upkeep => {}
        }
        parts.hand_back(parts.running.leases()).await;
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Parts {
    fn engine(&self) -> &Arc<dyn Engine> {
        self.queue.engine()
    }

    fn runtime(&self) -> &Runtime {
        self.queue.runtime()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>, stop: StopSignal, ended: mpsc::Sender<Ended>) {
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "a worker panicked"));
        // As many as there is room for, which is bounded.
        let (ready, claimed) = mpsc::unbounded_channel();
        let fetch = self.fetch(ready, stop.clone());
        let start = self.clone().start(&tasks, claimed, ended, stop);
        futures::future::join(fetch, start).await;
        let n_cut = tasks.shutdown(self.options.drain).await;
        if n_cut > 0 {
            tracing::warn!(n_cut, "tasks were cut at the end of the drain and are given back");
        }
    }

    /// Returns how many more tasks may be claimed.
    fn room(&self) -> usize {
        let concurrency = self.options.concurrency.max(1);
        let ahead = self.pace().ahead(concurrency);
        let room = (concurrency + ahead).saturating_sub(self.n_in_hand.load(Ordering::Relaxed));
        // Not for every single one of many.
        if room > ahead / 2 { room } else { 0 }
    }
}

/// A task in hand: counted until it is dropped.
struct InHand(Arc<Parts>);

impl InHand {
    fn new(parts: &Arc<Parts>) -> Self {
        parts.n_in_hand.fetch_add(1, Ordering::Relaxed);
        Self(parts.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.n_in_hand.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

fn warn(error: &Error, what: &str) {
    tracing::warn!(reason = error.reason(), cause = error.cause_chain(), "{what}");
}
