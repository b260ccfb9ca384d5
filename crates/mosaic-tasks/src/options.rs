//! What the one who enqueues decides: where, when, how often, for how long.
//!
//! [`NewTask`] is the door: what passes it is valid for every engine (sizes, counts, names), so that no engine refuses a
//! part of a batch for its own reasons.

use std::time::Duration;

use mosaic_core::{Error, Result, Runtime, Timestamp};

use crate::id::{QueueName, TaskId};
use crate::task::Task;

/// Largest payload, and largest result: what is bigger belongs into a blob store, and its key into the payload.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// Most tasks in one call of `enqueue`.
pub const BATCH_MAX: usize = 10_000;
/// Longest unique key, with the name of the task.
const UNIQUE_KEY_MAX: usize = 190;
/// Longest time of one attempt.
const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest name of a kind of task.
const KIND_MAX: usize = 100;

/// When a task may run first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// After this time, by the engine's clock.
    In(Duration),
    /// From this time on, by the engine's clock.
    At(Timestamp),
}

/// How long to wait between attempts: `base`, twice that, four times, at most `max`; of which a random half is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure. Default 5 s.
    pub base: Duration,
    /// Longest pause. Default 1 h.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            max: Duration::from_secs(3600),
        }
    }
}

impl Backoff {
    /// Returns the pause after `n_failed` failures (1 is the first); `roll` is random and decides between half and whole.
    pub fn pause(self, n_failed: u32, roll: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(n_failed.saturating_sub(1));
        let whole = self.base.saturating_mul(doubled).min(self.max);
        whole / 2 + (whole / 2).mul_f64(f64::from(roll) / f64::from(u32::MAX))
    }
}

/// Only one task with this key is enqueued at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueFor {
    /// What may be there once; tasks of different kinds never meet.
    pub key: String,
    /// The key is held until the task has ended, and no longer than this.
    pub hold: Duration,
}

/// How a task is run; `Options::default()` suits most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Queue. Default `default`.
    pub queue: QueueName,
    /// Among the tasks of a queue that are due, a higher one goes first. Default 0.
    pub priority: u8,
    /// When it may run first. Default now.
    pub when: When,
    /// Refuses a second one while the first has not ended.
    pub unique: Option<UniqueFor>,
    /// Longest time of one attempt. Default 30 min.
    pub timeout: Duration,
    /// After this no attempt is begun; the task is archived.
    pub deadline: Option<Timestamp>,
    /// Attempts after the first before the task is archived. Default 25.
    pub retries_max: u32,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// How long a task that succeeded is kept, with its result. Default 0: it is deleted.
    pub retention: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: QueueName::default(),
            priority: 0,
            when: When::Now,
            unique: None,
            timeout: Duration::from_secs(1800),
            deadline: None,
            retries_max: 25,
            backoff: Backoff::default(),
            retention: Duration::ZERO,
        }
    }
}

/// A task that may be enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    id: TaskId,
    kind: String,
    payload: Vec<u8>,
    options: Options,
}

impl NewTask {
    /// Makes a task from a typed one.
    ///
    /// # Errors
    /// As [`NewTask::new`].
    pub fn of<T: Task>(runtime: &Runtime, task: &T, options: Options) -> Result<Self> {
        let payload = serde_json::to_vec(task).map_err(Error::internal)?;
        Self::new(runtime, T::NAME, payload, options)
    }

    /// Makes a task of `kind` from the bytes its handler will read.
    ///
    /// # Errors
    /// `TASK_PAYLOAD_TOO_LARGE` above [`PAYLOAD_MAX`]; `TASK_INVALID` for a kind or a unique key that is
    /// empty, too long or holds control characters, and for a timeout above 30 days.
    pub fn new(runtime: &Runtime, kind: &str, payload: Vec<u8>, mut options: Options) -> Result<Self> {
        if payload.len() > PAYLOAD_MAX {
            let error = Error::invalid_argument("TASK_PAYLOAD_TOO_LARGE", "the task's payload is too large");
            return Err(error.with_http_status(413));
        }
        if kind.is_empty() || kind.len() > KIND_MAX || kind.contains(char::is_control) {
            return Err(Error::invalid_argument(
                "TASK_INVALID",
                "a kind of task has 1 to 100 plain bytes",
            ));
        }
        if options.timeout > TIMEOUT_MAX {
            return Err(Error::invalid_argument("TASK_INVALID", "the timeout is too long"));
        }
        if let Some(unique) = &mut options.unique {
            unique.key = format!("{kind}:{}", unique.key);
            if unique.key.len() > UNIQUE_KEY_MAX || unique.key.contains(char::is_control) {
                return Err(Error::invalid_argument(
                    "TASK_INVALID",
                    "the unique key is too long or not plain",
                ));
            }
        }
        Ok(Self {
            id: TaskId::new(runtime),
            kind: kind.to_owned(),
            payload,
            options,
        })
    }

    /// Returns the id that the task will have.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Returns the kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the options; a unique key has the kind in front of it.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// Refuses a batch that is too long.
pub(crate) fn check_batch(tasks: &[NewTask]) -> Result<()> {
    if tasks.len() > BATCH_MAX {
        return Err(Error::invalid_argument(
            "TASK_BATCH_TOO_LARGE",
            "too many tasks at once",
        ));
    }
    Ok(())
}
