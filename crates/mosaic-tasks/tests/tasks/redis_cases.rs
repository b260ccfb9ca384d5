//! What only the engine in Redis has: clocks that do not matter, other processes, a server that forgets, hangs or dies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Context, ManualClock, Runtime, SystemRandom, TaskGroup};
use mosaic_tasks::{Engine, Handlers, NewTask, Options, Queue, QueueName, When, Worker, WorkerOptions};
use tokio::time::Instant;

use crate::bench::{mail, reported, succeeded};
use crate::redis_place::{Letters, Mail, Place, SECOND, engine, new_task, until, worker};
use crate::redis_server::Server;

/// Runtimes five minutes early and late: the server's clock is the only one.
#[tokio::test]
async fn clocks_of_workers_do_not_matter() {
    let Some(place) = Place::new("clocks").await else {
        return;
    };
    let (now, skew) = (Runtime::system().now(), Duration::from_secs(300));
    let at = |now| {
        let runtime = Runtime::new(Arc::new(ManualClock::at(now)), Arc::new(SystemRandom));
        engine(&place.url, &place.prefix, &runtime)
    };
    let (early, late) = (at(now.minus(skew)), at(now.plus(skew)));
    for (one, other) in [(&early, &late), (&late, &early)] {
        one.enqueue(&[new_task(Options::default())]).await.unwrap();
        let claimed = one.claim(&mail(1)).await.unwrap().remove(0);
        assert_eq!(other.expire(10).await.unwrap(), 0);
        assert_eq!(other.claim(&mail(1)).await.unwrap(), []);
        let delayed = Options {
            when: When::In(60 * SECOND),
            ..Options::default()
        };
        one.enqueue(&[new_task(delayed)]).await.unwrap();
        assert_eq!(other.promote(10).await.unwrap().n_due, 0);
        assert!(claimed.task.enqueued_at.since(now) < 60 * SECOND);
        assert!(now.since(claimed.task.enqueued_at) < 60 * SECOND);
    }
    place.remove().await;
}

/// A worker that has long been idle, with a poll of a minute, and another process that enqueues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_of_another_process_starts_within_milliseconds() {
    let Some(place) = Place::new("bell").await else { return };
    let (seen, group) = (
        Arc::new(Letters::default()),
        TaskGroup::new(|panic| panic!("{panic:?}")),
    );
    let queue = Queue::new(place.engine.clone(), &Runtime::system());
    let options = WorkerOptions {
        poll: 60 * SECOND,
        ..WorkerOptions::default()
    };
    Worker::new(&queue, Handlers::new().with::<Mail>(seen.clone()), options).spawn(&group);
    let other = engine(&place.url, &place.prefix, &Runtime::system());
    let mut delays = Vec::new();
    for n_before in 0..20 {
        let added = Instant::now();
        let delay = Duration::from_millis(100);
        // Every other one later, of which the worker must hear as well.
        let when = if n_before % 2 == 0 { When::Now } else { When::In(delay) };
        other
            .enqueue(&[new_task(Options {
                when,
                ..Options::default()
            })])
            .await
            .unwrap();
        until(async || seen.0.lock().unwrap().len() > n_before).await;
        let started = seen.0.lock().unwrap()[n_before].1;
        let expected = if when == When::Now { added } else { added + delay };
        delays.push(started.saturating_duration_since(expected));
    }
    delays.sort_unstable();
    eprintln!("delays {delays:?}");
    assert!(delays[10] < Duration::from_millis(25), "{delays:?}");
    group.shutdown(5 * SECOND).await;
    place.remove().await;
}

/// 20,000 on one instant: all go, in batches that leave Redis its breath.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_are_due_at_once_all_go() {
    let Some(place) = Place::new("due").await else { return };
    let at = Runtime::system().now().plus(Duration::from_millis(10));
    let due = || {
        new_task(Options {
            when: When::At(at),
            ..Options::default()
        })
    };
    for _ in 0..4 {
        let tasks: Vec<NewTask> = (0..5_000).map(|_| due()).collect();
        place.engine.enqueue(&tasks).await.unwrap();
    }
    let (seen, group) = (
        Arc::new(Letters::default()),
        TaskGroup::new(|panic| panic!("{panic:?}")),
    );
    worker(place.engine.clone(), &seen, &group);
    until(async || seen.0.lock().unwrap().len() == 20_000).await;
    group.shutdown(5 * SECOND).await;
    assert_eq!(place.engine.counts(&QueueName::default()).await.unwrap(), []);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_and_workers_go_on() {
    let Some(mut server) = Server::start() else { return };
    let prefix = "killed:";
    let engine = Arc::new(engine(&server.url(), prefix, &Runtime::system()));
    until(async || engine.queues().await.is_ok()).await;
    let (seen, group) = (
        Arc::new(Letters::default()),
        TaskGroup::new(|panic| panic!("{panic:?}")),
    );
    let queue = Queue::new(engine.clone(), &Runtime::system());
    let options = WorkerOptions {
        lease: 2 * SECOND,
        ..WorkerOptions::default()
    };
    Worker::new(&queue, Handlers::new().with::<Mail>(seen.clone()), options).spawn(&group);
    let mut acknowledged = Vec::new();
    for round in 0..3_u32 {
        for number in 0..200 {
            let to = round * 200 + number;
            let task = NewTask::of(&Context::new(&Runtime::system()), &Mail { to }, Options::default()).unwrap();
            engine.enqueue(&[task]).await.unwrap();
            acknowledged.push(to);
        }
        server.kill();
        let error = engine.enqueue(&[new_task(Options::default())]).await.unwrap_err();
        assert_eq!(error.reason(), "TASKS_UNAVAILABLE");
        server.again();
        until(async || engine.queues().await.is_ok()).await;
    }
    let has_all = || {
        let seen = seen.0.lock().unwrap();
        let seen: BTreeSet<u32> = seen.iter().map(|(to, _)| *to).collect();
        acknowledged.iter().all(|to| seen.contains(to))
    };
    // What was on its way to a worker when the server died comes back when its lease ends.
    until(async || has_all()).await;
    group.shutdown(5 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_scripts_is_given_them_again() {
    let Some(server) = Server::start() else { return };
    let engine = Arc::new(engine(&server.url(), "forgot:", &Runtime::system()));
    until(async || engine.queues().await.is_ok()).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let mut forget = async || {
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut redis).await.unwrap();
    };
    for _ in 0..2 {
        engine.enqueue(&[new_task(Options::default())]).await.unwrap();
        forget().await;
        let claimed = engine.claim(&mail(1)).await.unwrap().remove(0);
        forget().await;
        assert_eq!(
            engine.finish(&[reported(&claimed, succeeded(b""))]).await.unwrap(),
            [true]
        );
        forget().await;
    }
    assert_eq!(engine.counts(&QueueName::default()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_an_error_in_time() {
    let Some(server) = Server::start() else { return };
    let engine = engine(&server.url(), "slow:", &Runtime::system());
    until(async || engine.queues().await.is_ok()).await;
    server.pause();
    let begun = Instant::now();
    let error = engine.enqueue(&[new_task(Options::default())]).await.unwrap_err();
    assert_eq!(error.reason(), "TASKS_UNAVAILABLE");
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    server.resume();
    until(async || engine.queues().await.is_ok()).await;
}
