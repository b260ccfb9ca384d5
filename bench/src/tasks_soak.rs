//! A million tasks through one process: does its memory stay, and do the rows that are kept?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mosaic::{Context, Runtime};
use mosaic_tasks::{ENDED_MAX, Engine, NewTask, Options, Queue, QueueName};
use tokio::time::Instant;

use crate::child::resident_mb;
use crate::report::{Result, Samples, bar, table};
use crate::tasks::{BATCH, Nothing, Side, end, until, worker};

const N_TASKS: usize = 1_000_000;
const N_SAMPLES: usize = 10;
/// Added ahead of what is done.
const AHEAD: usize = 20_000;
/// What is kept of a success, longer than the run.
const RETENTION: Duration = Duration::from_secs(3600);
/// The last third may hold so much more than the first.
const BAR_GROWTH: f64 = 1.1;

pub(crate) async fn measure() -> Result<()> {
    let runtime = Runtime::system();
    let mut rows = Vec::new();
    for side in Side::embedded_and_servers(&runtime).await? {
        let since = Instant::now();
        let resident = run(&side.engine, &runtime).await?;
        let rate = N_TASKS as f64 / since.elapsed().as_secs_f64();
        let n_kept = settled(&side.engine).await?;
        let third = |range: std::ops::Range<usize>| resident[range].iter().copied().collect::<Samples>().median();
        let (first, last) = (third(0..3), third(N_SAMPLES - 3..N_SAMPLES));
        bar(
            &format!("{}: memory stays: {first:.0} MB, then {last:.0} MB", side.name),
            last <= first * BAR_GROWTH,
        );
        bar(
            &format!("{}: at most {ENDED_MAX} are kept: {n_kept}", side.name),
            n_kept <= ENDED_MAX,
        );
        let resident: Vec<String> = resident.iter().map(|mb| format!("{mb:.0}")).collect();
        rows.push(vec![
            side.name.to_owned(),
            format!("{rate:.0}"),
            resident.join(" "),
            n_kept.to_string(),
        ]);
        side.remove().await?;
    }
    let head = ["engine", "tasks/s", "resident, MB, each 100,000", "kept"];
    table(
        &format!("tasks: {N_TASKS} with a retention of {RETENTION:?}"),
        &head,
        &rows,
    );
    Ok(())
}

/// Adds and works off tasks at the same time; returns the resident memory on the way.
async fn run(engine: &Arc<dyn Engine>, runtime: &Runtime) -> Result<Vec<f64>> {
    let queue = Queue::new(engine.clone(), runtime);
    let cx = Context::new(runtime);
    let n_done = Arc::new(AtomicUsize::new(0));
    let group = worker::<Nothing>(&queue, n_done.clone());
    let mut resident = Vec::new();
    for first in (0..N_TASKS).step_by(BATCH) {
        until(|| first < n_done.load(Ordering::Relaxed) + AHEAD).await?;
        if n_done.load(Ordering::Relaxed) >= (resident.len() + 1) * N_TASKS / N_SAMPLES {
            resident.push(resident_mb(std::process::id())?);
        }
        let options = || Options {
            retention: RETENTION,
            ..Options::default()
        };
        let new = |number| NewTask::of(&cx, &Nothing { number: number as u64 }, options());
        let tasks = (first..first + BATCH).map(new).collect::<mosaic::Result<Vec<_>>>()?;
        queue.enqueue_all(&tasks).await?;
    }
    until(|| n_done.load(Ordering::Relaxed) >= N_TASKS).await?;
    resident.push(resident_mb(std::process::id())?);
    end(group).await;
    Ok(resident)
}

/// Returns how many rows are left after one more pass of upkeep, which a worker makes every ten seconds.
async fn settled(engine: &Arc<dyn Engine>) -> Result<u64> {
    let counts = engine.counts(&QueueName::default()).await?;
    let n_before: u64 = counts.iter().map(|(_, n)| n).sum();
    crate::report::say(&format!("kept when the last one was done: {n_before}"));
    while engine.purge(BATCH).await? >= BATCH {}
    let counts = engine.counts(&QueueName::default()).await?;
    Ok(counts.iter().map(|(_, n)| n).sum())
}
