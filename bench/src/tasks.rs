//! Tasks a second, added and worked off with empty handlers, beside BullMQ on the same Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mosaic::Runtime;
use mosaic::{Context, TaskGroup};
use mosaic_tasks::{
    Engine, Handlers, MIGRATIONS, NewTask, Options, Queue, RedisEngine, SqlEngine, Task, TaskContext, Worker,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::report::{Result, Samples, bar, say, table};
use crate::stores::{Store, url_of};
use crate::{tasks_bullmq, tasks_delay, tasks_soak};

/// Tasks in one call, here and at BullMQ.
pub(crate) const BATCH: usize = 1000;
pub(crate) const CONCURRENCY: usize = 10;
const N_TASKS: usize = 50_000;
const N_SINGLES: usize = 2_000;
const N_ROUNDS: usize = 5;
/// Tasks a second, worked off.
const BARS: [(&str, f64); 3] = [("Redis", 20_000.0), ("PostgreSQL", 8_000.0), ("SQLite file", 5_000.0)];
const BAR_PEER: f64 = 2.0;
/// More than any measurement takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures what `parts` names, everything but the soak without a name.
pub(crate) async fn measure(parts: &[&str]) -> Result<()> {
    let chosen = |name: &str| parts.is_empty() || parts.contains(&name);
    if chosen("throughput") {
        throughput().await?;
    }
    if chosen("delay") {
        tasks_delay::measure().await?;
    }
    if parts.contains(&"soak") {
        tasks_soak::measure().await?;
    }
    Ok(())
}

/// A task that does nothing.
#[derive(Serialize, Deserialize)]
pub(crate) struct Nothing {
    pub(crate) number: u64,
}

impl Task for Nothing {
    const NAME: &'static str = "nothing";
    type Needs = AtomicUsize;
    type Output = ();

    async fn run(self, n_done: &AtomicUsize, _: &TaskContext) -> mosaic::Result<()> {
        n_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// An engine and what it is over.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) engine: Arc<dyn Engine>,
    /// Where its rows are, to be removed: a store, or the keys with a prefix of a Redis.
    store: Option<Store>,
    keys: Option<(String, String)>,
}

impl Side {
    pub(crate) fn sql(store: Store, runtime: &Runtime) -> Self {
        Self {
            name: store.name,
            engine: Arc::new(SqlEngine::new(&store.database, runtime)),
            store: Some(store),
            keys: None,
        }
    }

    /// Returns the engine in Redis, if there is one.
    pub(crate) fn redis(runtime: &Runtime) -> Result<Option<Self>> {
        let Some(url) = url_of("Redis", "MOSAIC_TEST_REDIS") else {
            return Ok(None);
        };
        let prefix = format!("bench-{}:", runtime.random_hex::<4>());
        Ok(Some(Self {
            name: "Redis",
            engine: Arc::new(RedisEngine::open(&url, runtime)?.with_prefix(&prefix)),
            store: None,
            keys: Some((url, prefix)),
        }))
    }

    /// Returns those that are there: SQLite, PostgreSQL, Redis.
    pub(crate) async fn embedded_and_servers(runtime: &Runtime) -> Result<Vec<Self>> {
        let mut sides = vec![Self::sql(Store::sqlite(MIGRATIONS).await?, runtime)];
        let postgres = Store::named("PostgreSQL", "MOSAIC_TEST_POSTGRES", MIGRATIONS).await?;
        sides.extend(postgres.map(|store| Self::sql(store, runtime)));
        sides.extend(Self::redis(runtime)?);
        Ok(sides)
    }

    pub(crate) async fn remove(self) -> Result<()> {
        if let Some((url, prefix)) = self.keys {
            remove_keys(&url, &prefix).await?;
        }
        match self.store {
            Some(store) => store.remove().await,
            None => Ok(()),
        }
    }
}

async fn remove_keys(url: &str, prefix: &str) -> Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(BATCH);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
        if !keys.is_empty() {
            let () = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// A worker of tasks of one kind, at the concurrency that is measured.
pub(crate) fn worker<T: Task>(queue: &Queue, needs: Arc<T::Needs>) -> TaskGroup {
    let group = TaskGroup::new(|panic| say(&format!("{} panicked: {}", panic.task, panic.message)));
    let options = WorkerOptions {
        concurrency: CONCURRENCY,
        ..WorkerOptions::default()
    };
    Worker::new(queue, Handlers::new().with::<T>(needs), options).spawn(&group);
    group
}

/// Waits until `is_so`.
pub(crate) async fn until(is_so: impl Fn() -> bool) -> Result<()> {
    let since = Instant::now();
    while !is_so() {
        if since.elapsed() > PATIENCE {
            return Err("it takes too long".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Ends a worker once its reports have arrived.
pub(crate) async fn end(group: TaskGroup) {
    group.shutdown(Duration::from_secs(10)).await;
}

/// Tasks a second: added in batches, one by one, worked off.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rates {
    pub(crate) in_batches: f64,
    pub(crate) one_by_one: f64,
    pub(crate) worked: f64,
}

fn per_second(n: usize, since: Instant) -> f64 {
    n as f64 / since.elapsed().as_secs_f64()
}

async fn rates(engine: &Arc<dyn Engine>, runtime: &Runtime, n_singles: usize) -> Result<Rates> {
    let queue = Queue::new(engine.clone(), runtime);
    let cx = Context::new(runtime);
    let since = Instant::now();
    for first in (0..N_TASKS).step_by(BATCH) {
        let new = |number| NewTask::of(&cx, &Nothing { number: number as u64 }, Options::default());
        let tasks = (first..first + BATCH).map(new).collect::<mosaic::Result<Vec<_>>>()?;
        queue.enqueue_all(&tasks).await?;
    }
    let in_batches = per_second(N_TASKS, since);
    let since = Instant::now();
    for number in 0..n_singles as u64 {
        queue.enqueue(&cx, &Nothing { number }, Options::default()).await?;
    }
    let one_by_one = per_second(n_singles, since);
    let n_done = Arc::new(AtomicUsize::new(0));
    let n_all = N_TASKS + n_singles;
    let since = Instant::now();
    let group = worker::<Nothing>(&queue, n_done.clone());
    until(|| n_done.load(Ordering::Relaxed) >= n_all).await?;
    end(group).await;
    Ok(Rates {
        in_batches,
        one_by_one,
        worked: per_second(n_all, since),
    })
}

/// What was measured of one engine.
#[derive(Default)]
struct Measured {
    in_batches: Samples,
    one_by_one: Samples,
    worked: Samples,
}

impl Measured {
    fn add(&mut self, rates: Rates) {
        self.in_batches.add(rates.in_batches);
        self.one_by_one.add(rates.one_by_one);
        self.worked.add(rates.worked);
    }

    fn row(&self, name: &str) -> Vec<String> {
        let cells = [&self.in_batches, &self.one_by_one, &self.worked].map(|samples| samples.show(0));
        [name.to_owned()].into_iter().chain(cells).collect()
    }
}

async fn throughput() -> Result<()> {
    let runtime = Runtime::system();
    let mut sides = Side::embedded_and_servers(&runtime).await?;
    let mariadb = Store::named("MariaDB", "MOSAIC_TEST_MYSQL", MIGRATIONS).await?;
    sides.extend(mariadb.map(|store| Side::sql(store, &runtime)));
    let bullmq = tasks_bullmq::Peer::install().await?;
    let mut measured: Vec<Measured> = sides.iter().map(|_| Measured::default()).collect();
    let mut peer = Measured::default();
    for round in 0..=N_ROUNDS {
        for (side, measured) in sides.iter().zip(&mut measured) {
            // The peer beside it, in turns before and after; the first round warms up.
            let beside = bullmq.as_ref().filter(|_| side.name == "Redis" && round > 0);
            if let Some(bullmq) = beside.filter(|_| round % 2 == 1) {
                peer.add(bullmq.run(N_TASKS, N_SINGLES).await?);
            }
            let rates = rates(&side.engine, &runtime, N_SINGLES).await?;
            if round > 0 {
                measured.add(rates);
            }
            if let Some(bullmq) = beside.filter(|_| round % 2 == 0) {
                peer.add(bullmq.run(N_TASKS, N_SINGLES).await?);
            }
        }
    }
    let all: Vec<(&str, &Measured)> = sides.iter().map(|side| side.name).zip(&measured).collect();
    show(&all, bullmq.is_some().then_some(&peer));
    for side in sides {
        side.remove().await?;
    }
    Ok(())
}

fn show(all: &[(&str, &Measured)], peer: Option<&Measured>) {
    let mut rows: Vec<Vec<String>> = all.iter().map(|(name, measured)| measured.row(name)).collect();
    rows.extend(peer.map(|peer| peer.row("BullMQ, the same Redis")));
    let title = format!("tasks: tasks/s, empty handlers, concurrency {CONCURRENCY}, batches of {BATCH}");
    let head = ["engine", "added in batches", "added one by one", "worked off"];
    table(&title, &head, &rows);
    say(&format!(
        "{N_ROUNDS} rounds of {N_TASKS} tasks in batches and {N_SINGLES} one by one"
    ));
    for (name, measured) in all {
        let worked = measured.worked.median();
        if let Some((_, least)) = BARS.iter().find(|(of, _)| of == name) {
            bar(&format!("{name}: {least:.0} tasks/s: {worked:.0}"), worked >= *least);
        }
        if let Some(peer) = peer.filter(|_| *name == "Redis") {
            let ratio = worked / peer.worked.median();
            bar(&format!("{BAR_PEER} times BullMQ: {ratio:.2}"), ratio >= BAR_PEER);
        }
    }
}
