//! What every engine must do.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use mosaic_core::Runtime;
use mosaic_tasks::{
    Backoff, Command, Enqueued, Hold, NewTask, Options, Outcome, Page, QueueName, Report, Seen, State, TaskId,
    UniqueFor, When,
};

use crate::bench::{Bench, LEASE, failed, lease, mail, report, reported, succeeded};

const SECOND: Duration = Duration::from_secs(1);

fn page(state: State, after: Option<TaskId>) -> Page {
    Page {
        queue: QueueName::default(),
        state,
        after,
        limit: 10,
    }
}

async fn state(bench: &Bench, id: TaskId) -> Option<State> {
    bench.engine.look(id).await.unwrap().map(|seen| seen.task.state)
}

async fn count(bench: &Bench) -> Vec<(State, u64)> {
    bench.engine.counts(&QueueName::default()).await.unwrap()
}

pub(crate) async fn claims_are_exclusive_under_concurrency(bench: &Bench) {
    let tasks: Vec<NewTask> = (0..200).map(|_| bench.new_task(Options::default())).collect();
    bench.engine.enqueue(&tasks).await.unwrap();
    let one = async || {
        let mut ids = Vec::new();
        // With SKIP LOCKED an empty answer may mean that others hold the rest for this moment.
        while ids.len() < 200 && bench.engine.counts(&QueueName::default()).await.unwrap()[0].0 == State::Pending {
            ids.extend(bench.claim(7).await.iter().map(|claimed| claimed.task.id));
        }
        ids
    };
    let ids: Vec<TaskId> = join_all([one(), one(), one(), one()]).await.concat();
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (200, 200));
    assert_eq!(count(bench).await, [(State::Active, 200)]);
}

pub(crate) async fn higher_priority_first_then_earlier(bench: &Bench) {
    let at = |priority, secs| {
        let time = bench.runtime.now().minus(Duration::from_secs(secs));
        bench.add(Options {
            priority,
            when: When::At(time),
            ..Options::default()
        })
    };
    let (d, b, c, a) = (at(0, 9).await, at(1, 5).await, at(1, 1).await, at(9, 0).await);
    let order: Vec<TaskId> = bench.claim(3).await.iter().map(|claimed| claimed.task.id).collect();
    assert_eq!(order, [a, b, c]);
    assert_eq!(bench.claim(3).await[0].task.id, d);
}

pub(crate) async fn a_delayed_task_is_not_early(bench: &Bench) {
    let id = bench
        .add(Options {
            when: When::In(10 * SECOND),
            ..Options::default()
        })
        .await;
    bench.clock.advance(10 * SECOND - Duration::from_micros(1));
    let promoted = bench.engine.promote(10).await.unwrap();
    assert_eq!((promoted.n_due, promoted.next_in), (0, Some(Duration::from_micros(1))));
    assert_eq!(bench.claim(1).await, []);
    assert_eq!(state(bench, id).await, Some(State::Scheduled));
    bench.clock.advance(Duration::from_micros(1));
    let promoted = bench.engine.promote(10).await.unwrap();
    assert_eq!((promoted.n_due, promoted.next_in), (1, None));
    assert_eq!(bench.claim(1).await[0].payload, b"hello");
}

pub(crate) async fn only_known_kinds_are_claimed(bench: &Bench) {
    bench.add(Options::default()).await;
    let mut other = mail(5);
    other.kinds = vec!["sms".to_owned()];
    assert_eq!(bench.engine.claim(&other).await.unwrap(), []);
    other.kinds = Vec::new();
    assert_eq!(bench.engine.claim(&other).await.unwrap(), []);
    let mut elsewhere = mail(5);
    elsewhere.queue = "slow".parse().unwrap();
    assert_eq!(bench.engine.claim(&elsewhere).await.unwrap(), []);
    assert_eq!(bench.claim(5).await.len(), 1);
}

pub(crate) async fn a_unique_key_is_held_until_the_end_or_its_time(bench: &Bench) {
    let unique = || Options {
        unique: Some(UniqueFor {
            key: "order 7".to_owned(),
            hold: 60 * SECOND,
        }),
        ..Options::default()
    };
    let both = [bench.new_task(unique()), bench.new_task(unique())];
    let first = both[0].id();
    let answers = bench.engine.enqueue(&both).await.unwrap();
    assert_eq!(answers, [Enqueued::Added(first), Enqueued::Duplicate { of: first }]);
    // Held while it runs, free when it has ended.
    let claimed = bench.claim(5).await;
    assert_eq!(claimed.len(), 1);
    let again = bench.engine.enqueue(&[bench.new_task(unique())]).await.unwrap();
    assert_eq!(again, [Enqueued::Duplicate { of: first }]);
    report(bench, &claimed[0], succeeded(b"42")).await;
    let second = bench.add(unique()).await;
    bench.clock.advance(60 * SECOND - Duration::from_micros(1));
    let again = bench.engine.enqueue(&[bench.new_task(unique())]).await.unwrap();
    assert_eq!(again, [Enqueued::Duplicate { of: second }]);
    bench.clock.advance(Duration::from_micros(1));
    bench.add(unique()).await;
    assert_eq!(count(bench).await, [(State::Pending, 2)]);
}

pub(crate) async fn a_lost_lease_returns_the_task_and_refuses_the_old_worker(bench: &Bench) {
    let id = bench.add(Options::default()).await;
    let old = bench.claim(1).await.remove(0);
    bench.clock.advance(LEASE - Duration::from_micros(1));
    assert_eq!(bench.engine.expire(10).await.unwrap(), 0);
    bench.clock.advance(Duration::from_micros(1));
    assert_eq!(bench.engine.expire(10).await.unwrap(), 1);
    assert_eq!(state(bench, id).await, Some(State::Retry));
    bench.clock.advance(10 * SECOND);
    bench.engine.promote(10).await.unwrap();
    let new = bench.claim(1).await.remove(0);
    assert_eq!((new.task.id, new.task.n_failed), (id, 1));
    assert!(new.task.fence > old.task.fence);
    assert!(!report(bench, &old, succeeded(b"42")).await);
    let holds = bench.engine.extend(&[lease(&old), lease(&new)], LEASE).await.unwrap();
    assert_eq!(holds, [Hold::Lost, Hold::Kept]);
    assert_eq!(state(bench, id).await, Some(State::Active));
    assert!(report(bench, &new, succeeded(b"42")).await);
    assert!(!report(bench, &new, succeeded(b"42")).await);
    assert_eq!(state(bench, id).await, None);
}

pub(crate) async fn heartbeats_keep_a_lease(bench: &Bench) {
    bench.add(Options::default()).await;
    let claimed = bench.claim(1).await.remove(0);
    for _ in 0..5 {
        bench.clock.advance(LEASE / 2);
        assert_eq!(
            bench.engine.extend(&[lease(&claimed)], LEASE).await.unwrap(),
            [Hold::Kept]
        );
        assert_eq!(bench.engine.expire(10).await.unwrap(), 0);
    }
    assert!(report(bench, &claimed, Outcome::Released).await);
    let again = bench.claim(1).await.remove(0);
    assert_eq!((again.task.id, again.task.n_failed), (claimed.task.id, 0));
}

pub(crate) async fn a_result_is_kept_for_its_time(bench: &Bench) {
    let id = bench
        .add(Options {
            retention: 60 * SECOND,
            ..Options::default()
        })
        .await;
    let claimed = bench.claim(1).await.remove(0);
    assert!(report(bench, &claimed, succeeded(b"42")).await);
    let Seen { task, result, .. } = bench.engine.look(id).await.unwrap().unwrap();
    assert_eq!((task.state, result.as_slice()), (State::Completed, &b"42"[..]));
    assert_eq!(bench.engine.purge(10).await.unwrap(), 0);
    bench.clock.advance(60 * SECOND);
    assert_eq!(bench.engine.purge(10).await.unwrap(), 1);
    assert_eq!(bench.engine.look(id).await.unwrap(), None);
}

pub(crate) async fn a_poison_task_lands_in_the_archive(bench: &Bench) {
    let id = bench
        .add(Options {
            retries_max: 2,
            backoff: Backoff {
                base: SECOND,
                max: SECOND,
            },
            ..Options::default()
        })
        .await;
    for _ in 0..3 {
        bench.engine.promote(10).await.unwrap();
        let claimed = bench.claim(1).await.remove(0);
        assert!(report(bench, &claimed, failed()).await);
        assert_eq!(bench.claim(1).await, []);
        bench.clock.advance(SECOND);
    }
    let task = bench.engine.look(id).await.unwrap().unwrap().task;
    assert_eq!(
        (task.state, task.n_failed, task.last_error.as_deref()),
        (State::Archived, 3, Some("no pe"))
    );
    bench.clock.advance(mosaic_tasks::ARCHIVED_FOR);
    assert_eq!(bench.engine.purge(10).await.unwrap(), 1);
}

pub(crate) async fn people_command_tasks(bench: &Bench) {
    let later = || Options {
        when: When::In(60 * SECOND),
        ..Options::default()
    };
    let (now, cancelled, deleted) = (
        bench.add(later()).await,
        bench.add(later()).await,
        bench.add(later()).await,
    );
    bench.engine.command(now, Command::RunNow).await.unwrap();
    bench.engine.command(cancelled, Command::Cancel).await.unwrap();
    bench.engine.command(deleted, Command::Delete).await.unwrap();
    assert_eq!(count(bench).await, [(State::Pending, 1), (State::Archived, 1)]);
    let claimed = bench.claim(5).await.remove(0);
    assert_eq!(claimed.task.id, now);
    let error = bench.engine.command(now, Command::Delete).await.unwrap_err();
    assert_eq!(error.reason(), "TASK_STATE");
    let error = bench.engine.command(deleted, Command::RunNow).await.unwrap_err();
    assert_eq!(error.reason(), "TASK_NOT_FOUND");
    bench.engine.command(now, Command::Cancel).await.unwrap();
    assert_eq!(
        bench.engine.extend(&[lease(&claimed)], LEASE).await.unwrap(),
        [Hold::Cancelled]
    );
    assert!(report(bench, &claimed, failed()).await);
    let archived = bench.engine.list(&page(State::Archived, None)).await.unwrap();
    assert_eq!(
        archived.iter().map(|task| task.id).collect::<Vec<_>>(),
        [now, cancelled]
    );
    let rest = bench.engine.list(&page(State::Archived, Some(now))).await.unwrap();
    assert_eq!(rest.iter().map(|task| task.id).collect::<Vec<_>>(), [cancelled]);
}

pub(crate) async fn batches_are_large_and_keep_their_order(bench: &Bench) {
    let tasks: Vec<NewTask> = (0..1200).map(|_| bench.new_task(Options::default())).collect();
    let ids: Vec<TaskId> = tasks.iter().map(NewTask::id).collect();
    let answers = bench.engine.enqueue(&tasks).await.unwrap();
    assert_eq!(answers, ids.iter().copied().map(Enqueued::Added).collect::<Vec<_>>());
    let claimed = bench.claim(1200).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.task.id).collect::<Vec<_>>(), ids);
    let report = |claimed| reported(claimed, succeeded(b"42"));
    let reports: Vec<Report> = claimed.iter().map(report).collect();
    assert!(bench.engine.finish(&reports).await.unwrap().iter().all(|taken| *taken));
    assert_eq!(count(bench).await, []);
    assert_eq!(bench.engine.enqueue(&[]).await.unwrap(), []);
    assert_eq!(bench.engine.finish(&[]).await.unwrap(), [false; 0]);
}

/// enqueued == succeeded + archived + waiting, after every step of a random history with dying workers.
pub(crate) async fn nothing_vanishes_whatever_happens(bench: &Bench) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let random = Runtime::new(
        bench.clock.clone(),
        std::sync::Arc::new(mosaic_core::SeededRandom::new(seed)),
    );
    let (mut n_enqueued, mut n_succeeded) = (0, 0);
    let mut hands = Vec::new();
    for _ in 0..150 {
        match random.random_below(8) {
            0 | 1 => {
                let when = When::In(SECOND * random.random_below(20) as u32);
                bench
                    .add(Options {
                        when,
                        retries_max: 1,
                        ..Options::default()
                    })
                    .await;
                n_enqueued += 1;
            }
            2 | 3 => hands.extend(bench.claim(1 + random.random_below(3) as usize).await),
            4 if !hands.is_empty() => {
                let claimed = hands.swap_remove(random.random_below(hands.len() as u64) as usize);
                n_succeeded += u64::from(report(bench, &claimed, succeeded(b"42")).await);
            }
            5 if !hands.is_empty() => {
                let claimed = hands.swap_remove(random.random_below(hands.len() as u64) as usize);
                let outcomes = [failed(), Outcome::Released];
                report(bench, &claimed, outcomes[random.random_below(2) as usize].clone()).await;
            }
            6 => drop(bench.engine.expire(2).await.unwrap()),
            _ => {
                bench.clock.advance(SECOND * random.random_below(15) as u32);
                bench.engine.promote(3).await.unwrap();
            }
        }
        let n_there: u64 = count(bench).await.iter().map(|(_, n)| n).sum();
        assert_eq!(n_enqueued, n_succeeded + n_there);
    }
}
