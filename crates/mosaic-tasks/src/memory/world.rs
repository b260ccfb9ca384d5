//! What the engine in memory knows, and the one door through which it changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::Timestamp;

use crate::engine::{Earlier, Flow, Schedule};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Edge, Event, Gathering, Next, Record, Refused, State};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) task: Record,
    pub(super) payload: Vec<u8>,
    pub(super) result: Vec<u8>,
}

/// A key of [`KeyLimit`](crate::KeyLimit).
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Key {
    pub(super) time: Timestamp,
    pub(super) wake_at: Option<Timestamp>,
}

/// Queue, kind and key.
pub(super) type GroupId = (QueueName, String, String);
/// Attempts and failures.
type Day = (u64, u64);
type Order = (QueueName, Reverse<u8>, Timestamp, TaskId);

#[derive(Debug, Default)]
pub(super) struct World {
    tasks: BTreeMap<TaskId, Entry>,
    /// Who is next.
    pub(super) pending: BTreeSet<Order>,
    /// What happens to tasks by itself, and when.
    pub(super) times: BTreeSet<(State, Timestamp, TaskId)>,
    pub(super) edges: Vec<Edge>,
    pub(super) groups: BTreeMap<GroupId, Gathering>,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) flows: BTreeMap<QueueName, Flow>,
    pub(super) days: BTreeMap<(QueueName, i64), Day>,
    pub(super) schedules: BTreeMap<String, Schedule>,
}

/// When something happens to a task by itself.
fn time(task: &Record) -> Timestamp {
    let time = match task.state {
        State::Active => task.lease_until,
        State::Completed | State::Archived => task.keep_until,
        State::Pending | State::Scheduled | State::Retry | State::Waiting => None,
    };
    time.unwrap_or(task.due_at)
}

fn order(task: &Record) -> Order {
    (task.queue.clone(), Reverse(task.priority), task.due_at, task.id)
}

/// Days since the epoch, UTC.
pub(super) fn day(now: Timestamp) -> i64 {
    now.as_secs().div_euclid(24 * 3600)
}

impl World {
    pub(super) fn get(&self, id: TaskId) -> Option<&Entry> {
        self.tasks.get(&id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.tasks.values()
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &Record> {
        self.entries().map(|entry| &entry.task)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.index(&entry.task);
        self.tasks.insert(entry.task.id, entry);
    }

    fn index(&mut self, task: &Record) {
        self.times.insert((task.state, time(task), task.id));
        if task.state == State::Pending {
            self.pending.insert(order(task));
        }
    }

    fn remove(&mut self, id: TaskId) -> Option<Entry> {
        let entry = self.tasks.remove(&id)?;
        self.times.remove(&(entry.task.state, time(&entry.task), id));
        self.pending.remove(&order(&entry.task));
        Some(entry)
    }

    /// Changes what is known of a task beside its life.
    pub(super) fn edit(&mut self, id: TaskId, edit: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.remove(id) {
            edit(&mut entry);
            self.insert(entry);
        }
    }

    /// Lets `event` happen to a task, and what it means to others.
    pub(super) fn happen(&mut self, id: TaskId, event: &Event, now: Timestamp) -> Result<(), Refused> {
        let Some(entry) = self.tasks.get(&id) else {
            return Ok(());
        };
        let (before, result) = (entry.task.clone(), entry.result.clone());
        let next = model::apply(&before, event, now)?;
        let effects = model::effects(&before, event, &next);
        let entry = self.remove(id);
        if let (Some(entry), Next::Kept(task)) = (entry, next) {
            self.insert(Entry { task: *task, ..entry });
        } else {
            self.edges.retain(|edge| edge.later != id);
        }
        let day = self.days.entry((before.queue, day(now))).or_default();
        day.0 += u64::from(effects.n_processed);
        day.1 += u64::from(effects.n_failed);
        if let Some(key) = effects.freed.and_then(|key| self.keys.get_mut(&key)) {
            key.wake_at = key.wake_at.map(|at| at.min(now));
        }
        if let Some(event) = effects.successors {
            self.tell(id, &event, &result, now);
        }
        Ok(())
    }

    /// Tells those that come after `earlier` what became of it.
    fn tell(&mut self, earlier: TaskId, event: &Event, result: &[u8], now: Timestamp) {
        let mut successors = Vec::new();
        for edge in self.edges.iter_mut().filter(|edge| edge.earlier == earlier) {
            if edge.result.is_none() {
                successors.push(edge.later);
                if *event == Event::PredecessorSucceeded {
                    edge.result = Some(result.to_vec());
                }
            }
        }
        for later in successors {
            // Refused by one that was archived meanwhile.
            let _ = self.happen(later, event, now);
        }
    }

    /// Returns what came before a task.
    pub(super) fn earlier(&self, id: TaskId) -> Vec<Earlier> {
        let edges = self.edges.iter().filter(|edge| edge.later == id);
        let mut earlier: Vec<Earlier> = edges
            .map(|edge| Earlier {
                id: edge.earlier,
                result: edge.result.clone(),
            })
            .collect();
        earlier.sort_by_key(|earlier| earlier.id);
        earlier
    }

    /// Returns at most `limit` tasks in one of `states` whose time has come.
    pub(super) fn due(&self, states: &[State], limit: usize, now: Timestamp) -> Vec<TaskId> {
        let in_state = |state: &State| {
            self.times
                .range((*state, Timestamp::from_micros(i64::MIN), TaskId::MIN)..)
        };
        let all = states.iter().flat_map(|state| {
            let due = in_state(state).take_while(move |(at, time, _)| at == state && *time <= now);
            due.map(|(_, _, id)| *id)
        });
        all.take(limit).collect()
    }

    /// Returns when the next task in one of `states` is due.
    pub(super) fn next(&self, states: &[State]) -> Option<Timestamp> {
        let first = |state: &State| {
            let first = self
                .times
                .range((*state, Timestamp::from_micros(i64::MIN), TaskId::MIN)..)
                .next();
            first.filter(|(at, _, _)| at == state).map(|(_, time, _)| *time)
        };
        states.iter().filter_map(first).min()
    }

    pub(super) fn n_active(&self, key: &str) -> u32 {
        let has_key = |task: &&Record| task.limit.as_ref().is_some_and(|limit| limit.key == key);
        let n = self
            .tasks()
            .filter(|task| task.state == State::Active)
            .filter(has_key)
            .count();
        u32::try_from(n).unwrap_or(u32::MAX)
    }
}
