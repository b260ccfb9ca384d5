//! The steps of the engine in memory that concern more than one task.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::{Result, Runtime, Timestamp};

use super::world::{Entry, Key, World, day};
use crate::engine::{Claim, Claimed, ENDED_MAX, Enqueued, Flow, Page, QueueStatus, Schedule, Step};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Event, Record, State, Turn, Wait};
use crate::new_task::NewTask;

impl World {
    pub(super) fn enqueue(&mut self, tasks: &[NewTask], now: Timestamp) -> Result<Vec<Enqueued>> {
        let answers = self.answers(tasks, now);
        let in_place = answers.iter().filter_map(|answer| match answer {
            Enqueued::Added(_) => None,
            Enqueued::Duplicate { of } => Some(*of),
        });
        let named = tasks.iter().flat_map(|task| task.predecessors()).copied();
        let known: BTreeMap<TaskId, (Record, Vec<u8>)> = named
            .chain(in_place)
            .filter_map(|id| self.get(id))
            .map(|entry| (entry.task.id, (entry.task.clone(), entry.result.clone())))
            .collect();
        let edges = model::edges(tasks, &answers, &known)?;
        for (new, answer) in tasks.iter().zip(&answers) {
            if *answer == Enqueued::Added(new.id()) && self.get(new.id()).is_none() {
                let n_awaited = edges.iter().filter(|edge| edge.later == new.id()).count();
                self.add(new, n_awaited, now);
            }
        }
        for edge in edges {
            self.edit(edge.earlier, |entry| entry.task.is_awaited = true);
            if edge.result.is_some() {
                self.happen(edge.later, &Event::PredecessorSucceeded, now)?;
            }
            self.edges.push(edge);
        }
        Ok(answers)
    }

    /// Returns what becomes of each task; keys are taken from those that have held them for their time.
    fn answers(&mut self, tasks: &[NewTask], now: Timestamp) -> Vec<Enqueued> {
        let holds = |task: &Record| task.unique.clone().filter(|unique| unique.until > now);
        let mut holders: BTreeMap<String, TaskId> = if tasks.iter().any(|task| task.options().unique.is_some()) {
            self.tasks()
                .filter_map(|task| Some((holds(task)?.key, task.id)))
                .collect()
        } else {
            BTreeMap::new()
        };
        let answer = |task: &NewTask| {
            let Some(unique) = &task.options().unique else {
                return Enqueued::Added(task.id());
            };
            match *holders.entry(unique.key.clone()).or_insert(task.id()) {
                id if id == task.id() => Enqueued::Added(id),
                of => Enqueued::Duplicate { of },
            }
        };
        tasks.iter().map(answer).collect()
    }

    fn add(&mut self, new: &NewTask, n_awaited: usize, now: Timestamp) {
        let n_awaited = u32::try_from(n_awaited).unwrap_or(u32::MAX);
        let task = model::enqueued(new, n_awaited, now);
        if let Some(group) = &task.group {
            let id = (task.queue.clone(), task.kind.clone(), group.key.clone());
            let gathering = model::gathered(self.groups.get(&id).copied(), group, now);
            self.groups.insert(id, gathering);
        }
        self.insert(Entry {
            task,
            payload: new.payload().to_vec(),
            result: Vec::new(),
        });
    }

    pub(super) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Vec<Claimed> {
        if self.flows.get(&claim.queue) == Some(&Flow::Paused) {
            return Vec::new();
        }
        let wanted = |id: &TaskId| {
            self.get(*id)
                .is_some_and(|entry| claim.kinds.contains(&entry.task.kind))
        };
        let order = self.pending.iter().filter(|(queue, ..)| *queue == claim.queue);
        let order: Vec<TaskId> = order.map(|(.., id)| *id).filter(wanted).take(claim.limit).collect();
        let mut claimed = Vec::new();
        for id in order {
            let event = if self.has_turn(id, now) {
                Event::Claim { lease: claim.lease }
            } else {
                Event::Hold
            };
            if self.happen(id, &event, now).is_err() {
                continue;
            }
            let entry = self.get(id).filter(|entry| entry.task.state == State::Active);
            if let Some(entry) = entry {
                claimed.push(Claimed {
                    task: entry.task.clone(),
                    payload: entry.payload.clone(),
                    earlier: self.earlier(id),
                });
            }
        }
        claimed
    }

    /// May a pending task start, as far as its key is concerned? Then its turn is taken.
    fn has_turn(&mut self, id: TaskId, now: Timestamp) -> bool {
        let limit = self.get(id).and_then(|entry| entry.task.limit.clone());
        let Some(limit) = limit else { return true };
        let n_active = self.n_active(&limit.key);
        let key = self.keys.entry(limit.key.clone()).or_default();
        match model::admit(&limit, n_active, key.time, now) {
            Turn::Now(time) => {
                key.time = time;
                true
            }
            Turn::Later(at) => {
                key.wake_at = Some(key.wake_at.map_or(at, |known| known.min(at)));
                false
            }
        }
    }

    /// Lets go who waits for a key that is free again.
    pub(super) fn release(&mut self, limit: usize, now: Timestamp) -> usize {
        let is_due = |key: &Key| key.wake_at.is_some_and(|at| at <= now);
        let due = self
            .keys
            .iter()
            .filter(|(_, key)| is_due(key))
            .map(|(name, _)| name.clone());
        let due: Vec<String> = due.take(limit).collect();
        let mut n_released = 0;
        for name in due {
            let mut waiting: Vec<Record> = self
                .tasks()
                .filter(|task| waits_for_turn(task, &name))
                .cloned()
                .collect();
            waiting.sort_by_key(|task| (std::cmp::Reverse(task.priority), task.due_at, task.id));
            let n_active = self.n_active(&name);
            let key = self.keys.entry(name.clone()).or_default();
            let released = waiting
                .first()
                .and_then(|task| task.limit.as_ref())
                .map(|limit| model::release(limit, n_active, waiting.len(), key.time, now));
            let n = released.map_or(0, |released| released.n);
            key.wake_at = released
                .filter(|released| released.n < waiting.len())
                .map(|released| released.again_at);
            for task in &waiting[..n] {
                n_released += usize::from(self.happen(task.id, &Event::Turn, now).is_ok());
            }
        }
        self.keys.retain(|_, key| key.wake_at.is_some() || key.time > now);
        n_released
    }

    /// Makes one task of each group that has gathered.
    pub(super) fn merge(&mut self, limit: usize, now: Timestamp, runtime: &Runtime) -> usize {
        let due = self.groups.iter().filter(|(_, group)| group.flush_at <= now);
        let due: Vec<_> = due.map(|(id, _)| id.clone()).take(limit).collect();
        let mut n_merged = 0;
        for id in due {
            self.groups.remove(&id);
            let is_member = |task: &Record| task.waits_for == Some(Wait::Group) && group_of(task) == Some(&id.2);
            let ours = |task: &Record| is_member(task) && task.queue == id.0 && task.kind == id.1;
            let members = self.entries().filter(|entry| ours(&entry.task));
            let members: Vec<(Record, Vec<u8>)> = members
                .map(|entry| (entry.task.clone(), entry.payload.clone()))
                .collect();
            let mut rest = members.as_slice();
            while let Some(group) = rest.first().and_then(|(task, _)| task.group.as_ref()) {
                let n = model::n_to_merge(rest.iter().map(|(_, payload)| payload.len()), group.max_size);
                self.merge_some(&rest[..n], now, runtime);
                rest = &rest[n..];
                n_merged += 1;
            }
        }
        n_merged
    }

    fn merge_some(&mut self, members: &[(Record, Vec<u8>)], now: Timestamp, runtime: &Runtime) {
        let tasks: Vec<Record> = members.iter().map(|(task, _)| task.clone()).collect();
        let Some(task) = model::merged(TaskId::new(runtime), &tasks, now) else {
            return;
        };
        for member in &tasks {
            // It waits for its group, as was looked for.
            let _ = self.happen(member.id, &Event::Merge, now);
        }
        self.insert(Entry {
            task,
            payload: model::frame(members.iter().map(|(_, payload)| payload.as_slice())),
            result: Vec::new(),
        });
    }

    /// Returns when there is something to promote.
    pub(super) fn next_promotion(&self) -> Option<Timestamp> {
        let tasks = self.next(&[State::Scheduled, State::Retry]);
        let groups = self.groups.values().map(|group| group.flush_at);
        let keys = self.keys.values().filter_map(|key| key.wake_at);
        groups.chain(keys).chain(tasks).min()
    }

    /// Deletes at most `limit` of those beyond what is kept.
    pub(super) fn evict(&mut self, limit: usize, now: Timestamp) -> usize {
        let mut ended: BTreeMap<(QueueName, State), Vec<_>> = BTreeMap::new();
        for task in self
            .tasks()
            .filter(|task| matches!(task.state, State::Completed | State::Archived))
        {
            let key = (task.queue.clone(), task.state);
            ended.entry(key).or_default().push((task.finished_at, task.id));
        }
        let mut n_evicted = 0;
        for tasks in ended.values_mut() {
            tasks.sort_unstable();
            let n_over = tasks
                .len()
                .saturating_sub(usize::try_from(ENDED_MAX).unwrap_or(usize::MAX));
            for (_, id) in tasks.iter().take(n_over.min(limit - n_evicted)) {
                n_evicted += usize::from(self.happen(*id, &Event::Evict, now).is_ok());
            }
        }
        n_evicted
    }

    pub(super) fn page(&self, page: &Page) -> impl Iterator<Item = &Record> {
        let wanted = move |task: &&Record| {
            task.queue == page.queue && task.state == page.state && page.after.is_none_or(|after| task.id > after)
        };
        self.tasks().filter(wanted).take(page.limit)
    }

    pub(super) fn counts(&self, queue: &QueueName) -> Vec<(State, u64)> {
        let mut counts = BTreeMap::new();
        for task in self.tasks().filter(|task| task.queue == *queue) {
            *counts.entry(task.state).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    pub(super) fn queues(&self, now: Timestamp) -> Vec<QueueStatus> {
        let paused = self
            .flows
            .iter()
            .filter(|(_, flow)| **flow == Flow::Paused)
            .map(|(queue, _)| queue);
        let tasks = self.tasks().map(|task| &task.queue);
        let days = self.days.keys().map(|(queue, _)| queue);
        let names: BTreeSet<&QueueName> = tasks.chain(paused).chain(days).collect();
        let status = |queue: &QueueName| {
            let (n_processed_today, n_failed_today) =
                self.days.get(&(queue.clone(), day(now))).copied().unwrap_or_default();
            let pending = self.pending.iter().filter(|(of, ..)| of == queue);
            let oldest = pending.map(|(_, _, due_at, _)| *due_at).min();
            QueueStatus {
                queue: queue.clone(),
                flow: self.flows.get(queue).copied().unwrap_or(Flow::Running),
                counts: self.counts(queue),
                latency: oldest.map_or_else(Default::default, |due_at| now.since(due_at)),
                n_processed_today,
                n_failed_today,
            }
        };
        names.into_iter().map(status).collect()
    }

    pub(super) fn declare(&mut self, owner: &str, schedules: &[Schedule]) {
        let is_declared = |name: &str| schedules.iter().any(|schedule| schedule.name == name);
        self.schedules
            .retain(|name, known| known.owner != owner || is_declared(name));
        for schedule in schedules {
            let known = self
                .schedules
                .get(&schedule.name)
                .filter(|known| known.rule == schedule.rule);
            let next_at = known.map_or(schedule.next_at, |known| known.next_at);
            let schedule = Schedule {
                next_at,
                ..schedule.clone()
            };
            self.schedules.insert(schedule.name.clone(), schedule);
        }
    }

    pub(super) fn step(&mut self, step: &Step, now: Timestamp) -> Result<bool> {
        if self.schedules.get(&step.from.name) != Some(&step.from) || step.from.next_at > now {
            return Ok(false);
        }
        self.enqueue(&step.tasks, now)?;
        if let Some(schedule) = self.schedules.get_mut(&step.from.name) {
            schedule.next_at = step.to;
        }
        Ok(true)
    }
}

fn waits_for_turn(task: &Record, key: &str) -> bool {
    task.waits_for == Some(Wait::Turn) && task.limit.as_ref().is_some_and(|limit| limit.key == key)
}

fn group_of(task: &Record) -> Option<&String> {
    task.group.as_ref().map(|group| &group.key)
}
