//! Tasks that were read, what happens to them, and what that means to others: then one commit of it all.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::{Result, Timestamp};
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::commit::{Changes, Committed};
use super::connection::contended;
use super::stored::{Stored, items, now};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Event, Next, Record, Refused};

/// Times that a step is begun anew because others were faster.
pub(super) const ATTEMPTS: usize = 50;

#[derive(Debug)]
struct Entry {
    stored: Stored,
    /// What it is now, `None` if it is gone.
    task: Option<Record>,
    successors: Vec<TaskId>,
    result: Option<Vec<u8>>,
    has_new_payload: bool,
    is_next: bool,
}

/// Tasks as they were read, and what becomes of them.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) now: Timestamp,
    entries: BTreeMap<TaskId, Entry>,
    /// Later, earlier, result.
    told: Vec<(TaskId, TaskId, Vec<u8>)>,
    counts: BTreeMap<QueueName, (u32, u32)>,
}

impl Draft {
    /// Makes a draft of tasks that were read at `now`, each with those that come after it, if they were asked for.
    pub(super) fn new(now: Timestamp, tasks: impl IntoIterator<Item = Stored>) -> Result<Self> {
        let mut draft = Self {
            now,
            entries: BTreeMap::new(),
            told: Vec::new(),
            counts: BTreeMap::new(),
        };
        let mut later = Vec::new();
        for mut stored in tasks {
            let mut successors = Vec::new();
            for successor in items(std::mem::replace(&mut stored.rest, Value::Nil))? {
                if let Some(successor) = Stored::read(successor)? {
                    successors.push(successor.record.id);
                    later.push(successor);
                }
            }
            draft.add(stored, successors);
        }
        for stored in later {
            if !draft.entries.contains_key(&stored.record.id) {
                draft.add(stored, Vec::new());
            }
        }
        Ok(draft)
    }

    fn add(&mut self, stored: Stored, successors: Vec<TaskId>) {
        let entry = Entry {
            task: Some(stored.record.clone()),
            stored,
            successors,
            result: None,
            has_new_payload: false,
            is_next: false,
        };
        self.entries.insert(entry.stored.record.id, entry);
    }

    /// Returns a task as it is now.
    pub(super) fn get(&self, id: TaskId) -> Option<&Record> {
        self.entries.get(&id)?.task.as_ref()
    }

    /// Gives a task another payload.
    pub(super) fn set_payload(&mut self, id: TaskId, payload: &[u8]) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.stored.message.payload = payload.to_vec();
            entry.has_new_payload = true;
        }
    }

    /// Keeps what a task left.
    pub(super) fn set_result(&mut self, id: TaskId, result: &[u8]) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.result = Some(result.to_vec());
        }
    }

    /// Lets `event` happen to a task, and what it means to others.
    pub(super) fn happen(&mut self, id: TaskId, event: &Event) -> Result<(), Refused> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Ok(());
        };
        let Some(task) = &entry.task else { return Ok(()) };
        let next = model::apply(task, event, self.now)?;
        let effects = model::effects(task, event, &next);
        let queue = task.queue.clone();
        entry.is_next = matches!(event, Event::Release);
        entry.task = match next {
            Next::Kept(task) => Some(*task),
            Next::Gone => None,
        };
        let (successors, result) = (entry.successors.clone(), entry.result.clone().unwrap_or_default());
        if effects.n_processed + effects.n_failed > 0 {
            let count = self.counts.entry(queue).or_default();
            count.0 += effects.n_processed;
            count.1 += effects.n_failed;
        }
        let Some(event) = effects.successors else { return Ok(()) };
        for later in successors {
            if event == Event::PredecessorSucceeded {
                self.told.push((later, id, result.clone()));
            }
            // Refused by one that was archived meanwhile.
            let _ = self.happen(later, &event);
        }
        Ok(())
    }

    /// Returns what is to be carried out.
    pub(super) fn changes(self) -> Changes {
        let mut changes = Changes::default();
        for entry in self.entries.values() {
            let Some(task) = &entry.task else {
                changes.remove(&entry.stored);
                continue;
            };
            let before = &entry.stored.record;
            if task != before || entry.has_new_payload {
                let message = entry.stored.message.clone().after(task, self.now);
                changes.keep(&entry.stored, task, &message, entry.is_next);
                if let Some(result) = &entry.result {
                    changes.result(&entry.stored, result);
                }
            }
            if task.is_cancelled && !before.is_cancelled {
                changes.tell_cancelled(&entry.stored.raw);
            }
        }
        for (later, earlier, result) in &self.told {
            if let Some(entry) = self.entries.get(later) {
                changes.edge(&entry.stored.record.queue, &entry.stored.raw, *earlier, Some(result));
            }
        }
        for (queue, (n_processed, n_failed)) in &self.counts {
            changes.count(queue, *n_processed, *n_failed);
        }
        changes
    }
}

/// What is read with tasks.
#[derive(Debug, Clone, Copy)]
pub(super) enum With {
    /// Those that come after them.
    Successors,
    /// Results and what came before.
    Everything,
    /// Nothing.
    Nothing,
}

impl RedisEngine {
    /// Reads tasks by id; those that are not there are left out.
    pub(super) async fn fetch(
        &self,
        ids: impl IntoIterator<Item = TaskId>,
        with: With,
    ) -> Result<(Timestamp, Vec<Stored>)> {
        let ids: BTreeSet<TaskId> = ids.into_iter().collect();
        let mut args = Args::new();
        args.text(match with {
            With::Successors => "after",
            With::Everything => "all",
            With::Nothing => "",
        });
        args.show(ids.len());
        {
            let places = self.places();
            for id in ids {
                match places.get(&id) {
                    Some((queue, raw)) => args.text(queue).text(raw),
                    None => args.none().show(id),
                };
            }
        }
        let mut answer = items(self.connection.run(&self.connection.scripts.fetch, args).await?)?.into_iter();
        let now = now(answer.next().unwrap_or(Value::Nil))?;
        Ok((now, read_all(answer.next().unwrap_or(Value::Nil))?))
    }

    /// Reads tasks, lets `decide` happen to them, and carries it out; anew, if others were faster.
    pub(super) async fn change<T>(
        &self,
        ids: &[TaskId],
        decide: impl Fn(&mut Draft) -> Result<T> + Send + Sync,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let (now, tasks) = self.fetch(ids.iter().copied(), With::Successors).await?;
            let mut draft = Draft::new(now, tasks)?;
            let decided = decide(&mut draft)?;
            if self.commit(None, draft.changes(), &[]).await? != Committed::Stale {
                return Ok(decided);
            }
        }
        Err(contended())
    }
}

/// Reads a list of tasks; those that are not there are left out.
pub(super) fn read_all(value: Value) -> Result<Vec<Stored>> {
    let mut tasks = Vec::new();
    for task in items(value)? {
        tasks.extend(Stored::read(task)?);
    }
    Ok(tasks)
}
