//! Adding tasks that come after others: these are read first, and the rules say who waits for whom.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::{Result, Timestamp};
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::change::{ATTEMPTS, With};
use super::commit::{Changes, Committed};
use super::connection::contended;
use super::stored::{Stored, items, plain};
use crate::engine::{Enqueued, Step};
use crate::id::TaskId;
use crate::model::{self, Edge, Event, Next, Record};
use crate::new_task::NewTask;

/// What there is in the store of what a batch names, with results.
type Known = BTreeMap<TaskId, (Stored, Vec<u8>)>;

impl RedisEngine {
    /// As [`RedisEngine::add`], for tasks of which some come after others.
    pub(super) async fn add_chained(&self, tasks: &[NewTask], step: Option<&Step>) -> Result<Option<Vec<Enqueued>>> {
        for _ in 0..ATTEMPTS {
            let answers = self.answers(tasks).await?;
            let (now, known) = self.known(tasks, &answers).await?;
            let changes = self.chained(tasks, &answers, &known, now)?;
            match self.commit(step, changes, &[]).await? {
                Committed::Done(_) => return Ok(Some(answers)),
                Committed::NotTaken => return Ok(None),
                Committed::Stale | Committed::NeedRules(_) => {}
            }
        }
        Err(contended())
    }

    /// Returns what becomes of each task, as far as unique keys are concerned.
    async fn answers(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        let unique = |task: &NewTask| task.options().unique.as_ref().map(|unique| unique.key.clone());
        let keys: BTreeSet<String> = tasks.iter().filter_map(unique).collect();
        let mut holders = BTreeMap::new();
        if !keys.is_empty() {
            let mut args = Args::new();
            args.show(keys.len());
            for key in &keys {
                args.text(key);
            }
            let answer = self.connection.run(&self.connection.scripts.holders, args).await?;
            let held = items(items(answer)?.pop().unwrap_or(Value::Nil))?;
            for (key, holder) in keys.into_iter().zip(held) {
                let holder: String = plain(holder)?;
                if !holder.is_empty() {
                    holders.insert(key, holder.parse()?);
                }
            }
        }
        let answer = |task: &NewTask| match unique(task) {
            None => Enqueued::Added(task.id()),
            Some(key) => match *holders.entry(key).or_insert(task.id()) {
                id if id == task.id() => Enqueued::Added(id),
                of => Enqueued::Duplicate { of },
            },
        };
        Ok(tasks.iter().map(answer).collect())
    }

    /// Reads what `tasks` come after, and what is there in their place.
    async fn known(&self, tasks: &[NewTask], answers: &[Enqueued]) -> Result<(Timestamp, Known)> {
        let in_place = answers.iter().map(|answer| match answer {
            Enqueued::Added(id) | Enqueued::Duplicate { of: id } => *id,
        });
        let named = tasks.iter().flat_map(|task| task.predecessors()).copied();
        let (now, found) = self.fetch(named.chain(in_place), With::Everything).await?;
        let mut known = BTreeMap::new();
        for mut stored in found {
            let rest = items(std::mem::replace(&mut stored.rest, Value::Nil))?;
            let result = plain(rest.into_iter().next().unwrap_or(Value::Nil))?;
            known.insert(stored.record.id, (stored, result));
        }
        Ok((now, known))
    }

    fn chained(&self, tasks: &[NewTask], answers: &[Enqueued], known: &Known, now: Timestamp) -> Result<Changes> {
        let records = known
            .iter()
            .map(|(id, (stored, result))| (*id, (stored.record.clone(), result.clone())));
        let edges = model::edges(tasks, answers, &records.collect())?;
        let mut before: BTreeMap<TaskId, Vec<&Edge>> = BTreeMap::new();
        for edge in &edges {
            before.entry(edge.later).or_default().push(edge);
        }
        let mut changes = Changes::default();
        let mut added: Vec<(Record, &[&Edge])> = Vec::new();
        for (new, answer) in tasks.iter().zip(answers) {
            if *answer != Enqueued::Added(new.id()) || known.contains_key(&new.id()) {
                continue;
            }
            let edges = before.get(&new.id()).map_or(&[][..], Vec::as_slice);
            let task = waiting(new, edges, now)?;
            changes.create(&task, new.payload().to_vec(), &self.unique_key(""));
            changes.gather(&task);
            added.push((task, edges));
        }
        for (task, edges) in &added {
            for edge in *edges {
                let (queue, raw, expect) = match known.get(&edge.earlier) {
                    Some((stored, _)) => (&stored.record.queue, stored.raw.clone(), stored.expect.as_str()),
                    None => {
                        let new = tasks.iter().find(|new| new.id() == edge.earlier);
                        let queue = new.map_or(&task.queue, |new| &new.options().queue);
                        (queue, edge.earlier.to_string(), "*")
                    }
                };
                changes.await_task(queue, &raw, expect, task);
                changes.edge(&task.queue, &task.id.to_string(), edge.earlier, edge.result.as_deref());
            }
        }
        Ok(changes)
    }
}

/// Returns a new task as it is after those of its predecessors that have succeeded.
fn waiting(new: &NewTask, edges: &[&Edge], now: Timestamp) -> Result<Record> {
    let n_awaited = u32::try_from(edges.len()).unwrap_or(u32::MAX);
    let mut task = model::enqueued(new, n_awaited, now);
    for _ in edges.iter().filter(|edge| edge.result.is_some()) {
        if let Next::Kept(next) = model::apply(&task, &Event::PredecessorSucceeded, now)? {
            task = *next;
        }
    }
    Ok(task)
}
