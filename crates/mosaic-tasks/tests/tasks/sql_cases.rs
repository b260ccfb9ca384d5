//! What only engines in a database can do; nothing on the one in memory.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Context, Error, ManualClock, Result, Runtime, SystemRandom, TaskGroup, Timestamp};
use mosaic_sql::sea_orm::{ConnectionTrait, DbBackend, Statement};
use mosaic_sql::{Database, into_error};
use mosaic_tasks::{
    Engine, Enqueued, Handlers, MIGRATIONS, MemoryEngine, Options, Queue, QueueName, SqlEngine, State, Task,
    TaskContext, Worker, WorkerOptions,
};
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, LEASE, lease, mail, reported, succeeded};

pub(crate) async fn a_task_commits_with_what_made_it_necessary(bench: &Bench) {
    let Some(database) = &bench.database else { return };
    let engine = SqlEngine::new(database, &bench.runtime);
    let tx = database.begin().await.unwrap();
    engine
        .enqueue_in(&tx, &[bench.new_task(Options::default())])
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(engine.counts(&QueueName::default()).await.unwrap(), []);
    let tx = database.begin().await.unwrap();
    engine
        .enqueue_in(&tx, &[bench.new_task(Options::default())])
        .await
        .unwrap();
    assert_eq!(
        engine.counts(&QueueName::default()).await.unwrap(),
        [],
        "not before the commit"
    );
    tx.commit().await.unwrap();
    assert_eq!(
        engine.counts(&QueueName::default()).await.unwrap(),
        [(State::Pending, 1)]
    );
}

#[derive(Serialize, Deserialize)]
struct Pay {
    commits: Commits,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
enum Commits {
    Always,
    /// The first attempt reports in a transaction that is rolled back, and says all is well.
    FromTheSecondOn,
    /// Another worker has had the task meanwhile.
    TooLate,
}

struct Purse {
    database: Database,
    engine: Arc<dyn Engine>,
    clock: Arc<ManualClock>,
}

impl Task for Pay {
    const NAME: &'static str = "pay";
    type Needs = Purse;
    type Output = ();

    async fn run(self, purse: &Purse, cx: &TaskContext) -> Result<()> {
        if self.commits == Commits::TooLate && cx.task().n_failed == 0 {
            purse.clock.advance(LEASE);
            purse.engine.expire(9).await?;
        }
        let tx = purse.database.begin().await?;
        tx.execute_unprepared("UPDATE purse SET spent = spent + 1")
            .await
            .map_err(into_error)?;
        cx.complete_in(&tx, &()).await?;
        if self.commits == Commits::FromTheSecondOn && cx.task().n_failed == 0 {
            return tx.rollback().await;
        }
        tx.commit().await?;
        Err(Error::unavailable(
            "AFTER",
            "what happens after the commit changes nothing",
        ))
    }
}

/// The effect happens once, whatever becomes of the first attempt.
pub(crate) async fn effect_and_completion_commit_together(bench: &Bench) {
    let Some(database) = &bench.database else { return };
    database
        .execute_unprepared("CREATE TABLE purse (spent BIGINT)")
        .await
        .unwrap();
    database
        .execute_unprepared("INSERT INTO purse VALUES (0)")
        .await
        .unwrap();
    let queue = Queue::new(bench.engine.clone(), &bench.runtime);
    let purse = Arc::new(Purse {
        database: database.clone(),
        engine: bench.engine.clone(),
        clock: bench.clock.clone(),
    });
    let group = TaskGroup::new(|panic| panic!("{panic:?}"));
    Worker::new(&queue, Handlers::new().with::<Pay>(purse), WorkerOptions::default()).spawn(&group);
    let cx = Context::new(&bench.runtime);
    let mut n_spent = 0;
    for commits in [Commits::Always, Commits::FromTheSecondOn, Commits::TooLate] {
        let added = queue.enqueue(&cx, &Pay { commits }, Options::default()).await.unwrap();
        let Enqueued::Added(id) = added else {
            panic!("{added:?}")
        };
        let begun = tokio::time::Instant::now();
        while bench.engine.look(id).await.unwrap().is_some() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{:?}",
                bench.engine.look(id).await
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
            bench.clock.advance(Duration::from_secs(1));
        }
        n_spent += 1;
        let row = database.query_one_raw(Statement::from_string(database.backend(), "SELECT spent FROM purse"));
        let spent: i64 = row.await.unwrap().unwrap().try_get("", "spent").unwrap();
        assert_eq!(spent, n_spent);
    }
    group.shutdown(Duration::from_secs(20)).await;
    // Counted with the next report, or the next look of a worker.
    bench.engine.finish(&[]).await.unwrap();
    let queues = bench.engine.queues().await.unwrap();
    assert_eq!(queues[0].n_processed_today, 5, "{queues:?}");
}

pub(crate) async fn what_a_transaction_enqueued_wakes_workers_after_the_commit(bench: &Bench) {
    let Some(database) = &bench.database else { return };
    let queue = Queue::new(bench.engine.clone(), &bench.runtime);
    let cx = Context::new(&bench.runtime);
    let pay = Pay {
        commits: Commits::Always,
    };
    let tx = database.begin().await.unwrap();
    queue.within(&tx).enqueue(&cx, &pay, Options::default()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(bench.engine.counts(&QueueName::default()).await.unwrap(), []);
    let tx = database.begin().await.unwrap();
    queue.within(&tx).enqueue(&cx, &pay, Options::default()).await.unwrap();
    tx.commit().await.unwrap();
    let counts = bench.engine.counts(&QueueName::default()).await.unwrap();
    assert_eq!(counts, [(State::Pending, 1)]);
    let memory = Queue::new(Arc::new(MemoryEngine::new(&bench.runtime)), &bench.runtime);
    let tx = database.begin().await.unwrap();
    let error = memory
        .within(&tx)
        .enqueue(&cx, &pay, Options::default())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "TASK_NOT_IN_SQL");
}

/// PostgreSQL tells other processes; the others are not rung for.
pub(crate) async fn other_processes_hear_of_new_tasks(bench: &Bench) {
    let Some(database) = &bench.database else { return };
    if database.backend() != DbBackend::Postgres {
        return;
    }
    let (n_rings, mut rings) = tokio::sync::watch::channel(0);
    let ring = || n_rings.send_modify(|n| *n += 1);
    let listen = bench.engine.listen(&ring);
    let work = async {
        rings.wait_for(|n| *n == 1).await.unwrap();
        bench.add(Options::default()).await;
        rings.wait_for(|n| *n == 2).await.unwrap();
        // The connection is lost, and made again.
        let end = "SELECT COUNT(pg_terminate_backend(pid)) AS n FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
                   AND pid <> pg_backend_pid()";
        database
            .query_one_raw(Statement::from_string(DbBackend::Postgres, end))
            .await
            .unwrap();
        rings.wait_for(|n| *n == 3).await.unwrap();
        bench.add(Options::default()).await;
        rings.wait_for(|n| *n == 4).await.unwrap();
    };
    tokio::select! {
        () = listen => {}
        done = tokio::time::timeout(Duration::from_secs(30), work) => done.unwrap(),
    }
}

/// Runs every pending task; returns how many.
async fn run_all(engine: &SqlEngine) -> usize {
    let mut n_run = 0;
    loop {
        let claimed = engine.claim(&mail(500)).await.unwrap();
        if claimed.is_empty() {
            return n_run;
        }
        n_run += claimed.len();
        let reports: Vec<_> = claimed
            .iter()
            .map(|claimed| reported(claimed, succeeded(b"1")))
            .collect();
        engine.finish(&reports).await.unwrap();
    }
}

/// A full disk refuses tasks, loses none of those it took, and what it could not finish runs again.
pub(crate) async fn a_full_disk_loses_nothing(bench: &Bench) {
    if bench
        .database
        .as_ref()
        .is_none_or(|database| database.backend() != DbBackend::Sqlite)
    {
        return;
    }
    // The setting is a connection's: there is one.
    let folder = tempfile::tempdir().unwrap();
    let options = mosaic_sql::Options {
        max_connections: 1,
        ..mosaic_sql::Options::default()
    };
    let url = format!("sqlite:{}/", folder.path().display());
    let database = Database::open(&url, "tasks", &options, MIGRATIONS).await.unwrap();
    let engine = SqlEngine::with_clock(&database, &bench.runtime);
    let limit = async |pages: u32| {
        let limit = format!("PRAGMA max_page_count = {pages}");
        database.execute_unprepared(&limit).await.unwrap();
    };
    limit(200).await;
    let kept = || Options {
        retention: Duration::from_secs(3600),
        ..Options::default()
    };
    let mut n_enqueued = 0;
    while engine.enqueue(&[bench.new_task(kept())]).await.is_ok() {
        n_enqueued += 1;
    }
    assert!(n_enqueued > 20, "{n_enqueued}");
    let n_there = async || {
        let counts = engine.counts(&QueueName::default()).await.unwrap();
        counts.iter().map(|(_, n)| n).sum::<u64>()
    };
    assert_eq!(n_there().await, n_enqueued);
    // Large results do not fit, and their tasks stay active until their leases end.
    let claimed = engine.claim(&mail(20)).await.unwrap_or_default();
    for claimed in &claimed {
        let _ = engine.finish(&[reported(claimed, succeeded(&[b'x'; 50_000]))]).await;
        assert_eq!(n_there().await, n_enqueued);
    }
    limit(1 << 20).await;
    bench.clock.advance(LEASE);
    engine.expire(100).await.unwrap();
    bench.clock.advance(Duration::from_secs(10));
    engine.promote(1000).await.unwrap();
    assert!(run_all(&engine).await > 0);
    assert_eq!(
        engine.counts(&QueueName::default()).await.unwrap(),
        [(State::Completed, n_enqueued)]
    );
}

/// Workers whose clocks are five minutes early and late, with leases of half a minute.
pub(crate) async fn clocks_that_differ_do_not_hand_out_a_task_twice(bench: &Bench) {
    let Some(database) = &bench.database else { return };
    let now = Runtime::system().now();
    let at = |now: Timestamp| {
        let runtime = Runtime::new(Arc::new(ManualClock::at(now)), Arc::new(SystemRandom));
        SqlEngine::new(database, &runtime)
    };
    let skew = Duration::from_secs(300);
    let (early, late) = (at(now.minus(skew)), at(now.plus(skew)));
    for (one, other) in [(&early, &late), (&late, &early)] {
        one.enqueue(&[bench.new_task(Options::default())]).await.unwrap();
        let claimed = one.claim(&mail(1)).await.unwrap().remove(0);
        assert_eq!(other.expire(10).await.unwrap(), 0);
        assert_eq!(other.claim(&mail(1)).await.unwrap(), []);
        one.extend(&[lease(&claimed)], LEASE).await.unwrap();
        assert_eq!(other.expire(10).await.unwrap(), 0);
        let delayed = Options {
            when: mosaic_tasks::When::In(Duration::from_secs(60)),
            ..Options::default()
        };
        one.enqueue(&[bench.new_task(delayed)]).await.unwrap();
        assert_eq!(other.promote(10).await.unwrap().n_due, 0);
        // And what they go by is the real time.
        let until = claimed.task.enqueued_at.since(now.minus(Duration::from_secs(5)));
        assert!(until < Duration::from_secs(60), "{until:?}");
    }
}
