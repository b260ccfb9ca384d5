//! How full queues are: a queue that grows without end takes its database along.
//!
//! Counting costs, so it is done every few seconds, or when what this process added since may have filled the queue. Between counts
//! the others are not seen: a queue may come to hold somewhat more than its limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mosaic_core::{Error, Result, Runtime, lock};
use tokio::time::sleep;

use crate::engine::Engine;
use crate::id::QueueName;
use crate::model::State;
use crate::new_task::NewTask;

/// A count is trusted for so long.
const TRUSTED_FOR: Duration = Duration::from_secs(5);
/// A full queue is counted again after this.
const FULL_FOR: Duration = Duration::from_millis(500);

/// Remembers how full queues are. Cheap to clone: clones remember the same.
#[derive(Debug, Clone)]
pub(crate) struct Fullness {
    limit: u64,
    known: Arc<Mutex<HashMap<QueueName, Known>>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    n_waiting: u64,
    at: Instant,
}

impl Fullness {
    /// Makes one for queues that hold at most `limit` tasks which have not begun or wait for another attempt.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            known: Arc::default(),
        }
    }

    /// Counts `tasks` in.
    ///
    /// # Errors
    /// `TASK_QUEUE_FULL` (`ResourceExhausted`) if one of their queues has no room for them.
    pub(crate) async fn admit(&self, engine: &dyn Engine, runtime: &Runtime, tasks: &[NewTask]) -> Result<()> {
        for (queue, n_new) in by_queue(tasks) {
            if self.take(runtime, queue, n_new) != Some(true) {
                self.count(engine, runtime, queue).await?;
                if self.take(runtime, queue, n_new) != Some(true) {
                    return Err(full(queue, n_new));
                }
            }
        }
        Ok(())
    }

    /// As [`Fullness::admit`], without a look at the engine: what is not known has room.
    pub(crate) fn admit_known(&self, runtime: &Runtime, tasks: &[NewTask]) -> Result<()> {
        for (queue, n_new) in by_queue(tasks) {
            if self.take(runtime, queue, n_new) == Some(false) {
                return Err(full(queue, n_new));
            }
        }
        Ok(())
    }

    /// Counts all queues every now and then, for ever.
    pub(crate) async fn count_for_ever(&self, engine: &dyn Engine, runtime: &Runtime) {
        loop {
            match engine.queues().await {
                Ok(queues) => {
                    let at = runtime.instant();
                    let mut known = lock(&self.known);
                    for queue in queues {
                        let n_waiting = n_waiting(&queue.counts);
                        known.insert(queue.queue, Known { n_waiting, at });
                    }
                }
                Err(error) => tracing::warn!(cause = error.cause_chain(), "cannot count queues: {error}"),
            }
            sleep(TRUSTED_FOR / 2).await;
        }
    }

    /// Takes places if it is known that there are some; `None` if nothing is known.
    fn take(&self, runtime: &Runtime, queue: &QueueName, n_new: u64) -> Option<bool> {
        let mut known = lock(&self.known);
        let known = known.get_mut(queue)?;
        if runtime.instant().saturating_duration_since(known.at) >= TRUSTED_FOR {
            return None;
        }
        let has_room = known.n_waiting + n_new <= self.limit;
        if has_room {
            known.n_waiting += n_new;
        }
        Some(has_room)
    }

    async fn count(&self, engine: &dyn Engine, runtime: &Runtime, queue: &QueueName) -> Result<()> {
        let at = runtime.instant();
        let is_known_full = lock(&self.known)
            .get(queue)
            .is_some_and(|known| known.n_waiting >= self.limit && at.saturating_duration_since(known.at) < FULL_FOR);
        if is_known_full {
            return Ok(());
        }
        let n_waiting = n_waiting(&engine.counts(queue).await?);
        lock(&self.known).insert(queue.clone(), Known { n_waiting, at });
        Ok(())
    }
}

/// Tasks that have not begun, or wait for another attempt.
fn n_waiting(counts: &[(State, u64)]) -> u64 {
    let is_waiting = |state| matches!(state, State::Pending | State::Scheduled | State::Retry | State::Waiting);
    counts
        .iter()
        .filter(|(state, _)| is_waiting(*state))
        .map(|(_, n)| n)
        .sum()
}

fn by_queue(tasks: &[NewTask]) -> HashMap<&QueueName, u64> {
    let mut n_new = HashMap::new();
    for task in tasks {
        *n_new.entry(&task.options().queue).or_default() += 1;
    }
    n_new
}

fn full(queue: &QueueName, n_refused: u64) -> Error {
    metrics::counter!("tasks_refused_total", "queue" => queue.to_string()).increment(n_refused);
    let full = Error::resource_exhausted("TASK_QUEUE_FULL", "the queue holds as many tasks as it may");
    full.with_retry_after(FULL_FOR)
}

#[cfg(test)]
mod tests {
    use mosaic_core::{Context, ManualClock, SystemRandom, Timestamp};

    use super::*;
    use crate::engine::Claim;
    use crate::memory::MemoryEngine;
    use crate::options::Options;
    use crate::queue::Queue;

    #[tokio::test]
    async fn a_full_queue_refuses_and_says_until_when() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
        let engine = Arc::new(MemoryEngine::new(&runtime));
        let queue = Queue::new(engine.clone(), &runtime).limited_to(10);
        let cx = Context::new(&runtime);
        let tasks = |n: usize| -> Vec<NewTask> {
            (0..n)
                .map(|_| NewTask::new(&cx, "mail", Vec::new(), Options::default()).unwrap())
                .collect()
        };
        queue.enqueue_all(&tasks(6)).await.unwrap();
        assert_eq!(
            queue.enqueue_all(&tasks(5)).await.unwrap_err().reason(),
            "TASK_QUEUE_FULL"
        );
        queue.enqueue_all(&tasks(4)).await.unwrap();
        let full = queue.enqueue_all(&tasks(1)).await.unwrap_err();
        assert_eq!((full.reason(), full.retry_after()), ("TASK_QUEUE_FULL", Some(FULL_FOR)));
        let other = Options {
            queue: "other".parse().unwrap(),
            ..Options::default()
        };
        let elsewhere = NewTask::new(&cx, "mail", Vec::new(), other).unwrap();
        queue.enqueue_all(&[elsewhere]).await.unwrap();
        // What a worker has taken makes room, which is seen with the next count.
        let claim = Claim {
            queue: QueueName::default(),
            kinds: vec!["mail".to_owned()],
            limit: 3,
            lease: Duration::from_secs(30),
        };
        assert_eq!(engine.claim(&claim).await.unwrap().len(), 3);
        assert!(queue.enqueue_all(&tasks(1)).await.is_err(), "counted a moment ago");
        clock.advance(FULL_FOR);
        queue.enqueue_all(&tasks(3)).await.unwrap();
        assert!(queue.enqueue_all(&tasks(1)).await.is_err());
    }
}
