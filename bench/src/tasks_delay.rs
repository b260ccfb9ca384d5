//! How late scheduled tasks start, and how long many take that are due at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mosaic::{Context, Runtime, Timestamp};
use mosaic_tasks::{Engine, NewTask, Options, Queue, Task, TaskContext, When};
use serde::{Deserialize, Serialize};

use crate::report::{Result, Samples, bar, table};
use crate::tasks::{BATCH, Side, end, until, worker};

const N_SPREAD: usize = 100_000;
const SPREAD: Duration = Duration::from_secs(60);
const N_AT_ONCE: [usize; 2] = [8_000, 100_000];
const BAR_P99_MS: f64 = 100.0;

/// A task that notes when it starts.
#[derive(Serialize, Deserialize)]
struct Timed {}

struct Clocked {
    runtime: Runtime,
    late_ms: Mutex<Vec<f64>>,
    n_done: AtomicUsize,
}

impl Task for Timed {
    const NAME: &'static str = "timed";
    type Needs = Clocked;
    type Output = ();

    async fn run(self, clocked: &Clocked, cx: &TaskContext) -> mosaic::Result<()> {
        let late = clocked.runtime.now().since(cx.task().due_at);
        let mut all = clocked.late_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(late.as_secs_f64() * 1e3);
        clocked.n_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) async fn measure() -> Result<()> {
    let runtime = Runtime::system();
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for side in Side::embedded_and_servers(&runtime).await? {
        // While they are stored there is nothing due.
        let spread = |number: usize| SPREAD.mul_f64(number as f64 / N_SPREAD as f64);
        let late = run(&side.engine, &runtime, N_SPREAD, spread).await?;
        let p99 = late.at(0.99);
        bars.push((
            format!("{}: p99 {p99:.0} ms, at most {BAR_P99_MS} ms", side.name),
            p99 <= BAR_P99_MS,
        ));
        let mut row = vec![side.name.to_owned()];
        row.extend([0.5, 0.99, 1.0].map(|part| format!("{:.1}", late.at(part))));
        for n_tasks in N_AT_ONCE {
            let late = run(&side.engine, &runtime, n_tasks, |_| Duration::ZERO).await?;
            row.push(format!("{:.0}", late.at(1.0)));
        }
        rows.push(row);
        side.remove().await?;
    }
    let head = [
        "engine",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "8,000 at once, ms",
        "100,000 at once, ms",
    ];
    table(
        &format!("tasks: late by; {N_SPREAD} spread over {SPREAD:?}"),
        &head,
        &rows,
    );
    for (what, met) in bars {
        bar(&what, met);
    }
    Ok(())
}

/// Schedules tasks and returns by how many milliseconds each was late.
async fn run(
    engine: &Arc<dyn Engine>,
    runtime: &Runtime,
    n_tasks: usize,
    after: impl Fn(usize) -> Duration,
) -> Result<Samples> {
    let queue = Queue::new(engine.clone(), runtime);
    let cx = Context::new(runtime);
    let first = Timestamp::from_micros(runtime.now().as_micros() + lead(n_tasks));
    for start in (0..n_tasks).step_by(BATCH) {
        let new = |number| {
            let when = When::At(first.plus(after(number)));
            NewTask::of(
                &cx,
                &Timed {},
                Options {
                    when,
                    ..Options::default()
                },
            )
        };
        let tasks = (start..n_tasks.min(start + BATCH))
            .map(new)
            .collect::<mosaic::Result<Vec<_>>>()?;
        queue.enqueue_all(&tasks).await?;
    }
    if runtime.now() > first {
        return Err("storing the tasks took longer than until they were due".into());
    }
    let clocked = Arc::new(Clocked {
        runtime: runtime.clone(),
        late_ms: Mutex::default(),
        n_done: AtomicUsize::new(0),
    });
    let group = worker::<Timed>(&queue, clocked.clone());
    until(|| clocked.n_done.load(Ordering::Relaxed) >= n_tasks).await?;
    end(group).await;
    let late = std::mem::take(&mut *clocked.late_ms.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(late.into_iter().collect())
}

/// Microseconds until the first is due: enough to store all, and for the worker to have found nothing to do.
fn lead(n_tasks: usize) -> i64 {
    3_000_000 + i64::try_from(n_tasks).unwrap_or(0) * 150
}
