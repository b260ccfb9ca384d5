//! An engine in Redis, with the keys of asynq: for tasks that are many and cheap, and need no transaction of a database.
//!
//! Each step is one script, judged by the clock of the server. What is hot (adding, claiming, plain successes, what is due)
//! is decided in the script; everything else is read by one script, put to the rules ([`model`](crate::model)), and carried
//! out by another one if the versions of all tasks are still those that were read; else it begins anew.
//!
//! **As asynq has it** (its tools can look inside, and what its clients enqueue runs here): `asynq:queues`; of each queue
//! `asynq:{q}:t:<id>` with `msg`, `state`, `pending_since`, `unique_key`, `group`, `result`; the lists `pending`, `active`;
//! the sorted sets `lease`, `scheduled`, `retry`, `archived`, `completed`, `g:<group>`, and `groups`; `paused`; the counters
//! `processed`, `failed`, by day as well; `asynq:cancel`, in both directions. Scores are seconds, ours with a fraction.
//! What asynq enqueued has our defaults for what asynq does not know (the pauses between attempts), and the id that its
//! UUID is; another name gets a digest for an id.
//!
//! **Besides**, under the same hash tag: fields whose names begin with `x` (`x` the rest of a [`Record`](crate::Record),
//! `xv` version, `xf` fencing number, `xe` enqueued, `xd` due, `xp` priority, `xl` limit, `xr` retention, `xn` deadline, `xw`
//! what it waits for, `xc` cancelled, `xa` others come after it, `xb` it comes after others, `xu` key held until, `xm` there may
//! be more than a plain task has) and keys
//! that begin with `x:`: `x:lane:<priority>` for those above 0 and `x:lane:<priority>:<kind>` for kinds that some worker
//! does not know, both listed in `x:lanes`; `x:waiting`; `x:groups`, `x:g:<group>` when groups become one; `x:after:<id>`,
//! `x:earlier:<id>` who comes after whom; `x:ids`; `x:seen`. Shared by all queues: `asynq:x:keys`, `asynq:x:key:<key>:*` limits,
//! `asynq:unique:<key>`, `asynq:x:schedules`, `asynq:x:bell` (a channel).
//!
//! **Differences.** A task that waits for others or its turn has the state `waiting`, of which asynq's tools know nothing;
//! those in lanes are pending but not in their list. `pending_since` stays while a task is active. The deadline of a task that
//! asynq enqueued ends its retries, but does not keep it from starting; one that gathers in a group waits for asynq. asynq's `servers`, `workers` and `schedulers` are not written. The order
//! within a priority is that of becoming pending, not of the time that a task was due. Of completed tasks beyond
//! [`ENDED_MAX`](crate::ENDED_MAX) those go that would have gone first. Workers of both may share a Redis but not a
//! queue: asynq's know nothing of fences, limits and kinds. Pages ([`list`](crate::Engine::list)) walk through all ids of a state.
//!
//! **What it needs.** One Redis (7, or what is like it) with one writable node: steps that concern several queues touch
//! several slots, so a cluster refuses chains, limits and batches across queues. A Redis that loses its data loses the tasks:
//! run it with `appendonly yes`, where a killed process loses nothing and a machine at most the last second
//! (`appendfsync everysec`). What was lost counts as never claimed; reports on it are refused. `maxmemory-policy` must be
//! `noeviction`.

mod add;
mod args;
mod chain;
mod change;
mod claim;
mod commit;
mod connection;
mod engine;
mod inspect;
mod listen;
mod message;
mod promote;
mod settle;
mod stored;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mosaic_core::{Result, Runtime};

use crate::id::TaskId;
use connection::Connection;

/// Tasks of which it is remembered where they are; those who are forgotten are looked for.
const PLACES_MAX: usize = 100_000;

/// Where a task is: queue and id in the store.
type Place = (String, String);

/// See the module documentation.
pub struct RedisEngine {
    connection: Connection,
    runtime: Runtime,
    /// What was claimed here.
    places: Mutex<HashMap<TaskId, Place>>,
}

impl RedisEngine {
    /// Makes an engine for `redis://` or `rediss://`; connects at the first command, so Redis need not be there yet.
    ///
    /// # Errors
    /// `TASKS_URL_INVALID`.
    pub fn open(url: &str, runtime: &Runtime) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(url)?,
            runtime: runtime.clone(),
            places: Mutex::default(),
        })
    }

    /// Puts `prefix` in front of all keys: for several who share a Redis without knowing of each other. asynq's tools do not
    /// find them then.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.connection.set_prefix(prefix);
        self
    }

    /// Goes by the clock of its runtime instead of the server's, and lets no key end by itself: for tests that hold time
    /// still.
    #[must_use]
    pub fn with_clock(mut self) -> Self {
        self.connection.set_clock(&self.runtime);
        self
    }

    fn roll(&self) -> u32 {
        (self.runtime.random_u64() >> 32) as u32
    }

    fn places(&self) -> MutexGuard<'_, HashMap<TaskId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, all: impl Iterator<Item = (TaskId, Place)>) {
        let mut places = self.places();
        if places.len() > PLACES_MAX {
            places.clear();
        }
        places.extend(all);
    }
}

impl std::fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisEngine").finish_non_exhaustive()
    }
}
