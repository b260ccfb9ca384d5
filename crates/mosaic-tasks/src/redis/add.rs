//! Adding tasks: at once those that come after no others, which needs no look at the store.

use mosaic_core::{Result, Timestamp};
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::commit::push_step;
use super::message::{Extra, TaskMessage, encode, group_name, limit_text, micros};
use super::stored::{garbled, items, plain};
use crate::engine::{Enqueued, Step};
use crate::model;
use crate::new_task::{NewTask, check_batch};
use crate::options::When;

impl RedisEngine {
    /// Adds `tasks`, with the step of a schedule if there is one; `None` if that is not to be taken.
    pub(super) async fn add(&self, tasks: &[NewTask], step: Option<&Step>) -> Result<Option<Vec<Enqueued>>> {
        check_batch(tasks)?;
        if tasks.iter().any(|task| !task.predecessors().is_empty()) {
            return self.add_chained(tasks, step).await;
        }
        if tasks.is_empty() && step.is_none() {
            return Ok(Some(Vec::new()));
        }
        let mut args = Args::new();
        push_step(&mut args, step);
        args.show(tasks.len());
        for task in tasks {
            self.push_new(&mut args, task);
        }
        let answer = self.connection.run(&self.connection.scripts.enqueue, args).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let mut answers: Vec<Enqueued> = tasks.iter().map(|task| Enqueued::Added(task.id())).collect();
        let mut duplicates = items(answer)?.into_iter();
        while let (Some(position), Some(of)) = (duplicates.next(), duplicates.next()) {
            let position: usize = plain(position)?;
            let of: String = plain(of)?;
            let answer = answers
                .get_mut(position.wrapping_sub(1))
                .ok_or_else(|| garbled("a duplicate of what was not added"))?;
            *answer = Enqueued::Duplicate { of: of.parse()? };
        }
        Ok(Some(answers))
    }

    fn push_new(&self, args: &mut Args, new: &NewTask) {
        let options = new.options();
        // Times follow from that of the script.
        let task = model::enqueued(new, 0, Timestamp::EPOCH);
        let raw = task.id.to_string();
        let mut message = TaskMessage::of(&task, &raw, new.payload().to_vec());
        if let Some(unique) = &options.unique {
            message.unique_key = self.unique_key(&unique.key);
        }
        let (msg, extra) = encode(&message, &Extra::of(&task));
        args.text(task.queue.as_str()).bytes(raw.into_bytes());
        args.bytes(msg).bytes(extra);
        match options.when {
            When::Now => args.none(),
            When::In(pause) => args.show(format_args!("+{}", micros(pause))),
            When::At(time) => args.show(format_args!("@{}", time.as_micros())),
        };
        args.show(micros(task.retention));
        let has_more = task.priority > 0
            || task.limit.is_some()
            || task.deadline.is_some()
            || task.group.is_some()
            || task.unique.is_some();
        if !has_more {
            args.none();
            return;
        }
        args.text("1").show(task.priority);
        args.maybe(task.limit.as_ref().map(limit_text))
            .maybe(task.deadline.map(Timestamp::as_micros));
        args.maybe(task.group.as_ref().map(|group| {
            let (grace, delay) = (micros(group.grace), micros(group.max_delay));
            format!("{grace} {delay} {} {}", group.max_size, group_name(&task))
        }));
        let unique = options.unique.as_ref();
        args.maybe(unique.map(|unique| format!("{} {}", micros(unique.hold), unique.key)));
    }

    /// Returns the key, in Redis, of a unique key.
    pub(super) fn unique_key(&self, key: &str) -> String {
        self.connection.shared(&format!("unique:{key}"))
    }
}
