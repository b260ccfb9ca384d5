//! What the one who enqueues decides: where, when, how often, for how long.
//!
//! Everything here is checked by [`NewTask`](crate::NewTask), so that no engine refuses a part of a batch for its own reasons.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic_core::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::id::QueueName;

/// Largest payload, and largest result: what is bigger belongs into a blob store, and its key into the payload.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// Longest unique key, with the name of the task.
const UNIQUE_KEY_MAX: usize = 190;
/// Longest time of one attempt.
const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest key of a group.
const GROUP_KEY_MAX: usize = 100;
/// Most members of a merged task.
const GROUP_SIZE_MAX: u32 = 10_000;
/// Most headers.
const HEADERS_MAX: usize = 32;
/// Most bytes of all headers together.
const HEADERS_BYTES_MAX: usize = 4096;

/// When a task may run first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum When {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// After this time, by the engine's clock.
    In(Duration),
    /// From this time on, by the engine's clock.
    At(#[serde(with = "crate::carried::micros")] Timestamp),
}

/// How long to wait between attempts: `base`, twice that, four times, at most `max`; of which a random half is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueFor {
    /// What may be there once; tasks of different kinds never meet.
    pub key: String,
    /// The key is held until the task has ended, and no longer than this.
    pub hold: Duration,
}

/// Gathers with others of its kind, queue and key, to become one task with all their payloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Who gathers together.
    pub key: String,
    /// They become one after so long without another one.
    pub grace: Duration,
    /// They become one when the first is so old.
    pub max_delay: Duration,
    /// They become one when there are so many: at least 1, at most 10,000.
    pub max_size: u32,
}

/// At most `n` starts in `per`, spread over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// So many, at least one.
    pub n: u32,
    /// In any time of this length.
    pub per: Duration,
}

/// What all tasks with one key share, across queues, kinds and workers; they should agree about the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyLimit {
    /// The key.
    pub key: String,
    /// At most so many run at once.
    pub concurrency: Option<u32>,
    /// At most so many start.
    pub rate: Option<Rate>,
}

/// How a task is run; `Options::default()` suits most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    #[serde(with = "crate::carried::maybe_micros")]
    pub deadline: Option<Timestamp>,
    /// Attempts after the first before the task is archived. Default 25.
    pub retries_max: u32,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// How long a task that succeeded is kept, with its result. Default 0: it is deleted.
    pub retention: Duration,
    /// Gathers with others first; not together with `when`, `unique` and predecessors.
    pub group: Option<Group>,
    /// Shares its turns with others.
    pub limit: Option<KeyLimit>,
    /// What travels beside the payload: at most 32, and 4 KiB. `traceparent` is the enqueuer's.
    pub headers: BTreeMap<String, String>,
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
            group: None,
            limit: None,
            headers: BTreeMap::new(),
        }
    }
}

impl Options {
    /// Refuses what no engine takes, and puts `kind` in front of a unique key.
    pub(crate) fn checked(mut self, kind: &str) -> Result<Self> {
        if let Some(unique) = &mut self.unique {
            unique.key = format!("{kind}:{}", unique.key);
        }
        let unique = self.unique.as_ref().map(|unique| unique.key.as_str());
        let limit = self.limit.as_ref().map(|limit| limit.key.as_str());
        let n_bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (holds, why) in [
            (self.timeout <= TIMEOUT_MAX, "the timeout is too long"),
            (
                unique.is_none_or(|key| is_plain(key, UNIQUE_KEY_MAX)),
                "the unique key is too long or not plain",
            ),
            (
                limit.is_none_or(|key| !key.is_empty() && is_plain(key, UNIQUE_KEY_MAX)),
                "the key of the limit is empty, too long or not plain",
            ),
            (self.has_good_limit(), "a limit is of one at least"),
            (self.has_good_group(), "the group is not possible"),
            (
                self.headers.len() <= HEADERS_MAX && n_bytes <= HEADERS_BYTES_MAX,
                "the headers are too many or too large",
            ),
            (
                self.headers
                    .iter()
                    .all(|(name, value)| !name.is_empty() && !(name.clone() + value).contains('\0')),
                "a header without a name, or with a NUL",
            ),
        ] {
            if !holds {
                return Err(invalid(why));
            }
        }
        Ok(self)
    }

    fn has_good_limit(&self) -> bool {
        self.limit.as_ref().is_none_or(|limit| {
            limit.concurrency.is_none_or(|most| most > 0)
                && limit.rate.is_none_or(|rate| rate.n > 0 && !rate.per.is_zero())
        })
    }

    fn has_good_group(&self) -> bool {
        self.group.as_ref().is_none_or(|group| {
            is_plain(&group.key, GROUP_KEY_MAX)
                && (1..=GROUP_SIZE_MAX).contains(&group.max_size)
                && self.unique.is_none()
                && self.when == When::Now
        })
    }
}

pub(crate) fn is_plain(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.contains(char::is_control)
}

pub(crate) fn invalid(why: &'static str) -> Error {
    Error::invalid_argument("TASK_INVALID", why)
}
