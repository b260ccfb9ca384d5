//! The engine in memory and the one in Redis, which decides some things in scripts: the same history leaves the same tasks.
//!
//! Not part of it is what is random (ids of merged tasks, pauses between attempts, which are of no length here) and the order
//! in which tasks are given out, in which the two may differ: a claim takes all there are.

use std::time::Duration;

use mosaic_core::{Runtime, SeededRandom};
use mosaic_tasks::{
    Backoff, Claimed, Command, Enqueued, Lease, NewTask, Options, Outcome, QueueName, TaskId, UniqueFor, When,
};

use crate::bench::{Bench, LEASE, failed, lease, mail, reported, succeeded};

const SECOND: Duration = Duration::from_secs(1);

struct Twins {
    memory: Bench,
    redis: Bench,
    random: Runtime,
    ids: Vec<TaskId>,
    hands: Vec<Claimed>,
}

impl Twins {
    fn below(&self, n: usize) -> usize {
        self.random.random_below(n as u64) as usize
    }

    fn one_of<T: Copy>(&self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn options(&self) -> Options {
        let seconds = |n: usize| SECOND * n as u32;
        let now = self.memory.runtime.now();
        let when = match self.below(4) {
            0 => When::In(seconds(self.below(30))),
            1 => When::At(now.plus(seconds(self.below(30))).minus(seconds(self.below(30)))),
            _ => When::Now,
        };
        let unique = UniqueFor {
            key: format!("key {}", self.below(4)),
            hold: seconds(1 + self.below(60)),
        };
        Options {
            queue: self.one_of(&["default", "slow"]).parse().unwrap(),
            priority: self.one_of(&[0, 0, 3, 200]),
            when,
            unique: (self.below(4) == 0).then_some(unique),
            deadline: (self.below(5) == 0).then(|| now.plus(seconds(self.below(60)))),
            retries_max: self.below(3) as u32,
            backoff: Backoff {
                base: Duration::ZERO,
                max: Duration::ZERO,
            },
            retention: seconds(self.one_of(&[0, 0, 40])),
            ..Options::default()
        }
    }

    async fn enqueue(&mut self) {
        let mut tasks: Vec<NewTask> = Vec::new();
        for _ in 0..=self.below(4) {
            let mut task = self.memory.new_task(self.options());
            if self.below(3) == 0 {
                let inside = tasks.iter().map(NewTask::id);
                let earlier: Vec<TaskId> = inside.chain(self.ids.iter().copied()).collect();
                if !earlier.is_empty() {
                    let some: Vec<TaskId> = (0..=self.below(2)).map(|_| self.one_of(&earlier)).collect();
                    task = task.after(&some).unwrap();
                }
            }
            tasks.push(task);
        }
        let answer = self.memory.engine.enqueue(&tasks).await;
        let twin = self.redis.engine.enqueue(&tasks).await;
        match (answer, twin) {
            (Ok(answer), Ok(twin)) => {
                assert_eq!(answer, twin);
                let added = |answer: &Enqueued| matches!(answer, Enqueued::Added(_));
                let added = tasks.iter().zip(&answer).filter(|(_, answer)| added(answer));
                self.ids.extend(added.map(|(task, _)| task.id()));
            }
            (answer, twin) => assert_eq!(answer.unwrap_err().reason(), twin.unwrap_err().reason()),
        }
    }

    async fn claim(&mut self) {
        for queue in ["default", "slow"] {
            let mut claim = mail(1000);
            claim.queue = queue.parse().unwrap();
            let mut claimed = self.memory.engine.claim(&claim).await.unwrap();
            let mut twin = self.redis.engine.claim(&claim).await.unwrap();
            claimed.sort_by_key(|claimed| claimed.task.id);
            twin.sort_by_key(|claimed| claimed.task.id);
            assert_eq!(claimed, twin);
            self.hands.extend(claimed);
        }
    }

    async fn report(&mut self) {
        let mut reports = Vec::new();
        for _ in 0..=self.below(5) {
            if self.hands.is_empty() {
                break;
            }
            let position = self.below(self.hands.len());
            // Now and then twice.
            let claimed = if self.below(5) == 0 {
                self.hands[position].clone()
            } else {
                self.hands.swap_remove(position)
            };
            let fatal = Outcome::Failed {
                error: "no use".to_owned(),
                is_final: true,
            };
            let outcome = match self.below(8) {
                0 | 1 => failed(),
                2 => fatal,
                3 => Outcome::Released,
                _ => succeeded(b"42"),
            };
            reports.push(reported(&claimed, outcome));
        }
        let taken = self.memory.engine.finish(&reports).await.unwrap();
        assert_eq!(taken, self.redis.engine.finish(&reports).await.unwrap(), "{reports:?}");
    }

    async fn extend(&self) {
        let leases: Vec<Lease> = self.hands.iter().map(lease).collect();
        let holds = self.memory.engine.extend(&leases, LEASE).await.unwrap();
        assert_eq!(holds, self.redis.engine.extend(&leases, LEASE).await.unwrap());
    }

    async fn command(&self) {
        if self.ids.is_empty() {
            return;
        }
        let id = self.one_of(&self.ids);
        let command = self.one_of(&[Command::Cancel, Command::RunNow, Command::Archive, Command::Delete]);
        let done = self.memory.engine.command(id, command).await;
        let twin = self.redis.engine.command(id, command).await;
        let reason = |done: mosaic_core::Result<()>| done.map_err(|error| error.reason().to_owned());
        assert_eq!(reason(done), reason(twin), "{command:?}");
        let done = self.memory.engine.set_payload(id, b"other").await;
        let twin = self.redis.engine.set_payload(id, b"other").await;
        assert_eq!(reason(done), reason(twin));
    }

    async fn upkeep(&self) {
        let time = SECOND * self.below(25) as u32;
        self.memory.clock.advance(time);
        self.redis.clock.advance(time);
        let n = self.memory.engine.expire(1000).await.unwrap();
        assert_eq!(n, self.redis.engine.expire(1000).await.unwrap());
        let n = self.memory.engine.purge(1000).await.unwrap();
        assert_eq!(n, self.redis.engine.purge(1000).await.unwrap());
        let promoted = self.memory.engine.promote(1000).await.unwrap();
        assert_eq!(promoted, self.redis.engine.promote(1000).await.unwrap());
    }

    async fn compare(&self) {
        for id in &self.ids {
            let seen = self.memory.engine.look(*id).await.unwrap();
            assert_eq!(seen, self.redis.engine.look(*id).await.unwrap());
        }
        for queue in ["default", "slow"] {
            let queue: QueueName = queue.parse().unwrap();
            let counts = self.memory.engine.counts(&queue).await.unwrap();
            assert_eq!(counts, self.redis.engine.counts(&queue).await.unwrap());
        }
        let day = |bench: &Bench| {
            let queues = bench.engine.clone();
            async move {
                let queues = queues.queues().await.unwrap();
                queues
                    .into_iter()
                    .filter(|queue| queue.n_processed_today > 0 || !queue.counts.is_empty())
                    .map(|queue| (queue.queue, queue.n_processed_today, queue.n_failed_today))
                    .collect::<Vec<_>>()
            }
        };
        assert_eq!(day(&self.memory).await, day(&self.redis).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_history_leaves_the_same_tasks() {
    for _ in 0..4 {
        let seed = Runtime::system().random_u64();
        eprintln!("seed {seed}");
        let Some(redis) = Bench::redis("twin").await else {
            return;
        };
        let memory = Bench::memory("twin").await.unwrap();
        let random = Runtime::new(memory.clock.clone(), std::sync::Arc::new(SeededRandom::new(seed)));
        let mut twins = Twins {
            memory,
            redis,
            random,
            ids: Vec::new(),
            hands: Vec::new(),
        };
        for _ in 0..60 {
            match twins.below(8) {
                0 | 1 => twins.enqueue().await,
                2 => twins.claim().await,
                3 | 4 => twins.report().await,
                5 => twins.extend().await,
                6 => twins.command().await,
                _ => twins.upkeep().await,
            }
            twins.compare().await;
        }
        twins.redis.remove().await;
    }
}
