//! Fires the ticks.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Context, Result, StopSignal, TaskGroup};
use tokio::time::sleep;

use super::{NAME_MAX, Periodic, invalid};
use crate::engine::Schedule;
use crate::options::is_plain;
use crate::queue::Queue;

/// Longest pause: another process may have changed a schedule.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Declares the schedules of one owner (a service) and fires their ticks. Every instance of the service runs one.
#[derive(Debug)]
pub struct Scheduler {
    queue: Queue,
    owner: String,
    periodic: Arc<[Periodic]>,
}

impl Scheduler {
    /// Makes a scheduler. Schedules that `owner` declared earlier and that are not in `periodic` are removed when it starts.
    ///
    /// # Errors
    /// `TASK_SCHEDULE_INVALID` if two have the same name, or the owner's is not plain.
    pub fn new(queue: &Queue, owner: &str, periodic: Vec<Periodic>) -> Result<Self> {
        let mut names: Vec<&str> = periodic.iter().map(|periodic| periodic.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) || owner.is_empty() || !is_plain(owner, NAME_MAX) {
            return Err(invalid("schedules of one owner, which is plain, have different names"));
        }
        Ok(Self {
            queue: queue.clone(),
            owner: owner.to_owned(),
            periodic: periodic.into(),
        })
    }

    /// Starts the scheduler; it ends with `group`.
    pub fn spawn(self, group: &TaskGroup) {
        let stop = group.stop_signal();
        group.spawn("tasks.scheduler", self.run(stop));
    }

    /// Works until asked to stop. Dropping it is safe.
    pub async fn run(self, mut stop: StopSignal) {
        let work = async {
            while let Err(error) = self.declare().await {
                warn(&error, "cannot declare schedules");
                sleep(PAUSE).await;
            }
            loop {
                let pause = self.fire().await.unwrap_or_else(|error| {
                    warn(&error, "cannot fire schedules");
                    PAUSE
                });
                sleep(pause).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.stopped() => {}
        }
    }

    /// Makes its schedules known; [`Scheduler::run`] does it first.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn declare(&self) -> Result<()> {
        let engine = self.queue.engine();
        let now = engine.schedules(&self.owner).await?.now;
        let schedules = self.periodic.iter().map(|periodic| periodic.schedule(&self.owner, now));
        engine.declare(&self.owner, &schedules.collect::<Vec<_>>()).await
    }

    /// Fires what is due, and returns how long to wait for the next one; [`Scheduler::run`] does it again and again.
    ///
    /// # Errors
    /// Failures of the store: what was not fired yet is still due.
    pub async fn fire(&self) -> Result<Duration> {
        let engine = self.queue.engine();
        let stored = engine.schedules(&self.owner).await?;
        let cx = Context::new(self.queue.runtime());
        let mut pause = LOOK_AGAIN;
        for schedule in &stored.schedules {
            let Some(periodic) = self.periodic.iter().find(|periodic| periodic.name == schedule.name) else {
                continue;
            };
            let mut next_at = schedule.next_at;
            if let Some(step) = periodic.step(&cx, schedule, stored.now)? {
                next_at = step.to;
                if engine.step(&step).await? {
                    fired(schedule, step.tasks.len());
                    self.queue.wake();
                }
            }
            if schedule.rule == periodic.rule {
                pause = pause.min(next_at.since(stored.now));
            }
        }
        Ok(pause)
    }
}

fn fired(schedule: &Schedule, n_tasks: usize) {
    tracing::debug!(schedule = schedule.name, n_tasks, "a schedule fired");
    metrics::counter!("tasks_schedules_fired_total", "schedule" => schedule.name.clone()).increment(n_tasks as u64);
}

fn warn(error: &mosaic_core::Error, what: &str) {
    tracing::warn!(reason = error.reason(), cause = error.cause_chain(), "{what}");
}
