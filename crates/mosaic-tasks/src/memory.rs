//! An engine in memory: for tests and for work that need not survive the process.
//!
//! One lock around a map, scanned by every claim: it is there to be obviously right, and passes the same suite as the
//! engines that last.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Runtime, Timestamp};

use crate::engine::{Claim, Claimed, Command, Engine, Enqueued, Hold, Lease, Outcome, Promoted, Report};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Event, Next, Record, State};
use crate::options::{NewTask, check_batch};

/// See the module documentation.
#[derive(Debug)]
pub struct MemoryEngine {
    runtime: Runtime,
    tasks: Mutex<BTreeMap<TaskId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    task: Record,
    payload: Vec<u8>,
    result: Vec<u8>,
}

type Tasks = BTreeMap<TaskId, Entry>;

impl MemoryEngine {
    /// Makes an engine without tasks that goes by the clock of `runtime`.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            tasks: Mutex::default(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self) -> u32 {
        (self.runtime.random_u64() >> 32) as u32
    }

    /// Applies an event to at most `limit` of the tasks in `states` that allow it.
    fn sweep(&self, states: &[State], limit: usize, event: impl Fn() -> Event) -> usize {
        let now = self.runtime.now();
        let mut tasks = self.tasks();
        let mut nexts = Vec::new();
        for entry in tasks.values().filter(|entry| states.contains(&entry.task.state)) {
            if nexts.len() == limit {
                break;
            }
            if let Ok(next) = model::apply(&entry.task, &event(), now) {
                nexts.push((entry.task.id, next));
            }
        }
        let n = nexts.len();
        for (id, next) in nexts {
            store(&mut tasks, id, next);
        }
        n
    }
}

fn store(tasks: &mut Tasks, id: TaskId, next: Next) {
    match next {
        Next::Gone => drop(tasks.remove(&id)),
        Next::Kept(task) => {
            if let Some(entry) = tasks.get_mut(&id) {
                entry.task = *task;
            }
        }
    }
}

fn holder(tasks: &Tasks, key: &str, now: Timestamp) -> Option<TaskId> {
    let holds = |task: &Record| {
        task.unique
            .as_ref()
            .is_some_and(|unique| unique.key == key && unique.until > now)
    };
    tasks
        .values()
        .find(|entry| holds(&entry.task))
        .map(|entry| entry.task.id)
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        check_batch(tasks)?;
        let now = self.runtime.now();
        let mut known = self.tasks();
        let mut answers = Vec::with_capacity(tasks.len());
        for new in tasks {
            let task = model::enqueued(new, now);
            let there = task.unique.as_ref().and_then(|unique| holder(&known, &unique.key, now));
            if let Some(of) = there {
                answers.push(Enqueued::Duplicate { of });
                continue;
            }
            answers.push(Enqueued::Added(task.id));
            let entry = Entry {
                task,
                payload: new.payload().to_vec(),
                result: Vec::new(),
            };
            known.insert(new.id(), entry);
        }
        Ok(answers)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        let now = self.runtime.now();
        let mut tasks = self.tasks();
        let wanted = |task: &Record| {
            task.state == State::Pending && task.queue == claim.queue && claim.kinds.contains(&task.kind)
        };
        let mut order: Vec<_> = tasks
            .values()
            .filter(|entry| wanted(&entry.task))
            .map(|entry| (std::cmp::Reverse(entry.task.priority), entry.task.due_at, entry.task.id))
            .collect();
        order.sort_unstable();
        let mut claimed = Vec::new();
        for (_, _, id) in order.into_iter().take(claim.limit) {
            let entry = &tasks[&id];
            let next = model::apply(&entry.task, &Event::Claim { lease: claim.lease }, now)?;
            if let Next::Kept(task) = &next
                && task.state == State::Active
            {
                claimed.push(Claimed {
                    task: (**task).clone(),
                    payload: entry.payload.clone(),
                });
            }
            store(&mut tasks, id, next);
        }
        Ok(claimed)
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        let now = self.runtime.now();
        let mut tasks = self.tasks();
        let mut holds = Vec::with_capacity(leases.len());
        for held in leases {
            let Some(entry) = tasks
                .get(&held.id)
                .filter(|entry| model::holds(&entry.task, held.fence))
            else {
                holds.push(Hold::Lost);
                continue;
            };
            holds.push(if entry.task.is_cancelled {
                Hold::Cancelled
            } else {
                Hold::Kept
            });
            let next = model::apply(&entry.task, &Event::Extend { lease }, now)?;
            store(&mut tasks, held.id, next);
        }
        Ok(holds)
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let now = self.runtime.now();
        let mut tasks = self.tasks();
        let mut taken = Vec::with_capacity(reports.len());
        for Report { lease, outcome } in reports {
            let entry = tasks.get_mut(&lease.id);
            let Some(entry) = entry.filter(|entry| model::holds(&entry.task, lease.fence)) else {
                taken.push(false);
                continue;
            };
            if let Outcome::Succeeded { result } = outcome {
                entry.result.clone_from(result);
            }
            let next = model::apply(&entry.task, &outcome.event(self.roll()), now)?;
            store(&mut tasks, lease.id, next);
            taken.push(true);
        }
        Ok(taken)
    }

    async fn promote(&self, limit: usize) -> Result<Promoted> {
        let n_due = self.sweep(&[State::Scheduled, State::Retry], limit, || Event::Due);
        let now = self.runtime.now();
        let waits = |state| matches!(state, State::Scheduled | State::Retry);
        let tasks = self.tasks();
        let times = tasks
            .values()
            .filter(|entry| waits(entry.task.state))
            .map(|entry| entry.task.due_at);
        Ok(Promoted {
            n_due,
            next_in: times.min().map(|due_at| due_at.since(now)),
        })
    }

    async fn expire(&self, limit: usize) -> Result<usize> {
        Ok(self.sweep(&[State::Active], limit, || Event::Expire { roll: self.roll() }))
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        Ok(self.sweep(&[State::Completed, State::Archived], limit, || Event::Purge))
    }

    async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        let now = self.runtime.now();
        let mut tasks = self.tasks();
        let entry = tasks.get(&id).ok_or_else(no_such_task)?;
        let next = model::apply(&entry.task, &command.event(), now)?;
        store(&mut tasks, id, next);
        Ok(())
    }

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        let mut counts = BTreeMap::new();
        for entry in self.tasks().values().filter(|entry| entry.task.queue == *queue) {
            *counts.entry(entry.task.state).or_insert(0) += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn list(&self, queue: &QueueName, state: State, after: Option<TaskId>, limit: usize) -> Result<Vec<Record>> {
        let tasks = self.tasks();
        let wanted =
            |task: &&Record| task.queue == *queue && task.state == state && after.is_none_or(|after| task.id > after);
        let found = tasks.values().map(|entry| &entry.task).filter(wanted).take(limit);
        Ok(found.cloned().collect())
    }

    async fn look(&self, id: TaskId) -> Result<Option<(Record, Vec<u8>)>> {
        let tasks = self.tasks();
        Ok(tasks.get(&id).map(|entry| (entry.task.clone(), entry.result.clone())))
    }
}

pub(crate) fn no_such_task() -> Error {
    Error::not_found("TASK_NOT_FOUND", "no such task")
}
