//! How full queues are: a queue that grows without end takes its database along.
//!
//! Counting costs, so it is done every few seconds, or when what this process added since may have filled the queue. Between counts
//! the others are not seen: a queue may come to hold somewhat more than its limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mosaic_core::{Error, Result, Runtime};

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
        let mut n_new: HashMap<&QueueName, u64> = HashMap::new();
        for task in tasks {
            *n_new.entry(&task.options().queue).or_default() += 1;
        }
        for (queue, n_new) in n_new {
            if !self.take(runtime, queue, n_new) {
                self.count(engine, runtime, queue).await?;
                if !self.take(runtime, queue, n_new) {
                    metrics::counter!("tasks_refused_total", "queue" => queue.to_string()).increment(n_new);
                    let full = Error::resource_exhausted("TASK_QUEUE_FULL", "the queue holds as many tasks as it may");
                    return Err(full.with_retry_after(FULL_FOR));
                }
            }
        }
        Ok(())
    }

    /// Takes places if it is known that there are some.
    fn take(&self, runtime: &Runtime, queue: &QueueName, n_new: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get_mut(queue) else {
            return false;
        };
        let age = runtime.instant().saturating_duration_since(known.at);
        let has_room = known.n_waiting + n_new <= self.limit && age < TRUSTED_FOR;
        if has_room {
            known.n_waiting += n_new;
        }
        has_room
    }

    async fn count(&self, engine: &dyn Engine, runtime: &Runtime, queue: &QueueName) -> Result<()> {
        let at = runtime.instant();
        let is_known_full = || {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known
                .get(queue)
                .is_some_and(|known| known.n_waiting >= self.limit && at.saturating_duration_since(known.at) < FULL_FOR)
        };
        if is_known_full() {
            return Ok(());
        }
        let is_waiting = |state| matches!(state, State::Pending | State::Scheduled | State::Retry | State::Waiting);
        let counts = engine.counts(queue).await?;
        let n_waiting = counts
            .iter()
            .filter(|(state, _)| is_waiting(*state))
            .map(|(_, n)| n)
            .sum();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(queue.clone(), Known { n_waiting, at });
        Ok(())
    }
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
