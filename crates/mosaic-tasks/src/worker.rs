//! Runs tasks: claims them, keeps their leases, reports how they ended.
//!
//! A worker is one future. Dropping it anywhere is what a crash is: handlers are dropped with it, leases run out, and the
//! tasks go to others. Reports are sent in batches and repeated while the engine cannot be reached; a slot is free
//! only when its report was taken, so a slow engine slows the worker instead of piling up. Asked to stop, it claims no
//! more, gives handlers [`WorkerOptions::drain`], and hands back what is left.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Context, Error, Runtime, StopSignal, TaskGroup, catch_panic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{Claim, Claimed, Engine, Lease, Outcome, Report};
use crate::id::QueueName;
use crate::queue::Queue;
use crate::running::{Running, Stop};
use crate::task::Handlers;

/// Most rows that one pass of upkeep touches.
const SWEEP_MAX: usize = 500;
/// Most reports in one call.
const REPORTS_MAX: usize = 100;

/// How a worker works; `WorkerOptions::default()` suits a service with one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Tasks that run at once. Default 10.
    pub concurrency: usize,
    /// Queues, and how often each is asked first compared with the others. Default `default` alone.
    pub queues: Vec<(QueueName, u32)>,
    /// After this without a heartbeat a task goes to another worker. Default 30 s.
    pub lease: Duration,
    /// How often to look for tasks of other processes when there is nothing to do. Default 1 s.
    pub poll: Duration,
    /// Time for running tasks when asked to stop. Default 8 s; the group must wait a little longer.
    pub drain: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 10,
            queues: vec![(QueueName::default(), 1)],
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
}

/// A report on its way, and the slot that it frees.
struct Ended {
    report: Report,
    _slot: OwnedSemaphorePermit,
}

impl Worker {
    /// Makes a worker that runs what `handlers` can from the engine of `queue`.
    pub fn new(queue: &Queue, handlers: Handlers, options: WorkerOptions) -> Self {
        Self(Arc::new(Parts {
            queue: queue.clone(),
            handlers,
            options,
            running: Running::default(),
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
        let (ended, reports) = mpsc::channel(parts.options.concurrency.max(1));
        let upkeep = futures::future::join(parts.keep_leases(), parts.tidy());
        let work = futures::future::join(parts.clone().work(stop, ended), parts.settle(reports));
        tokio::select! {
            _ = work => {}
            _ = upkeep => {}
        }
        parts.hand_back().await;
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

    /// Returns between half and one and a half of `pause`, so that workers do not march in step.
    fn jittered(&self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        pause / 2 + Duration::from_micros(self.runtime().random_below(micros))
    }

    async fn work(self: Arc<Self>, mut stop: StopSignal, ended: mpsc::Sender<Ended>) {
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "a worker panicked"));
        self.clone().claim_on(&tasks, ended, &mut stop).await;
        let n_cut = tasks.shutdown(self.options.drain).await;
        if n_cut > 0 {
            tracing::warn!(n_cut, "tasks were cut at the end of the drain and are given back");
        }
    }

    /// Claims and starts tasks until asked to stop; a claim that is on its way is waited for and its tasks started.
    async fn claim_on(self: Arc<Self>, tasks: &TaskGroup, ended: mpsc::Sender<Ended>, stop: &mut StopSignal) {
        let slots = Arc::new(Semaphore::new(self.options.concurrency.max(1)));
        let mut bell = self.queue.bell();
        let mut promote_at = Instant::now();
        loop {
            let slot = tokio::select! {
                biased;
                () = stop.stopped() => return,
                slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
            };
            bell.mark_unchanged();
            if Instant::now() >= promote_at {
                promote_at = Instant::now() + self.promote().await;
            }
            let asked = Instant::now();
            let claimed = self.claim(1 + slots.available_permits()).await;
            let is_idle = claimed.is_empty();
            let mut slot = Some(slot);
            for claimed in claimed {
                let slot = slot.take().or_else(|| slots.clone().try_acquire_owned().ok());
                let slot = slot.expect("nobody else takes slots, and no more was claimed than there are");
                self.start(tasks, claimed, slot, asked, ended.clone());
            }
            if is_idle {
                let until = promote_at.min(asked + self.jittered(self.options.poll));
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = stop.stopped() => return,
                    // What was rung for may be due in less time than we knew of.
                    _ = bell.changed() => promote_at = Instant::now(),
                }
            }
        }
    }

    /// Makes due tasks pending; returns when to do so again.
    async fn promote(&self) -> Duration {
        match self.engine().promote(SWEEP_MAX).await {
            Ok(promoted) if promoted.n_due == SWEEP_MAX => Duration::ZERO,
            Ok(promoted) => promoted
                .next_in
                .map_or(self.options.poll, |next| next.min(self.options.poll)),
            Err(error) => {
                warn(&error, "cannot look for tasks that are due");
                self.options.poll
            }
        }
    }

    async fn claim(&self, limit: usize) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        for queue in self.queues_in_turn() {
            let claim = Claim {
                queue,
                kinds: self.handlers.kinds(),
                limit: limit - claimed.len(),
                lease: self.options.lease,
            };
            match self.engine().claim(&claim).await {
                Ok(more) => claimed.extend(more),
                Err(error) => warn(&error, "cannot claim tasks"),
            }
            if claimed.len() >= limit {
                break;
            }
        }
        claimed
    }

    /// Returns all queues in random order, heavier ones more often in front.
    fn queues_in_turn(&self) -> Vec<QueueName> {
        let mut left = self.options.queues.clone();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let total = left.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let mut drawn = self.runtime().random_below(total);
            let position = left.iter().position(|(_, weight)| {
                let is_it = drawn < u64::from(*weight);
                drawn = drawn.saturating_sub(u64::from(*weight));
                is_it
            });
            order.push(left.remove(position.unwrap_or(0)).0);
        }
        order
    }

    fn start(
        self: &Arc<Self>,
        tasks: &TaskGroup,
        claimed: Claimed,
        slot: OwnedSemaphorePermit,
        asked: Instant,
        ended: mpsc::Sender<Ended>,
    ) {
        let lease = Lease {
            id: claimed.task.id,
            fence: claimed.task.fence,
        };
        let stopped = self.running.add(lease, asked + self.options.lease);
        let parts = self.clone();
        tasks.spawn("tasks.run", async move {
            match parts.attempt(claimed, stopped).await {
                None => parts.running.remove(&lease),
                Some(outcome) => {
                    let report = Report { lease, outcome };
                    // Fails only if the worker is gone, which is a crash: the lease runs out.
                    let _ = ended.send(Ended { report, _slot: slot }).await;
                }
            }
        });
    }

    /// Runs one attempt; `None` if the lease was lost and there is nothing to say.
    async fn attempt(&self, claimed: Claimed, stopped: oneshot::Receiver<Stop>) -> Option<Outcome> {
        let Claimed { task, payload } = claimed;
        let begun = self.runtime().instant();
        let cx = Context::new(self.runtime())
            .with_timeout(task.timeout)
            .with_idempotency_key(Some(task.id.to_string().into()));
        let run = timeout(task.timeout, catch_panic(self.handlers.run(&task.kind, payload, cx)));
        let outcome = tokio::select! {
            biased;
            ran = run => match ran {
                Ok(Ok(Ok(result))) => Some(Outcome::Succeeded { result }),
                Ok(Ok(Err(failure))) => Some(failed(described(&failure.error), failure.is_final)),
                Ok(Err(panic)) => Some(failed(format!("panicked: {panic}"), false)),
                Err(_) => Some(failed("took longer than its timeout".to_owned(), false)),
            },
            Ok(why) = stopped => (why == Stop::Cancelled).then(|| failed("cancelled".to_owned(), true)),
        };
        let took = self.runtime().instant().saturating_duration_since(begun);
        metrics::histogram!("tasks_run_seconds", "kind" => task.kind.clone()).record(took.as_secs_f64());
        if let Some(Outcome::Failed { error, .. }) = &outcome {
            let n_failed = task.n_failed + 1;
            tracing::warn!(task.id = %task.id, task.kind, n_failed, error, "a task failed");
        }
        let label = match &outcome {
            Some(Outcome::Succeeded { .. }) => "succeeded",
            Some(_) => "failed",
            None => "lost",
        };
        metrics::counter!("tasks_attempts_total", "kind" => task.kind, "outcome" => label).increment(1);
        outcome
    }

    /// Sends reports until all senders are gone.
    async fn settle(&self, mut reports: mpsc::Receiver<Ended>) {
        let mut batch = Vec::with_capacity(REPORTS_MAX);
        while reports.recv_many(&mut batch, REPORTS_MAX).await > 0 {
            let reports: Vec<Report> = batch.iter().map(|ended| ended.report.clone()).collect();
            self.deliver(&reports).await;
            for report in &reports {
                self.running.remove(&report.lease);
            }
            batch.clear();
        }
    }

    /// Repeats reports until they are taken, or their leases have surely run out.
    async fn deliver(&self, reports: &[Report]) {
        let given_up = Instant::now() + self.options.lease;
        loop {
            match self.engine().finish(reports).await {
                Ok(taken) => {
                    let n_refused = taken.iter().filter(|taken| !**taken).count();
                    if n_refused > 0 {
                        tracing::warn!(n_refused, "reports were refused: the tasks went to other workers");
                        metrics::counter!("tasks_reports_refused_total").increment(n_refused as u64);
                    }
                    return;
                }
                Err(error) => warn(&error, "cannot report on tasks"),
            }
            if Instant::now() >= given_up {
                return;
            }
            sleep(self.jittered(self.options.poll)).await;
        }
    }

    /// Extends the leases in hand, for ever.
    async fn keep_leases(&self) {
        loop {
            sleep(self.options.lease / 3).await;
            let leases = self.running.leases();
            metrics::gauge!("tasks_running").set(leases.len() as f64);
            let asked = Instant::now();
            if !leases.is_empty() {
                let answer = timeout(
                    self.options.lease / 3,
                    self.engine().extend(&leases, self.options.lease),
                )
                .await;
                match answer {
                    Ok(Ok(holds)) => self.running.answered(&leases, &holds, asked, self.options.lease),
                    Ok(Err(error)) => warn(&error, "cannot extend leases"),
                    Err(_) => tracing::warn!("extending leases takes too long"),
                }
            }
            self.running.stop_overdue(Instant::now());
        }
    }

    /// Takes tasks from the dead and deletes what was kept for its time, for ever.
    async fn tidy(&self) {
        loop {
            match self.engine().expire(SWEEP_MAX).await {
                Ok(n_expired) => metrics::counter!("tasks_leases_expired_total").increment(n_expired as u64),
                Err(error) => warn(&error, "cannot look for leases that ran out"),
            }
            if let Err(error) = self.engine().purge(SWEEP_MAX).await {
                warn(&error, "cannot delete old tasks");
            }
            sleep(self.jittered(self.options.lease / 3)).await;
        }
    }

    async fn hand_back(&self) {
        let released = |lease| Report {
            lease,
            outcome: Outcome::Released,
        };
        let reports: Vec<Report> = self.running.leases().into_iter().map(released).collect();
        if reports.is_empty() {
            return;
        }
        if let Err(error) = self.engine().finish(&reports).await {
            warn(&error, "cannot give tasks back: they run again when their leases end");
        }
    }
}

fn failed(error: String, is_final: bool) -> Outcome {
    Outcome::Failed { error, is_final }
}

/// The whole story, for whoever looks at the archive: it is not shown to strangers.
fn described(error: &Error) -> String {
    let causes = error.cause_chain();
    let reason = error.reason();
    let message = error.message();
    if causes.is_empty() {
        format!("{reason}: {message}")
    } else {
        format!("{reason}: {message}: {causes}")
    }
}

fn warn(error: &Error, what: &str) {
    tracing::warn!(reason = error.reason(), cause = error.cause_chain(), "{what}");
}
