//! The worker, on a clock that jumps whenever everybody waits.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Clock, Context, Error, Result, Runtime, SystemRandom, TaskGroup, Timestamp};
use mosaic_tasks::{
    Command, Engine, Enqueued, Handlers, MemoryEngine, Options, Queue, QueueName, State, Task, TaskContext, TaskId,
    When, Worker, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::dying::Dying;

const SECOND: Duration = Duration::from_secs(1);

/// Goes with tokio's clock, which the tests hold still.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).plus(self.0.elapsed())
    }

    fn instant(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// What handlers did, and when.
#[derive(Default)]
struct Log(Mutex<Vec<u32>>);

impl Log {
    fn runs(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Serialize, Deserialize, Clone, Copy)]
enum Mood {
    Work,
    Fail,
    GiveUp,
    Panic,
    Hang,
    TakeSeconds(u64),
}

#[derive(Serialize, Deserialize)]
struct Job {
    number: u32,
    mood: Mood,
}

impl Task for Job {
    const NAME: &'static str = "job";
    type Needs = Log;
    type Output = String;

    async fn run(self, log: &Log, cx: &TaskContext) -> Result<String> {
        assert!(cx.idempotency_key().is_some());
        log.0.lock().unwrap().push(self.number);
        match self.mood {
            Mood::Work => {}
            Mood::Fail => return Err(Error::unavailable("NO_POST", "the post is closed").caused_by("a strike")),
            Mood::GiveUp => return Err(Error::failed_precondition("NO_ADDRESS", "nobody there")),
            Mood::Panic => panic!("at the disco"),
            Mood::Hang => pending().await,
            Mood::TakeSeconds(secs) => tokio::time::sleep(SECOND * secs as u32).await,
        }
        Ok(format!("done {}", self.number))
    }

    fn is_final(error: &Error) -> bool {
        error.reason() == "NO_ADDRESS"
    }
}

pub(crate) struct Stage {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) queue: Queue,
    log: Arc<Log>,
    pub(crate) runtime: Runtime,
    pub(crate) group: TaskGroup,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let runtime = Runtime::new(Arc::new(TokioClock(Instant::now())), Arc::new(SystemRandom));
        let engine = Arc::new(MemoryEngine::new(&runtime));
        Self {
            queue: Queue::new(engine.clone(), &runtime),
            engine,
            log: Arc::default(),
            runtime,
            group: TaskGroup::new(|panic| panic!("{panic:?}")),
        }
    }

    fn worker_on(&self, engine: Arc<dyn Engine>, options: WorkerOptions) -> Worker {
        let handlers = Handlers::new().with::<Job>(self.log.clone());
        Worker::new(&Queue::new(engine, &self.runtime), handlers, options)
    }

    fn start(&self, options: WorkerOptions) {
        let handlers = Handlers::new().with::<Job>(self.log.clone());
        Worker::new(&self.queue, handlers, options).spawn(&self.group);
    }

    async fn add(&self, number: u32, mood: Mood, options: Options) -> TaskId {
        match self
            .queue
            .enqueue(&Context::new(&self.runtime), &Job { number, mood }, options)
            .await
            .unwrap()
        {
            Enqueued::Added(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn count(&self) -> Vec<(State, u64)> {
        self.engine.counts(&QueueName::default()).await.unwrap()
    }

    #[track_caller]
    pub(crate) fn until_count(&self, want: &[(State, u64)]) -> impl Future<Output = ()> {
        self.until_count_every(Duration::from_millis(1), want)
    }

    #[track_caller]
    pub(crate) fn until_count_every(&self, pause: Duration, want: &[(State, u64)]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            while self.count().await != want {
                let counts = self.count().await;
                assert!(
                    begun.elapsed() < SECOND * 3600,
                    "{counts:?} is not {want:?} (at {caller})"
                );
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn error_of(&self, id: TaskId) -> String {
        self.engine.look(id).await.unwrap().unwrap().task.last_error.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_and_at_once() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    // Not a whole number of polls: it would be found by looking.
    tokio::time::sleep(Duration::from_millis(100_300)).await;
    let begun = Instant::now();
    stage.add(7, Mood::Work, Options::default()).await;
    stage.until_count(&[]).await;
    assert!(
        begun.elapsed() < Duration::from_millis(5),
        "woken, not polled: {:?}",
        begun.elapsed()
    );
    assert_eq!(stage.log.runs(), [7]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_elsewhere_finds_it_within_its_poll() {
    let stage = Stage::new();
    stage
        .worker_on(stage.engine.clone(), WorkerOptions::default())
        .spawn(&stage.group);
    tokio::time::sleep(100 * SECOND).await;
    let begun = Instant::now();
    stage.add(7, Mood::Work, Options::default()).await;
    stage.until_count(&[]).await;
    assert!(begun.elapsed() <= Duration::from_millis(1501), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_task_is_neither_early_nor_late() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    let delayed = Options {
        when: When::In(Duration::from_millis(77_300)),
        ..Options::default()
    };
    let begun = Instant::now();
    stage.add(1, Mood::Work, delayed).await;
    stage.until_count(&[]).await;
    let took = begun.elapsed();
    assert!((77_300..=77_310).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_output_is_kept_with_the_task() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    let kept = Options {
        retention: 60 * SECOND,
        ..Options::default()
    };
    let id = stage.add(3, Mood::Work, kept).await;
    stage.until_count(&[(State::Completed, 1)]).await;
    assert_eq!(stage.engine.look(id).await.unwrap().unwrap().result, b"\"done 3\"");
    stage.until_count(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn failures_panics_and_timeouts_end_in_the_archive_with_their_story() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    let options = || Options {
        retries_max: 2,
        timeout: 10 * SECOND,
        ..Options::default()
    };
    let failing = stage.add(1, Mood::Fail, options()).await;
    let panicking = stage.add(2, Mood::Panic, options()).await;
    let hanging = stage.add(3, Mood::Hang, options()).await;
    let giving_up = stage.add(4, Mood::GiveUp, options()).await;
    stage.until_count(&[(State::Archived, 4)]).await;
    let mut runs = stage.log.runs();
    runs.sort_unstable();
    assert_eq!(runs, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
    assert_eq!(stage.error_of(failing).await, "NO_POST: the post is closed: a strike");
    assert_eq!(stage.error_of(panicking).await, "panicked: at the disco");
    assert_eq!(stage.error_of(hanging).await, "took longer than its timeout");
    assert_eq!(stage.error_of(giving_up).await, "NO_ADDRESS: nobody there");
}

#[tokio::test(start_paused = true)]
async fn a_long_task_keeps_its_lease_and_runs_once() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    stage.start(WorkerOptions::default());
    stage.add(1, Mood::TakeSeconds(600), Options::default()).await;
    stage.until_count(&[]).await;
    assert_eq!(stage.log.runs(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_running_task_is_cancelled_by_the_next_heartbeat() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    let id = stage.add(1, Mood::Hang, Options::default()).await;
    stage.until_count(&[(State::Active, 1)]).await;
    let begun = Instant::now();
    stage.engine.command(id, Command::Cancel).await.unwrap();
    stage.until_count(&[(State::Archived, 1)]).await;
    assert!(begun.elapsed() <= 11 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(stage.error_of(id).await, "cancelled");
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_allowed() {
    let stage = Stage::new();
    for number in 0..10 {
        stage.add(number, Mood::TakeSeconds(10), Options::default()).await;
    }
    let begun = Instant::now();
    let options = WorkerOptions {
        concurrency: 3,
        ..WorkerOptions::default()
    };
    stage.start(options);
    stage.until_count(&[(State::Pending, 7), (State::Active, 3)]).await;
    stage.until_count(&[]).await;
    assert_eq!(begun.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn heavier_queues_go_first_more_often_and_light_ones_do_not_starve() {
    let stage = Stage::new();
    let (heavy, light): (QueueName, QueueName) = ("heavy".parse().unwrap(), "light".parse().unwrap());
    for (number, queue) in [(0, &heavy), (1, &light)] {
        for _ in 0..400 {
            let queue = queue.clone();
            stage
                .add(
                    number,
                    Mood::Work,
                    Options {
                        queue,
                        ..Options::default()
                    },
                )
                .await;
        }
    }
    let options = WorkerOptions {
        concurrency: 1,
        queues: vec![(light, 1), (heavy, 3)],
        ..WorkerOptions::default()
    };
    stage.start(options);
    let begun = Instant::now();
    while stage.log.runs().len() < 400 {
        assert!(begun.elapsed() < 600 * SECOND);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let n_light = stage.log.runs()[..400].iter().filter(|number| **number == 1).count();
    assert!((60..140).contains(&n_light), "{n_light}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_short_tasks_and_gives_long_ones_back() {
    let stage = Stage::new();
    stage.start(WorkerOptions::default());
    stage.add(1, Mood::TakeSeconds(5), Options::default()).await;
    let long = stage.add(2, Mood::TakeSeconds(100), Options::default()).await;
    stage.until_count(&[(State::Active, 2)]).await;
    let begun = Instant::now();
    assert_eq!(stage.group.shutdown(20 * SECOND).await, 0);
    assert_eq!(begun.elapsed().as_secs(), 8);
    assert_eq!(stage.count().await, [(State::Pending, 1)]);
    let task = stage.engine.look(long).await.unwrap().unwrap().task;
    assert_eq!(task.n_failed, 0, "given back, not failed");
}

/// Runs a worker to its death, then another one until everything is done.
async fn survives(stage: &Stage, dead: impl Future<Output = bool>) -> bool {
    for number in 0..6 {
        let mood = if number == 5 { Mood::TakeSeconds(12) } else { Mood::Work };
        stage.add(number, mood, Options::default()).await;
    }
    let has_died = dead.await;
    stage.start(WorkerOptions::default());
    stage.until_count_every(SECOND / 2, &[]).await;
    let ran: BTreeSet<u32> = stage.log.runs().into_iter().collect();
    assert_eq!(ran, (0..6).collect());
    has_died
}

/// Death right before and right after each thing that a worker does to the engine.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_at_any_call_loses_nothing() {
    for is_after in [false, true] {
        let mut n_calls = 0;
        loop {
            let stage = Stage::new();
            let dying = Arc::new(Dying::new(stage.engine.clone(), n_calls, is_after));
            let worker = stage.worker_on(
                dying.clone(),
                WorkerOptions {
                    concurrency: 2,
                    ..WorkerOptions::default()
                },
            );
            let stop = stage.group.stop_signal();
            let dead = async {
                tokio::select! {
                    () = worker.run(stop) => false,
                    () = dying.died() => true,
                    () = stage.until_count_every(SECOND / 2, &[]) => false,
                }
            };
            let has_died = survives(&stage, dead).await;
            if !has_died {
                break;
            }
            n_calls += 1;
        }
        assert!(n_calls > 20, "{n_calls}");
    }
}

/// Death at any point where the worker waits.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_at_any_await_loses_nothing() {
    for n_polls in 0..60 {
        let stage = Stage::new();
        let worker = stage.worker_on(
            stage.engine.clone(),
            WorkerOptions {
                concurrency: 2,
                ..WorkerOptions::default()
            },
        );
        let mut run = Box::pin(worker.run(stage.group.stop_signal()));
        let mut left = n_polls;
        let dead = std::future::poll_fn(move |cx| {
            if left == 0 {
                return std::task::Poll::Ready(true);
            }
            left -= 1;
            run.as_mut().poll(cx).map(|()| false)
        });
        // The future is dropped with what it runs as soon as it is "dead".
        survives(&stage, dead).await;
    }
}
