//! What is known of a task besides its payload.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic_core::Timestamp;

use crate::id::{QueueName, TaskId};
use crate::options::{Backoff, Group, KeyLimit};

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Due, waits for a worker.
    Pending,
    /// Not due yet.
    Scheduled,
    /// A worker has it, for as long as its lease lasts.
    Active,
    /// Failed, waits for its next attempt.
    Retry,
    /// Succeeded, kept for its result.
    Completed,
    /// Given up: out of retries, cancelled, or past its deadline.
    Archived,
    /// Something else must happen first: see [`Wait`].
    Waiting,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Scheduled,
        Self::Active,
        Self::Retry,
        Self::Completed,
        Self::Archived,
        Self::Waiting,
    ];
}

/// What a task in [`State::Waiting`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Earlier tasks must succeed.
    Predecessors,
    /// Others of its group gather.
    Group,
    /// Its key allows no more at the moment.
    Turn,
}

/// A key that no other task holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key.
    pub key: String,
    /// Until when, if the task does not end before.
    pub until: Timestamp,
}

/// A task without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Id.
    pub id: TaskId,
    /// Queue.
    pub queue: QueueName,
    /// Which handler runs it.
    pub kind: String,
    /// Higher goes first.
    pub priority: u8,
    /// Where it is in its life.
    pub state: State,
    /// When it may run.
    pub due_at: Timestamp,
    /// Attempts that failed or whose lease ran out.
    pub n_failed: u32,
    /// How many of them are followed by another attempt.
    pub retries_max: u32,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// Longest time of one attempt.
    pub timeout: Duration,
    /// After this no attempt is begun.
    pub deadline: Option<Timestamp>,
    /// How long it is kept after it succeeded.
    pub retention: Duration,
    /// The key it holds.
    pub unique: Option<Unique>,
    /// Rises with each claim.
    pub fence: i64,
    /// Until when its worker may be trusted to have it.
    pub lease_until: Option<Timestamp>,
    /// Has somebody asked to cancel it while it ran?
    pub is_cancelled: bool,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it was completed or archived.
    pub finished_at: Option<Timestamp>,
    /// Until when it is kept now that it has ended.
    pub keep_until: Option<Timestamp>,
    /// Text of the last failure.
    pub last_error: Option<String>,
    /// What travels beside the payload.
    pub headers: BTreeMap<String, String>,
    /// What it waits for, in [`State::Waiting`].
    pub waits_for: Option<Wait>,
    /// Tasks that were to succeed before it.
    pub n_predecessors: u32,
    /// Those of them that have not yet.
    pub n_awaited: u32,
    /// Do others come after it?
    pub is_awaited: bool,
    /// The group that it gathers in.
    pub group: Option<Group>,
    /// Tasks that were merged into this one; 0 if it is an ordinary one.
    pub n_merged: u32,
    /// What it shares its turns with.
    pub limit: Option<KeyLimit>,
}
