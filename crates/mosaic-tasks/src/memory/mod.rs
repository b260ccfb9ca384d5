//! An engine in memory: for tests and for work that need not survive the process.
//!
//! One lock around everything; every change goes through [`World::happen`]. It passes the same suite as the engines that
//! last.

mod steps;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Result, Runtime};

use crate::engine::{
    Claim, Claimed, Command, Commanded, Engine, Enqueued, Flow, Hold, Lease, Outcome, Page, Promoted, QueueStatus,
    Report, Schedule, Schedules, Seen, Step, no_such_task,
};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Event, Record, State};
use crate::new_task::{NewTask, check_batch, check_payload};
use world::World;

/// See the module documentation.
#[derive(Debug)]
pub struct MemoryEngine {
    runtime: Runtime,
    world: Mutex<World>,
}

impl MemoryEngine {
    /// Makes an engine without tasks that goes by the clock of `runtime`.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            world: Mutex::default(),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self) -> u32 {
        (self.runtime.random_u64() >> 32) as u32
    }

    /// Applies an event to at most `limit` of the tasks in `states` whose time has come.
    fn sweep(&self, states: &[State], limit: usize, event: impl Fn() -> Event) -> usize {
        let now = self.runtime.now();
        let mut world = self.world();
        let due = world.due(states, limit, now);
        due.into_iter()
            .filter(|id| world.happen(*id, &event(), now).is_ok())
            .count()
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        check_batch(tasks)?;
        self.world().enqueue(tasks, self.runtime.now())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        Ok(self.world().claim(claim, self.runtime.now()))
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        let now = self.runtime.now();
        let mut world = self.world();
        let mut holds = Vec::with_capacity(leases.len());
        for held in leases {
            let entry = world.get(held.id).filter(|entry| model::holds(&entry.task, held.fence));
            let Some(entry) = entry else {
                holds.push(Hold::Lost);
                continue;
            };
            holds.push(if entry.task.is_cancelled {
                Hold::Cancelled
            } else {
                Hold::Kept
            });
            world.happen(held.id, &Event::Extend { lease }, now)?;
        }
        Ok(holds)
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let now = self.runtime.now();
        let mut world = self.world();
        let mut taken = Vec::with_capacity(reports.len());
        for Report { lease, outcome } in reports {
            let entry = world.get(lease.id);
            let is_held = entry.is_some_and(|entry| model::holds(&entry.task, lease.fence));
            taken.push(is_held);
            if !is_held {
                continue;
            }
            if let Outcome::Succeeded { result } = outcome {
                world.edit(lease.id, |entry| entry.result.clone_from(result));
            }
            world.happen(lease.id, &outcome.event(self.roll()), now)?;
        }
        Ok(taken)
    }

    async fn promote(&self, limit: usize) -> Result<Promoted> {
        let n_due = self.sweep(&[State::Scheduled, State::Retry], limit, || Event::Due);
        let now = self.runtime.now();
        let mut world = self.world();
        let n_merged = world.merge(limit, now, &self.runtime);
        let n_turns = world.release(limit, now);
        Ok(Promoted {
            n_due: n_due + n_merged + n_turns,
            next_in: world.next_promotion().map(|at| at.since(now)),
        })
    }

    async fn expire(&self, limit: usize) -> Result<usize> {
        Ok(self.sweep(&[State::Active], limit, || Event::Expire { roll: self.roll() }))
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        let n_over = self.sweep(&[State::Completed, State::Archived], limit, || Event::Purge);
        Ok(n_over + self.world().evict(limit - n_over, self.runtime.now()))
    }

    async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        let mut world = self.world();
        world.get(id).ok_or_else(no_such_task)?;
        world.happen(id, &command.event(), self.runtime.now())?;
        Ok(())
    }

    async fn command_all(&self, page: &Page, command: Command) -> Result<Commanded> {
        let now = self.runtime.now();
        let mut world = self.world();
        let ids: Vec<TaskId> = world.page(page).map(|task| task.id).collect();
        let n_done = ids
            .iter()
            .filter(|id| world.happen(**id, &command.event(), now).is_ok())
            .count();
        Ok(Commanded {
            n_done,
            last: ids.last().copied(),
        })
    }

    async fn set_payload(&self, id: TaskId, payload: &[u8]) -> Result<()> {
        check_payload(payload)?;
        let mut world = self.world();
        let entry = world.get(id).ok_or_else(no_such_task)?;
        model::may_change(&entry.task)?;
        world.edit(id, |entry| entry.payload = payload.to_vec());
        Ok(())
    }

    async fn set_flow(&self, queue: &QueueName, flow: Flow) -> Result<()> {
        self.world().flows.insert(queue.clone(), flow);
        Ok(())
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        Ok(self.world().queues(self.runtime.now()))
    }

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        Ok(self.world().counts(queue))
    }

    async fn list(&self, page: &Page) -> Result<Vec<Record>> {
        Ok(self.world().page(page).cloned().collect())
    }

    async fn look(&self, id: TaskId) -> Result<Option<Seen>> {
        let world = self.world();
        Ok(world.get(id).map(|entry| Seen {
            task: entry.task.clone(),
            payload: entry.payload.clone(),
            result: entry.result.clone(),
            earlier: world.earlier(id),
        }))
    }

    async fn declare(&self, owner: &str, schedules: &[Schedule]) -> Result<()> {
        self.world().declare(owner, schedules);
        Ok(())
    }

    async fn schedules(&self, owner: &str) -> Result<Schedules> {
        let world = self.world();
        let ours = world.schedules.values().filter(|schedule| schedule.owner == owner);
        Ok(Schedules {
            now: self.runtime.now(),
            schedules: ours.cloned().collect(),
        })
    }

    async fn step(&self, step: &Step) -> Result<bool> {
        check_batch(&step.tasks)?;
        self.world().step(step, self.runtime.now())
    }
}
