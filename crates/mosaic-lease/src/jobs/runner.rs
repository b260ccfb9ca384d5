//! One node's hands: takes jobs, renews them, runs them, gives them away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mosaic_core::{StopSignal, TaskGroup, catch_panic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Job, Jobs};
use crate::lease::Leases;
use crate::load::{Balance, LoadPolicy, LoadSource, Turn};

/// Runs jobs of a table on this node, as many as it may; see [`Jobs`].
///
/// A job's work is dropped when it is lost; when its work returns, the job is given back and taken anew by somebody, unless the work
/// removed it.
pub struct JobRunner {
    jobs: Jobs,
    node: String,
    ttl: Duration,
    capacity: usize,
    balance: Option<Balance>,
    running: Running,
}

#[derive(Clone, Default)]
struct Running(Arc<Mutex<BTreeMap<String, Held>>>);

struct Held {
    job: Job,
    /// Until when it is surely ours; dropped to stop the work.
    until: watch::Sender<Instant>,
}

impl Running {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a job, unless it was taken anew since.
    fn remove(&self, job: &Job) {
        let mut held = self.held();
        if held.get(&job.name).is_some_and(|held| held.job.fence == job.fence) {
            held.remove(&job.name);
        }
    }
}

impl JobRunner {
    /// Makes a runner that calls itself `node`, a name no other process has, and runs at most `capacity` jobs at once.
    ///
    /// The jobs of a node that dies go to others after `ttl`.
    pub fn new(jobs: &Jobs, node: &str, ttl: Duration, capacity: usize) -> Self {
        Self {
            jobs: jobs.clone(),
            node: node.to_owned(),
            ttl,
            capacity,
            balance: None,
            running: Running::default(),
        }
    }

    /// Lets loads, published to `board`, decide who takes jobs that are free; who stays much heavier than others gives one away, at
    /// most one in [`LoadPolicy::tenure_min`].
    #[must_use]
    pub fn with_load(mut self, policy: LoadPolicy, board: Arc<dyn Leases>, source: Arc<dyn LoadSource>) -> Self {
        self.balance = Some(Balance::new(policy, board, source, "mosaic_job", &self.node));
        self
    }

    /// Runs jobs until asked to stop, and gives back what it has. Dropping the future is what a crash is.
    pub async fn run<F>(&self, mut stop: StopSignal, work: impl Fn(Job) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let group = TaskGroup::new(|panic| tracing::error!(panic.message, "a job panicked"));
        let report = async {
            match &self.balance {
                Some(balance) => balance.report_for_ever().await,
                None => std::future::pending().await,
            }
        };
        let rounds = async {
            loop {
                self.renew().await;
                self.take(&group, &work).await;
                sleep(self.ttl / 3).await;
            }
        };
        tokio::select! {
            () = stop.stopped() => {}
            () = rounds => {}
            () = report => {}
            () = self.give_away() => {}
        }
        let held: Vec<Job> = std::mem::take(&mut *self.running.held())
            .into_values()
            .map(|held| held.job)
            .collect();
        group.shutdown(Duration::ZERO).await;
        for job in held {
            self.release(&job).await;
        }
    }

    async fn renew(&self) {
        let held: Vec<Job> = self.running.held().values().map(|held| held.job.clone()).collect();
        for job in held {
            let asked = Instant::now();
            match timeout(self.ttl / 3, self.jobs.renew(&job, self.ttl)).await {
                Ok(Ok(true)) => {
                    if let Some(held) = self.running.held().get(&job.name) {
                        held.until.send_replace(asked + self.ttl);
                    }
                }
                Ok(Ok(false)) => self.running.remove(&job),
                Ok(Err(error)) => tracing::warn!(job = job.name, "cannot renew the job: {error}"),
                Err(_) => tracing::warn!(job = job.name, "renewing the job takes too long"),
            }
        }
        metrics::gauge!("lease_jobs_held").set(self.running.held().len() as f64);
    }

    async fn take<F>(&self, group: &TaskGroup, work: &impl Fn(Job) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let limit = self.capacity.saturating_sub(self.running.held().len());
        if limit == 0 {
            return;
        }
        match timeout(self.ttl / 3, self.take_up_to(limit)).await {
            Ok(taken) => taken
                .into_iter()
                .for_each(|(job, until)| self.start(group, job, until, work)),
            Err(_) => tracing::warn!("taking jobs takes too long"),
        }
    }

    /// Takes jobs if it is our turn; returns them with the time until which they are surely ours.
    async fn take_up_to(&self, limit: usize) -> Vec<(Job, Instant)> {
        let free_for = match &self.balance {
            None => Duration::ZERO,
            Some(balance) => match balance.turn().await {
                Turn::Now => Duration::ZERO,
                Turn::After(pause) => pause,
            },
        };
        let asked = Instant::now();
        match self.jobs.take(&self.node, self.ttl, free_for, limit).await {
            Ok(taken) => taken.into_iter().map(|job| (job, asked + self.ttl)).collect(),
            Err(error) => {
                tracing::warn!(cause = error.cause_chain(), "cannot take jobs: {error}");
                Vec::new()
            }
        }
    }

    fn start<F>(&self, group: &TaskGroup, job: Job, until: Instant, work: &impl Fn(Job) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tracing::info!(job = job.name, fence = job.fence, node = self.node, "takes a job");
        let (until, lasting) = watch::channel(until);
        let held = Held {
            job: job.clone(),
            until,
        };
        self.running.held().insert(job.name.clone(), held);
        let (running, jobs, working) = (self.running.clone(), self.jobs.clone(), work(job.clone()));
        let pause = self.ttl / 3;
        group.spawn("lease.job", async move {
            tokio::select! {
                () = over(lasting) => running.remove(&job),
                ended = catch_panic(working) => {
                    if let Err(panic) = ended {
                        tracing::error!(job = job.name, panic, "a job panicked");
                        // Not at once again, here or elsewhere.
                        sleep(pause).await;
                    }
                    running.remove(&job);
                    release(&jobs, &job).await;
                }
            }
        });
    }

    /// Gives away a job whenever this node has been too heavy for long enough, for ever.
    async fn give_away(&self) {
        let Some(balance) = &self.balance else {
            return std::future::pending().await;
        };
        loop {
            balance.too_heavy(Instant::now()).await;
            // Taken out of the map, its work is stopped.
            let given = self.running.held().pop_last().map(|(_, held)| held.job);
            if let Some(job) = given {
                tracing::info!(job = job.name, node = self.node, "gives a job to a lighter node");
                metrics::counter!("lease_jobs_given_away_total").increment(1);
                self.release(&job).await;
            }
        }
    }

    async fn release(&self, job: &Job) {
        release(&self.jobs, job).await;
    }
}

/// Completes when a job may be somebody else's, or is taken away.
async fn over(mut lasting: watch::Receiver<Instant>) {
    loop {
        let until = *lasting.borrow_and_update();
        tokio::select! {
            () = sleep_until(until) => return,
            renewed = lasting.changed() => {
                if renewed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn release(jobs: &Jobs, job: &Job) {
    if let Err(error) = jobs.release(job).await {
        tracing::warn!(
            job = job.name,
            "cannot give the job back, its time will run out: {error}"
        );
    }
}

impl std::fmt::Debug for JobRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobRunner")
            .field("node", &self.node)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
