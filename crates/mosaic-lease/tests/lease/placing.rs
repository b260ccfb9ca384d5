//! Where a job goes: the worst cases of placement by load, each as a scene with nodes whose loads the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup};
use mosaic_lease::{Candidate, CandidateOptions, JobRunner, Jobs, LoadPolicy, LoadSource, MemoryLeases, NodeLoad};
use mosaic_sql::{Database, DatabaseClock};
use tokio::time::{Instant, sleep};

use crate::bench::paused;
use crate::leading::{Cut, Stage, group, run};

/// A load in thousandths, set by the test.
#[derive(Clone)]
struct Dial(Arc<AtomicU64>);

impl Dial {
    fn at(load: f64) -> Self {
        let dial = Self(Arc::default());
        dial.set(load);
        dial
    }

    fn set(&self, load: f64) {
        self.0.store((load * 1000.0) as u64, SeqCst);
    }

    fn source(&self) -> Arc<dyn LoadSource> {
        let dial = self.0.clone();
        Arc::new(move || dial.load(SeqCst) as f64 / 1000.0)
    }
}

struct Scene {
    runtime: Runtime,
    leases: Arc<MemoryLeases>,
    stage: Arc<Stage>,
}

impl Scene {
    fn new() -> Self {
        let runtime = paused();
        Self {
            leases: Arc::new(MemoryLeases::new(&runtime)),
            runtime,
            stage: Arc::default(),
        }
    }

    fn node(&self, node: &str, dial: &Dial) -> TaskGroup {
        let group = group();
        let options = CandidateOptions::default();
        let candidate = Candidate::new(self.leases.clone(), &self.runtime, "job", node, options);
        let candidate = candidate.with_load(LoadPolicy::default(), dial.source());
        run(&group, candidate, node, &self.stage);
        group
    }

    /// Somebody else holds the job while nodes arrive and publish their loads.
    async fn while_held(&self, arrive: impl AsyncFnOnce() -> Vec<TaskGroup>) -> Vec<TaskGroup> {
        use mosaic_lease::Leases as _;
        self.leases
            .acquire("job", "earlier", Duration::from_secs(12))
            .await
            .unwrap();
        let nodes = arrive().await;
        sleep(Duration::from_secs(6)).await;
        nodes
    }
}

#[tokio::test(start_paused = true)]
async fn the_lightest_takes_a_job_that_becomes_free() {
    for lightest in 0..3 {
        let scene = Scene::new();
        let dials: Vec<Dial> = (0..3)
            .map(|i| Dial::at(if i == lightest { 0.1 } else { 0.7 }))
            .collect();
        let nodes = scene.while_held(async || {
            let start = |(i, dial)| scene.node(&format!("n{i}"), dial);
            dials.iter().enumerate().map(start).collect()
        });
        let _nodes = nodes.await;
        scene.stage.term(1).await;
        assert_eq!(scene.stage.leaders(), [format!("n{lightest}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_worst_node_is_chosen_if_it_is_alone_and_gives_the_job_away_later() {
    let scene = Scene::new();
    let (full, idle) = (Dial::at(0.95), Dial::at(0.1));
    let _worst = scene.node("worst", &full);
    scene.stage.term(1).await;
    let began = Instant::now();
    let _better = scene.node("better", &idle);
    let moved = scene.stage.term(2).await - began;
    assert_eq!(scene.stage.leaders(), ["worst", "better"]);
    let policy = LoadPolicy::default();
    assert!(
        moved >= policy.tenure_min && moved < policy.tenure_min + policy.report_every * 4,
        "{moved:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_follows_the_load_and_does_not_swing() {
    let scene = Scene::new();
    let (a, b) = (Dial::at(0.2), Dial::at(0.4));
    let _a = scene.node("a", &a);
    scene.stage.term(1).await;
    let _b = scene.node("b", &b);
    // The job weighs a fifth: less than the margin, so it stays though its holder is the heavier one.
    a.set(0.6);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(scene.stage.leaders(), ["a"]);
    // A short peak does not move it either.
    a.set(0.9);
    sleep(Duration::from_secs(8)).await;
    a.set(0.6);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(scene.stage.leaders(), ["a"]);
    a.set(0.9);
    scene.stage.term(2).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(scene.stage.leaders(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_chosen_node_that_died_delays_the_job_by_patience_only() {
    let scene = Scene::new();
    let ghosts: Vec<TaskGroup> = {
        let idle = Dial::at(0.0);
        scene
            .while_held(async || (0..9).map(|i| scene.node(&format!("ghost{i}"), &idle)).collect())
            .await
    };
    let busy = Dial::at(0.9);
    let _last = scene.node("last", &busy);
    drop(ghosts);
    // Their loads are still on the board, all of them better than ours.
    let began = Instant::now();
    let took = scene.stage.term(1).await - began;
    assert_eq!(scene.stage.leaders(), ["last"]);
    assert!(
        took <= Duration::from_secs(12 + 8) + LoadPolicy::default().patience_max,
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_cannot_see_the_board_still_takes_part() {
    use mosaic_lease::Leases as _;
    let scene = Scene::new();
    let lighter = NodeLoad {
        node: "lighter".to_owned(),
        load: 0.0,
    };
    scene
        .leases
        .report("job", &lighter, Duration::from_secs(3600))
        .await
        .unwrap();
    let cut = Cut::new(&scene.leases);
    cut.is_cut.store(true, SeqCst);
    let group = group();
    let candidate = Candidate::new(cut.clone(), &scene.runtime, "job", "n0", CandidateOptions::default());
    let candidate = candidate.with_load(LoadPolicy::default(), Dial::at(0.9).source());
    run(&group, candidate, "n0", &scene.stage);
    sleep(Duration::from_secs(60)).await;
    assert!(scene.stage.leaders().is_empty(), "nobody leads without the store");
    cut.is_cut.store(false, SeqCst);
    scene.stage.term(1).await;
}

#[tokio::test]
async fn jobs_are_spread_taken_over_and_given_away() {
    let runtime = Runtime::system();
    let options = mosaic_sql::Options::default();
    let database = Database::open("sqlite::memory:", "jobs", &options, Jobs::MIGRATIONS)
        .await
        .unwrap();
    let jobs = Jobs::with_clock(&database, DatabaseClock::of_runtime(&runtime));
    for i in 0..4 {
        jobs.add(&format!("job{i}"), b"").await.unwrap();
    }
    let board = Arc::new(MemoryLeases::new(&runtime));
    let policy = LoadPolicy {
        report_every: Duration::from_millis(20),
        patience: Duration::from_millis(40),
        tenure_min: Duration::ZERO,
        ..LoadPolicy::default()
    };
    let ttl = Duration::from_millis(300);
    let (a, b) = (Dial::at(0.1), Dial::at(0.1));
    let start = |node: &str, dial: &Dial| {
        let runner = JobRunner::new(&jobs, node, ttl, 4).with_load(policy.clone(), board.clone(), dial.source());
        let group = group();
        let stop = group.stop_signal();
        group.spawn(
            "runner",
            async move { runner.run(stop, |_| std::future::pending()).await },
        );
        group
    };
    let held_by = async |node: &str, n: usize| loop {
        let held = jobs.list().await.unwrap();
        if held.iter().filter(|(_, holder)| holder == node).count() == n {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    };
    let first = start("a", &a);
    held_by("a", 4).await;
    a.set(0.9);
    let second = start("b", &b);
    held_by("b", 4).await;
    // Killed, not stopped: its rows run out.
    drop(second);
    held_by("a", 4).await;
    first.shutdown(Duration::from_secs(5)).await;
    held_by("", 4).await;
}

#[tokio::test]
async fn a_job_that_panics_or_is_lost_is_taken_again() {
    let runtime = Runtime::system();
    let options = mosaic_sql::Options::default();
    let database = Database::open("sqlite::memory:", "jobs", &options, Jobs::MIGRATIONS)
        .await
        .unwrap();
    let jobs = Jobs::with_clock(&database, DatabaseClock::of_runtime(&runtime));
    jobs.add("fragile", b"").await.unwrap();
    let runner = JobRunner::new(&jobs, "n0", Duration::from_millis(150), 1);
    let (group, begun) = (group(), Arc::new(AtomicU64::new(0)));
    let (stop, count) = (group.stop_signal(), begun.clone());
    group.spawn("runner", async move {
        let work = |_| {
            let n = count.fetch_add(1, SeqCst);
            async move {
                assert!(n > 1, "broken");
                std::future::pending().await
            }
        };
        runner.run(stop, work).await;
    });
    let taken = async {
        while begun.load(SeqCst) < 3 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
    assert_eq!(group.shutdown(Duration::from_secs(5)).await, 0);
}
