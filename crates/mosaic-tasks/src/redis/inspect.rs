//! What people see.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic_core::Result;
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::change::With;
use super::stored::{self, items, plain};
use crate::engine::{Flow, Page, QueueStatus, Schedule, Schedules, Seen};
use crate::id::{QueueName, TaskId};
use crate::model::{Record, State};

/// Ids that are looked at in one step of a page.
const WINDOW: usize = 20_000;

/// In the order that the script counts them.
const COUNTED: [State; 7] = [
    State::Pending,
    State::Scheduled,
    State::Active,
    State::Retry,
    State::Completed,
    State::Archived,
    State::Waiting,
];

fn name(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Scheduled => "scheduled",
        State::Active => "active",
        State::Retry => "retry",
        State::Completed => "completed",
        State::Archived => "archived",
        State::Waiting => "waiting",
    }
}

impl RedisEngine {
    /// Returns how all queues stand, or one; by name.
    pub(super) async fn statuses(&self, one: Option<&QueueName>) -> Result<Vec<QueueStatus>> {
        let mut args = Args::new();
        args.maybe(one);
        let answer = self.connection.run(&self.connection.scripts.queues, args).await?;
        let mut statuses = Vec::new();
        for queue in items(answer)? {
            let mut fields = items(queue)?.into_iter();
            let mut next = || fields.next().unwrap_or(Value::Nil);
            let queue: String = plain(next())?;
            let is_paused: i64 = plain(next())?;
            let counts: Vec<u64> = plain(next())?;
            let latency: String = plain(next())?;
            // asynq allows names that are none here.
            let Ok(queue) = queue.parse() else { continue };
            let counts = COUNTED.into_iter().zip(counts);
            statuses.push(QueueStatus {
                queue,
                flow: if is_paused == 1 { Flow::Paused } else { Flow::Running },
                counts: counts.filter(|(_, n)| *n > 0).collect(),
                latency: Duration::from_micros(latency.parse().unwrap_or(0)),
                n_processed_today: plain(next())?,
                n_failed_today: plain(next())?,
            });
        }
        statuses.sort_by(|one, other| one.queue.cmp(&other.queue));
        Ok(statuses)
    }

    /// Returns the ids of a page, lowest first. What is added or removed meanwhile may hide others from it.
    pub(super) async fn page(&self, page: &Page) -> Result<Vec<TaskId>> {
        let after = page.after.map_or_else(String::new, |after| after.to_string());
        let mut found = BTreeMap::new();
        for window in 0_usize.. {
            let mut args = Args::new();
            args.text(page.queue.as_str()).text(name(page.state)).text(&after);
            args.show(page.limit).show(window).show(WINDOW);
            let answer = self.connection.run(&self.connection.scripts.page, args).await?;
            let mut answer = items(answer)?.into_iter();
            for pair in items(answer.next().unwrap_or(Value::Nil))? {
                let [name, raw]: [String; 2] = plain::<Vec<String>>(pair)?
                    .try_into()
                    .map_err(|_| stored::garbled("not an id"))?;
                found.insert(name.parse::<TaskId>()?, (page.queue.to_string(), raw));
            }
            while found.len() > page.limit {
                found.pop_last();
            }
            let has_more: i64 = plain(answer.next().unwrap_or(Value::Nil))?;
            if has_more == 0 {
                break;
            }
        }
        let ids = found.keys().copied().collect();
        self.remember(found.into_iter());
        Ok(ids)
    }

    pub(super) async fn records(&self, page: &Page) -> Result<Vec<Record>> {
        let ids = self.page(page).await?;
        let (_, found) = self.fetch(ids, With::Nothing).await?;
        let mut records: Vec<Record> = found.into_iter().map(|stored| stored.record).collect();
        // It may have gone on since.
        records.retain(|task| task.state == page.state);
        records.sort_by_key(|task| task.id);
        Ok(records)
    }

    pub(super) async fn see(&self, id: TaskId) -> Result<Option<Seen>> {
        let (_, found) = self.fetch([id], With::Everything).await?;
        let Some(stored) = found.into_iter().next() else {
            return Ok(None);
        };
        let mut rest = items(stored.rest)?.into_iter();
        Ok(Some(Seen {
            task: stored.record,
            payload: stored.message.payload,
            result: plain(rest.next().unwrap_or(Value::Nil))?,
            earlier: stored::earlier(rest.next().unwrap_or(Value::Nil))?,
        }))
    }

    /// Pauses, resumes, declares; returns the time and all schedules.
    pub(super) async fn manage(&self, args: Args) -> Result<Schedules> {
        let answer = self.connection.run(&self.connection.scripts.manage, args).await?;
        let mut answer = items(answer)?.into_iter();
        let now = stored::now(answer.next().unwrap_or(Value::Nil))?;
        let mut stored = items(answer.next().unwrap_or(Value::Nil))?.into_iter();
        let mut schedules = Vec::new();
        while let (Some(name), Some(text)) = (stored.next(), stored.next()) {
            let text: String = plain(text)?;
            let mut parts = text.splitn(3, '\n');
            let mut part = || parts.next().unwrap_or_default();
            let (next_at, owner, rule) = (part(), part(), part());
            schedules.push(Schedule {
                name: plain(name)?,
                owner: owner.to_owned(),
                rule: rule.to_owned(),
                next_at: stored::time(next_at).ok_or_else(|| stored::garbled("not a tick"))?,
            });
        }
        schedules.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Schedules { now, schedules })
    }
}
