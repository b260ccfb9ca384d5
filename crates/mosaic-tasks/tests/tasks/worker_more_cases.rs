//! What handlers see of chains, groups, limits and traces, and what a worker claims ahead.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Context, Result, Trace};
use mosaic_tasks::{
    Engine, Enqueued, Group, Handlers, KeyLimit, NewTask, Options, QueueName, QueueOrder, State, Task, TaskContext,
    TaskId, Worker, WorkerOptions, chain,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::worker_cases::Stage;

const SECOND: Duration = Duration::from_secs(1);

/// What ran, and how many at once at most.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    n_running: Mutex<(u32, u32)>,
    traces: Mutex<Vec<Trace>>,
}

impl Log {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

#[derive(Serialize, Deserialize)]
struct Step {
    name: String,
    millis: u64,
}

impl Task for Step {
    const NAME: &'static str = "step";
    type Needs = Log;
    type Output = String;

    async fn run(self, log: &Log, cx: &TaskContext) -> Result<String> {
        let mut words = vec![self.name.clone()];
        for earlier in cx.earlier() {
            words.extend(cx.result_of::<String>(earlier.id)?);
        }
        log.traces.lock().unwrap().push(cx.trace());
        {
            let mut n_running = log.n_running.lock().unwrap();
            *n_running = (n_running.0 + 1, n_running.1.max(n_running.0 + 1));
        }
        tokio::time::sleep(Duration::from_millis(self.millis)).await;
        log.n_running.lock().unwrap().0 -= 1;
        let line = words.join(" after ");
        log.lines.lock().unwrap().push(line.clone());
        Ok(line)
    }

    async fn run_all(steps: Vec<Self>, log: &Log, _: &TaskContext) -> Result<String> {
        let names: Vec<String> = steps.into_iter().map(|step| step.name).collect();
        log.lines.lock().unwrap().push(names.join("+"));
        Ok(String::new())
    }
}

fn new(cx: &Context, name: &str, millis: u64, options: Options) -> NewTask {
    let name = name.to_owned();
    NewTask::of(cx, &Step { name, millis }, options).unwrap()
}

fn start(stage: &Stage, options: WorkerOptions) -> Arc<Log> {
    let log = Arc::new(Log::default());
    let handlers = Handlers::new().with::<Step>(log.clone());
    Worker::new(&stage.queue, handlers, options).spawn(&stage.group);
    log
}

#[tokio::test(start_paused = true)]
async fn a_chain_hands_results_on_and_keeps_the_trace() {
    let stage = Stage::new();
    let log = start(&stage, WorkerOptions::default());
    let cx = Context::new(&stage.runtime);
    let tasks = chain(["a", "b", "c"].map(|name| new(&cx, name, 0, Options::default()))).unwrap();
    let begun = Instant::now();
    stage.queue.enqueue_all(&tasks).await.unwrap();
    stage.until_count(&[]).await;
    assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(log.lines(), ["a", "b after a", "c after b after a"]);
    let traces = log.traces.lock().unwrap().clone();
    assert!(traces.iter().all(|trace| trace.trace_id == cx.trace().trace_id));
    assert!(traces.iter().all(|trace| trace.span_id != cx.trace().span_id));
}

#[tokio::test(start_paused = true)]
async fn a_group_is_one_run_with_all_payloads() {
    let stage = Stage::new();
    let log = start(&stage, WorkerOptions::default());
    let cx = Context::new(&stage.runtime);
    let options = Options {
        group: Some(Group {
            key: "g".to_owned(),
            grace: SECOND,
            max_delay: 10 * SECOND,
            max_size: 100,
        }),
        ..Options::default()
    };
    for name in ["a", "b", "c"] {
        stage
            .queue
            .enqueue_all(&[new(&cx, name, 0, options.clone())])
            .await
            .unwrap();
        tokio::time::sleep(SECOND / 2).await;
    }
    let begun = Instant::now();
    stage.until_count(&[]).await;
    assert!(begun.elapsed() < SECOND, "not by polling: {:?}", begun.elapsed());
    assert_eq!(log.lines(), ["a+b+c"]);
}

#[tokio::test(start_paused = true)]
async fn a_freed_turn_is_taken_at_once() {
    let stage = Stage::new();
    let log = start(&stage, WorkerOptions::default());
    let cx = Context::new(&stage.runtime);
    let options = Options {
        limit: Some(KeyLimit {
            key: "k".to_owned(),
            concurrency: Some(2),
            rate: None,
        }),
        ..Options::default()
    };
    let tasks: Vec<NewTask> = (0..20).map(|_| new(&cx, "x", 100, options.clone())).collect();
    let begun = Instant::now();
    stage.queue.enqueue_all(&tasks).await.unwrap();
    stage.until_count(&[]).await;
    assert_eq!(log.n_running.lock().unwrap().1, 2);
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn strict_order_leaves_light_queues_what_is_left() {
    let stage = Stage::new();
    let cx = Context::new(&stage.runtime);
    let queues: [QueueName; 2] = ["urgent", "idle"].map(|name| name.parse().unwrap());
    for queue in queues.iter().rev() {
        let options = Options {
            queue: queue.clone(),
            ..Options::default()
        };
        let tasks: Vec<NewTask> = (0..50).map(|_| new(&cx, queue.as_str(), 0, options.clone())).collect();
        stage.queue.enqueue_all(&tasks).await.unwrap();
    }
    let [urgent, idle] = queues.clone();
    let options = WorkerOptions {
        concurrency: 1,
        queues: vec![(idle.clone(), 1), (urgent, 2)],
        order: QueueOrder::Strict,
        ..WorkerOptions::default()
    };
    let log = start(&stage, options);
    while !stage.engine.counts(&idle).await.unwrap().is_empty() {
        tokio::time::sleep(SECOND / 100).await;
    }
    let lines = log.lines();
    assert!(lines[..50].iter().all(|line| line == "urgent"), "{lines:?}");
}

/// What was claimed ahead is given back at once, not at the end of the drain.
#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_gives_back_what_it_has_not_begun() {
    let stage = Stage::new();
    let cx = Context::new(&stage.runtime);
    let log = start(
        &stage,
        WorkerOptions {
            concurrency: 1,
            ..WorkerOptions::default()
        },
    );
    let short: Vec<NewTask> = (0..30).map(|_| new(&cx, "short", 1, Options::default())).collect();
    stage.queue.enqueue_all(&short).await.unwrap();
    stage.until_count(&[]).await;
    let long: Vec<NewTask> = (0..30).map(|_| new(&cx, "long", 7000, Options::default())).collect();
    stage.queue.enqueue_all(&long).await.unwrap();
    // All of them are claimed ahead of their turn.
    stage.until_count(&[(State::Active, 30)]).await;
    let group = stage.group.clone();
    let shutdown = group.shutdown(20 * SECOND);
    let given_back = async {
        stage.until_count(&[(State::Pending, 29), (State::Active, 1)]).await;
        Instant::now()
    };
    let begun = Instant::now();
    let (_, given_back_at) = futures::future::join(shutdown, given_back).await;
    assert!(given_back_at - begun < SECOND);
    assert_eq!(log.lines().iter().filter(|line| *line == "long").count(), 1);
    assert_eq!(stage.count().await, [(State::Pending, 29)]);
}

/// Handlers that take no time are not held up by a round trip each.
#[tokio::test(start_paused = true)]
async fn a_task_claimed_ahead_keeps_its_lease() {
    let stage = Stage::new();
    let cx = Context::new(&stage.runtime);
    let log = start(
        &stage,
        WorkerOptions {
            concurrency: 1,
            ..WorkerOptions::default()
        },
    );
    let short: Vec<NewTask> = (0..30).map(|_| new(&cx, "short", 1, Options::default())).collect();
    stage.queue.enqueue_all(&short).await.unwrap();
    stage.until_count(&[]).await;
    let long: Vec<NewTask> = (0..10).map(|_| new(&cx, "long", 20_000, Options::default())).collect();
    let ids: Vec<TaskId> = long.iter().map(NewTask::id).collect();
    let answers = stage.queue.enqueue_all(&long).await.unwrap();
    assert_eq!(answers, ids.into_iter().map(Enqueued::Added).collect::<Vec<_>>());
    stage.until_count_every(SECOND, &[]).await;
    assert_eq!(
        log.lines().iter().filter(|line| *line == "long").count(),
        10,
        "each once"
    );
}
