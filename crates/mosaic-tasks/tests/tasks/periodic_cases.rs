//! Schedules, on every engine: ticks == fires, whoever is there to fire them.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{ManualClock, Result, Runtime, SeededRandom, SystemRandom};
use mosaic_sql::sea_orm::DbBackend;
use mosaic_tasks::{CatchUp, Engine, Periodic, Queue, QueueName, Schedule, Scheduler, State, Step, Task, TaskContext};
use serde::{Deserialize, Serialize};

use crate::bench::Bench;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Tick;

impl Task for Tick {
    const NAME: &'static str = "mail";
    type Needs = ();
    type Output = ();

    async fn run(self, (): &(), _: &TaskContext) -> Result<()> {
        Ok(())
    }
}

fn every(cron: &str) -> Periodic {
    Periodic::new("sweep", cron, "UTC", &Tick).unwrap()
}

/// The scheduler of a process, which knows the engine by its own clock.
fn process(engine: &Arc<dyn Engine>, runtime: &Runtime, periodic: Vec<Periodic>) -> Scheduler {
    Scheduler::new(&Queue::new(engine.clone(), runtime), "service", periodic).unwrap()
}

/// Declares its schedules and fires what is due.
async fn live(process: &Scheduler) {
    process.declare().await.unwrap();
    process.fire().await.unwrap();
}

async fn n_fired(bench: &Bench) -> u64 {
    let counts = bench.engine.counts(&QueueName::default()).await.unwrap();
    counts
        .iter()
        .filter(|(state, _)| *state == State::Pending)
        .map(|(_, n)| n)
        .sum()
}

/// Three schedulers, two with clocks five minutes early and late. They fire at once or after one another, die in the middle,
/// come back, and sleep for long.
pub(crate) async fn every_tick_fires_once(bench: &Bench) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let random = Runtime::new(bench.clock.clone(), Arc::new(SeededRandom::new(seed)));
    let (skew, now) = (5 * MINUTE, bench.runtime.now());
    let clocks = [now.minus(skew), now, now.plus(skew)].map(|now| Arc::new(ManualClock::at(now)));
    let processes = clocks.each_ref().map(|clock| {
        let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
        process(
            &bench.engine,
            &runtime,
            vec![every("* * * * *").with_catch_up(CatchUp::All(1000))],
        )
    });
    live(&processes[0]).await;
    let is_mysql = bench
        .database
        .as_ref()
        .is_some_and(|database| database.backend() == DbBackend::MySql);
    let mut n_ticks = 0;
    for _ in 0..40 {
        // Now and then nobody does anything for three leases.
        let minutes = [1, 1, 1, 2][random.random_below(4) as usize];
        for clock in clocks.iter().chain([&bench.clock]) {
            clock.advance(MINUTE * minutes);
        }
        n_ticks += u64::from(minutes);
        let lives = processes.each_ref().map(|process| {
            // On MySQL a dropped statement can spoil the connection for those who share the pool, as processes do not.
            let polls = if is_mysql { u64::MAX } else { random.random_below(40) };
            dies_after(polls, live(process))
        });
        futures::future::join_all(lives).await;
        live(&processes[random.random_below(3) as usize]).await;
        assert_eq!(n_fired(bench).await, n_ticks);
    }
}

/// Drops `work` after it was polled so often.
async fn dies_after(mut n_polls: u64, work: impl Future<Output = ()>) {
    let mut work = Box::pin(work);
    std::future::poll_fn(move |cx| {
        if n_polls == 0 {
            return std::task::Poll::Ready(());
        }
        n_polls -= 1;
        work.as_mut().poll(cx)
    })
    .await;
}

/// The stored schedule is moved by whoever comes first, and only when its time has come.
pub(crate) async fn a_step_is_taken_once_and_not_early(bench: &Bench) {
    let now = bench.runtime.now();
    let schedule = Schedule {
        name: "sweep".to_owned(),
        owner: "service".to_owned(),
        rule: "r".to_owned(),
        next_at: now.plus(MINUTE),
    };
    bench
        .engine
        .declare("service", std::slice::from_ref(&schedule))
        .await
        .unwrap();
    let step = || Step {
        from: schedule.clone(),
        to: now.plus(2 * MINUTE),
        tasks: vec![bench.new_task(mosaic_tasks::Options::default())],
    };
    bench.clock.advance(MINUTE - Duration::from_micros(1));
    assert!(!bench.engine.step(&step()).await.unwrap());
    bench.clock.advance(Duration::from_micros(1));
    let steps: Vec<Step> = (0..4).map(|_| step()).collect();
    let taken = futures::future::join_all(steps.iter().map(|step| bench.engine.step(step))).await;
    assert_eq!(taken.iter().filter(|taken| *taken.as_ref().unwrap()).count(), 1);
    assert_eq!(n_fired(bench).await, 1);
}

pub(crate) async fn a_late_process_fires_once_by_default(bench: &Bench) {
    let process = process(&bench.engine, &bench.runtime, vec![every("* * * * *")]);
    live(&process).await;
    bench.clock.advance(10 * MINUTE);
    live(&process).await;
    assert_eq!(n_fired(bench).await, 1);
}

pub(crate) async fn schedules_change_and_go_with_a_deploy(bench: &Bench) {
    let deploy = async |periodic: Vec<Periodic>| {
        live(&process(&bench.engine, &bench.runtime, periodic)).await;
        bench.engine.schedules("service").await.unwrap()
    };
    let elsewhere = Scheduler::new(
        &Queue::new(bench.engine.clone(), &bench.runtime),
        "elsewhere",
        vec![Periodic::new("theirs", "0 0 * * *", "UTC", &Tick).unwrap()],
    );
    live(&elsewhere.unwrap()).await;
    let other = Periodic::new("other", "0 0 * * *", "UTC", &Tick).unwrap();
    let first = deploy(vec![every("0 * * * *"), other]).await;
    bench.clock.advance(MINUTE);
    // The same rule keeps its tick, another one has its own; what is not declared any more is gone.
    let same = deploy(vec![every("0 * * * *")]).await;
    assert_eq!(same.schedules, first.schedules[1..]);
    let changed = deploy(vec![every("* * * * *")]).await;
    assert!(changed.schedules[0].next_at.since(changed.now) <= MINUTE);
    // A process of the release before does not fire by its rule.
    let mut old = Step {
        from: same.schedules[0].clone(),
        to: same.now.plus(MINUTE * 60),
        tasks: Vec::new(),
    };
    old.from.next_at = changed.schedules[0].next_at;
    bench.clock.advance(MINUTE);
    assert!(!bench.engine.step(&old).await.unwrap());
    assert_eq!(deploy(Vec::new()).await.schedules, []);
    assert_eq!(n_fired(bench).await, 0);
    assert_eq!(bench.engine.schedules("elsewhere").await.unwrap().schedules.len(), 1);
}
