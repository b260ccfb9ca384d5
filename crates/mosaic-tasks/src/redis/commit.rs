//! What the rules decided, as the script that carries it out reads it.

use mosaic_core::{Result, Timestamp};
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::message::{Extra, TaskMessage, encode, group_name, limit_text, micros};
use super::stored::{Stored, garbled, items, plain, state_name, wait_name};
use crate::engine::Step;
use crate::id::{QueueName, TaskId};
use crate::model::{Record, State};

/// Changes that happen together or not at all.
#[derive(Debug, Default)]
pub(super) struct Changes {
    n: usize,
    args: Args,
}

/// A report that needs no rules, unless the script finds otherwise.
#[derive(Debug, Clone)]
pub(super) struct Success {
    pub(super) queue: String,
    pub(super) raw: String,
    pub(super) fence: i64,
    pub(super) result: Vec<u8>,
}

/// What became of changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// They happened; whether each success was taken.
    Done(Vec<bool>),
    /// Something is not as it was read: nothing happened.
    Stale,
    /// These successes need the rules: nothing happened.
    NeedRules(Vec<usize>),
    /// The schedule's step is not to be taken: nothing happened.
    NotTaken,
}

/// When a task comes to its turn among those in its state.
fn time(task: &Record) -> Timestamp {
    let time = match task.state {
        State::Active => task.lease_until,
        State::Completed => task.keep_until,
        State::Archived => task.finished_at,
        State::Waiting => Some(task.enqueued_at),
        State::Pending | State::Scheduled | State::Retry => None,
    };
    time.unwrap_or(task.due_at)
}

impl Changes {
    fn begin(&mut self, what: &str) -> &mut Args {
        self.n += 1;
        self.args.text(what)
    }

    /// `task` is what `before` becomes; `is_next` if it goes before others that are pending.
    pub(super) fn keep(&mut self, before: &Stored, task: &Record, message: &TaskMessage, is_next: bool) {
        let args = self.begin("K");
        args.text(task.queue.as_str()).text(&before.raw).text(&before.expect);
        push_task(args, task, message, is_next);
    }

    /// A new task, which nobody has added meanwhile, and whose key nobody holds. Returns whether it gathers in a group.
    pub(super) fn create(&mut self, task: &Record, payload: Vec<u8>, unique_prefix: &str) {
        let raw = task.id.to_string();
        let mut message = TaskMessage::of(task, &raw, payload);
        if let Some(unique) = &task.unique {
            message.unique_key = format!("{unique_prefix}{}", unique.key);
        }
        let args = self.begin("N");
        args.text(task.queue.as_str()).text(&raw).none();
        push_task(args, task, &message, false);
    }

    /// `task` comes to its group.
    pub(super) fn gather(&mut self, task: &Record) {
        let Some(group) = &task.group else { return };
        let args = self.begin("H");
        args.text(task.queue.as_str()).text(group_name(task));
        args.show(micros(group.grace))
            .show(micros(group.max_delay))
            .show(group.max_size);
    }

    pub(super) fn remove(&mut self, before: &Stored) {
        let args = self.begin("G");
        args.text(before.record.queue.as_str())
            .text(&before.raw)
            .text(&before.expect);
    }

    /// `later` comes after the task at `queue` and `raw`, which is as `expect` says (a star for "whatever it is").
    pub(super) fn await_task(&mut self, queue: &QueueName, raw: &str, expect: &str, later: &Record) {
        let args = self.begin("A");
        args.text(queue.as_str()).text(raw).text(expect);
        args.show(format_args!("{} {}", later.queue, later.id));
    }

    /// What `later` knows of the result of `earlier`.
    pub(super) fn edge(&mut self, queue: &QueueName, later: &str, earlier: TaskId, result: Option<&[u8]>) {
        let args = self.begin("E");
        args.text(queue.as_str()).text(later).show(earlier);
        match result {
            Some(result) => args.bytes([b"+", result].concat()),
            None => args.text("-"),
        };
    }

    pub(super) fn result(&mut self, of: &Stored, result: &[u8]) {
        let args = self.begin("R");
        args.text(of.record.queue.as_str()).text(&of.raw).text(result);
    }

    pub(super) fn count(&mut self, queue: &QueueName, n_processed: u32, n_failed: u32) {
        let args = self.begin("C");
        args.text(queue.as_str()).show(n_processed).show(n_failed);
    }

    /// asynq's workers hear that a task of theirs is to be stopped.
    pub(super) fn tell_cancelled(&mut self, raw: &str) {
        self.begin("X").text(raw);
    }
}

fn push_task(args: &mut Args, task: &Record, message: &TaskMessage, is_next: bool) {
    let (msg, extra) = encode(message, &Extra::of(task));
    args.text(state_name(task)).bytes(msg).bytes(extra).show(task.fence);
    args.show(task.enqueued_at.as_micros()).show(task.due_at.as_micros());
    args.show(task.priority).maybe(task.limit.as_ref().map(limit_text));
    args.show(micros(task.retention))
        .maybe(task.deadline.map(Timestamp::as_micros));
    args.text(wait_name(task))
        .text(if task.is_cancelled { "1" } else { "" })
        .show(time(task).as_micros())
        .text(if is_next { "1" } else { "" });
    args.maybe(task.group.as_ref().map(|_| group_name(task)));
    args.maybe(task.unique.as_ref().map(|unique| unique.key.as_str()));
    args.maybe(task.unique.as_ref().map(|unique| unique.until.as_micros()));
}

/// Adds the step of a schedule, or that there is none.
pub(super) fn push_step(args: &mut Args, step: Option<&Step>) {
    let Some(Step { from, to, .. }) = step else {
        args.none();
        return;
    };
    let stored = |at: Timestamp| format!("{}\n{}\n{}", at.as_micros(), from.owner, from.rule);
    args.text("1")
        .text(&from.name)
        .text(stored(from.next_at))
        .text(stored(*to));
}

impl RedisEngine {
    /// Carries out `changes` and takes `successes`, with the step of a schedule if there is one.
    pub(super) async fn commit(
        &self,
        step: Option<&Step>,
        changes: Changes,
        successes: &[Success],
    ) -> Result<Committed> {
        let mut args = Args::new();
        push_step(&mut args, step);
        args.show(changes.n).append(changes.args);
        args.show(successes.len());
        for success in successes {
            args.text(&success.queue)
                .text(&success.raw)
                .show(success.fence)
                .text(&success.result);
        }
        let scripts = &self.connection.scripts;
        let mut answer = items(self.connection.run(&scripts.commit, args).await?)?.into_iter();
        let kind: i64 = plain(answer.next().unwrap_or(Value::Nil))?;
        let rest = answer.next().unwrap_or(Value::Nil);
        Ok(match kind {
            0 => Committed::Stale,
            1 => Committed::Done(plain::<Vec<u8>>(rest)?.into_iter().map(|taken| taken == b'1').collect()),
            2 => Committed::NeedRules(
                plain::<Vec<usize>>(rest)?
                    .into_iter()
                    .map(|position| position - 1)
                    .collect(),
            ),
            3 => Committed::NotTaken,
            _ => return Err(garbled("what became of changes")),
        })
    }
}
