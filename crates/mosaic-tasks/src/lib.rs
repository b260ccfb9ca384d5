//! Work for later: tasks that outlive the process, run at least once, and end in success or in the archive.
//!
//! A service enqueues a typed [`Task`] (at once, later, unique for a while, after others, as part of a group), in the
//! transaction that made it necessary ([`Queue::within`]), and a [`Worker`] runs it, here or in another process. A
//! [`Scheduler`] enqueues what comes again and again; an [`Inspector`] shows all of it. What is promised:
//!
//! - **No task vanishes.** A worker that dies loses its lease, and the task goes to another one; a task that fails is
//!   tried again, later and later, until it is archived with its last error. Archived tasks can be run again.
//! - **At least once, rarely twice.** A worker that was only slow may find its task with another one. Its report is then
//!   refused (each claim has a fencing number), but what it did is done: handlers must be repeatable, and
//!   [`Context::idempotency_key`](mosaic_core::Context::idempotency_key) is the task's id to that end.
//! - **One clock.** Times are judged by the engine (the database's clock), so workers whose clocks differ do not take each
//!   other's tasks, and delays are not early.
//! - **Once, where the effect is in the same database**: [`TaskContext::complete_in`] commits both or none.
//! - **Each tick of a schedule once**, whatever processes run, with whatever clocks.
//! - **Order** within a queue is by priority, then by due time, when handed out; nothing is said of the end.
//!
//! Not promised: exactly once for effects elsewhere, order among tasks that run at the same time, a task that starts to the
//! millisecond (workers of the process that enqueued it are woken, on PostgreSQL others as well, elsewhere they look once a
//! second).

mod carried;
mod context;
mod engine;
mod fullness;
mod id;
mod inspector;
mod memory;
mod model;
mod new_task;
mod options;
mod periodic;
mod queue;
mod redis;
mod sql;
mod task;
mod worker;

pub use carried::Carrier;
pub use context::TaskContext;
pub use engine::{
    Claim, Claimed, Command, Commanded, ENDED_MAX, Earlier, Engine, Enqueued, Flow, Hold, Lease, Outcome, Page,
    Promoted, QueueStatus, Report, Schedule, Schedules, Seen, Step,
};
pub use id::{QueueName, TaskId};
pub use inspector::Inspector;
pub use memory::MemoryEngine;
pub use model::{
    ARCHIVED_FOR, Edge, Effects, Event, Gathering, MERGED_BYTES_MAX, Next, Record, Refused, Released, State, Turn,
    Unique, Wait, admit, apply, edges, effects, enqueued, frame, gathered, holds, may_change, merged, n_to_merge,
    release, unframe,
};
pub use new_task::{BATCH_MAX, NewTask, PREDECESSORS_MAX, after_all, chain};
pub use options::{Backoff, Group, KeyLimit, Options, PAYLOAD_MAX, Rate, UniqueFor, When};
pub use periodic::{CatchUp, Periodic, Scheduler};
pub use queue::{Queue, QueueWithin};
pub use redis::RedisEngine;
pub use sql::{MIGRATIONS, SqlEngine};
pub use task::{Handlers, Task};
pub use worker::{QueueOrder, Worker, WorkerOptions};
