//! Promise P7, by seeds: whatever dies, and whenever, a task runs to success, or is archived, or waits.
//!
//! A step is one call to the engine. Before it the worker may be dead (nothing happens), after it as well (it happened, nobody
//! heard), the store may fail either way, and reports come twice and late. Chains, groups and limits are among the tasks.
//! After each step: enqueued == succeeded + merged + what is there; at the end all that can run has run.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{ManualClock, Runtime, SeededRandom, Timestamp};
use mosaic_sql::Database;
use mosaic_tasks::{
    Backoff, Claimed, Engine, Enqueued, Event, Group, KeyLimit, MIGRATIONS, MemoryEngine, NewTask, Options, Outcome,
    QueueName, SqlEngine, State, UniqueFor, When, chain,
};

use crate::bench::{LEASE, mail, reported};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    engine: Arc<dyn Engine>,
    clock: Arc<ManualClock>,
    random: Runtime,
    /// What workers have in hand, the dead ones too: their reports come late.
    hands: Vec<Claimed>,
    n_enqueued: u64,
    n_succeeded: u64,
}

impl World {
    fn below(&self, bound: u64) -> u64 {
        self.random.random_below(bound)
    }

    fn options(&self) -> Options {
        let mut options = Options {
            retries_max: self.below(3) as u32,
            backoff: Backoff {
                base: SECOND,
                max: 4 * SECOND,
            },
            ..Options::default()
        };
        match self.below(6) {
            0 => options.when = When::In(SECOND * self.below(20) as u32),
            1 => {
                options.group = Some(Group {
                    key: self.below(2).to_string(),
                    grace: 3 * SECOND,
                    max_delay: 9 * SECOND,
                    max_size: 3,
                });
            }
            2 => {
                options.limit = Some(KeyLimit {
                    key: self.below(2).to_string(),
                    concurrency: Some(1),
                    rate: None,
                });
            }
            3 => {
                options.unique = Some(UniqueFor {
                    key: self.below(2).to_string(),
                    hold: 9 * SECOND,
                });
            }
            _ => {}
        }
        options
    }

    fn new_task(&self, options: Options) -> NewTask {
        let cx = mosaic_core::Context::new(&self.random);
        NewTask::new(&cx, "mail", vec![7; self.below(9) as usize], options).unwrap()
    }

    async fn enqueue(&mut self) {
        let tasks = if self.below(4) == 0 {
            let plain = || {
                self.new_task(Options {
                    group: None,
                    ..self.options()
                })
            };
            chain([plain(), plain(), plain()]).unwrap()
        } else {
            vec![self.new_task(self.options())]
        };
        let answers = self.engine.enqueue(&tasks).await.unwrap();
        let added = answers.iter().filter(|answer| matches!(answer, Enqueued::Added(_)));
        self.n_enqueued += added.count() as u64;
    }

    async fn claim(&mut self) {
        let claimed = self.engine.claim(&mail(1 + self.below(4) as usize)).await.unwrap();
        // One in four workers dies before it hears of what it was given.
        if self.below(4) > 0 {
            self.hands.extend(claimed);
        }
    }

    async fn report(&mut self) {
        if self.hands.is_empty() {
            return;
        }
        let position = self.below(self.hands.len() as u64) as usize;
        let claimed = self.hands[position].clone();
        // Otherwise it comes again: nobody heard that it was taken.
        if self.below(4) > 0 {
            self.hands.swap_remove(position);
        }
        let outcome = match self.below(6) {
            0 => Outcome::Released,
            1 => Outcome::Failed {
                error: "no".to_owned(),
                is_final: self.below(3) == 0,
            },
            _ => Outcome::Succeeded { result: vec![1] },
        };
        let is_success = matches!(outcome, Outcome::Succeeded { .. });
        let twice = [reported(&claimed, outcome.clone()), reported(&claimed, outcome)];
        let taken = self.engine.finish(&twice).await.unwrap();
        assert!(!taken[1], "one report is taken once");
        if taken[0] && is_success {
            self.n_succeeded += u64::from(claimed.task.n_merged.max(1));
        }
    }

    async fn upkeep(&mut self) {
        self.clock.advance(SECOND * self.below(20) as u32);
        self.engine.promote(1 + self.below(5) as usize).await.unwrap();
        if self.below(2) == 0 {
            self.engine.expire(1 + self.below(5) as usize).await.unwrap();
        }
    }

    /// Returns the tasks that are there, members of merged ones each, by state.
    async fn there(&self) -> Vec<(State, u64)> {
        let mut there = Vec::new();
        for state in State::ALL {
            let page = mosaic_tasks::Page {
                queue: QueueName::default(),
                state,
                after: None,
                limit: 10_000,
            };
            let tasks = self.engine.list(&page).await.unwrap();
            there.push((state, tasks.iter().map(|task| u64::from(task.n_merged.max(1))).sum()));
        }
        there
    }

    async fn check(&self, seed: u64) {
        let there = self.there().await;
        let n_there: u64 = there.iter().map(|(_, n)| n).sum();
        assert_eq!(self.n_enqueued, self.n_succeeded + n_there, "seed {seed}: {there:?}");
    }

    /// Good workers come, and nobody dies any more: what is left waits for somebody who runs the archived ones.
    async fn settle(&mut self, seed: u64) {
        for _ in 0..200 {
            self.clock.advance(LEASE);
            self.engine.expire(1000).await.unwrap();
            self.engine.promote(1000).await.unwrap();
            for claimed in self.engine.claim(&mail(1000)).await.unwrap() {
                let outcome = Outcome::Succeeded { result: Vec::new() };
                assert_eq!(
                    self.engine.finish(&[reported(&claimed, outcome)]).await.unwrap(),
                    [true]
                );
                self.n_succeeded += u64::from(claimed.task.n_merged.max(1));
            }
            let there = self.there().await;
            let is_quiet = |(state, n): &(State, u64)| *n == 0 || matches!(state, State::Archived | State::Waiting);
            let promoted = self.engine.promote(1000).await.unwrap();
            if there.iter().all(is_quiet) && promoted.n_due == 0 && promoted.next_in.is_none() {
                break;
            }
        }
        self.check(seed).await;
        self.waits_for_the_archive(seed).await;
    }

    /// Whoever still waits comes after somebody who is archived, or after one that waits itself.
    async fn waits_for_the_archive(&self, seed: u64) {
        let page = |state| mosaic_tasks::Page {
            queue: QueueName::default(),
            state,
            after: None,
            limit: 10_000,
        };
        for task in self.engine.list(&page(State::Waiting)).await.unwrap() {
            assert!(
                mosaic_tasks::apply(&task, &Event::PredecessorSucceeded, Timestamp::EPOCH).is_ok(),
                "seed {seed}: {task:?}"
            );
            let seen = self.engine.look(task.id).await.unwrap().unwrap();
            for earlier in seen.earlier.iter().filter(|earlier| earlier.result.is_none()) {
                let earlier = self.engine.look(earlier.id).await.unwrap().unwrap().task;
                assert!(
                    matches!(earlier.state, State::Archived | State::Waiting),
                    "seed {seed}: {earlier:?}"
                );
            }
        }
        for (state, n) in self.there().await {
            let is_quiet = n == 0 || matches!(state, State::Archived | State::Waiting);
            assert!(is_quiet, "seed {seed}: {n} are left in {state:?}");
        }
    }
}

async fn run(seed: u64, n_steps: u32, engine: impl AsyncFn(&Runtime) -> Arc<dyn Engine>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let random = Runtime::new(clock.clone(), Arc::new(SeededRandom::new(seed)));
    let mut world = World {
        engine: engine(&random).await,
        clock,
        random,
        hands: Vec::new(),
        n_enqueued: 0,
        n_succeeded: 0,
    };
    for _ in 0..n_steps {
        match world.below(8) {
            0 | 1 => world.enqueue().await,
            2 | 3 => world.claim().await,
            4 | 5 => world.report().await,
            _ => world.upkeep().await,
        }
        world.check(seed).await;
    }
    world.settle(seed).await;
}

fn seeds(n: u64) -> impl Iterator<Item = u64> {
    let first = Runtime::system().random_u64();
    eprintln!("seeds from {first}");
    (0..n).map(move |position| first.wrapping_add(position))
}

#[tokio::test]
async fn nothing_vanishes_from_memory() {
    for seed in seeds(500) {
        run(seed, 80, async |runtime| {
            Arc::new(MemoryEngine::new(runtime)) as Arc<dyn Engine>
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_vanishes_from_sqlite() {
    for seed in seeds(15) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/", folder.path().display());
        let options = mosaic_sql::Options::default();
        let database = Database::open(&url, "tasks", &options, MIGRATIONS).await.unwrap();
        run(seed, 80, async |runtime| {
            Arc::new(SqlEngine::with_clock(&database, runtime)) as Arc<dyn Engine>
        })
        .await;
        database.close().await;
    }
}
