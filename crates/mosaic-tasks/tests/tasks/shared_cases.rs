//! Groups and limits of keys, on every engine.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use mosaic_core::Runtime;
use mosaic_tasks::{
    Claimed, Command, Group, KeyLimit, NewTask, Options, Page, QueueName, Rate, State, TaskId, unframe,
};

use crate::bench::{Bench, LEASE, failed, report, succeeded};

const SECOND: Duration = Duration::from_secs(1);

fn group(key: &str, max_size: u32) -> Options {
    Options {
        group: Some(Group {
            key: key.to_owned(),
            grace: 2 * SECOND,
            max_delay: 5 * SECOND,
            max_size,
        }),
        ..Options::default()
    }
}

fn payloads(claimed: &Claimed) -> BTreeSet<Vec<u8>> {
    unframe(&claimed.payload)
        .unwrap()
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect()
}

fn named(bench: &Bench, name: &str, options: Options) -> NewTask {
    let cx = mosaic_core::Context::new(&bench.runtime);
    NewTask::new(&cx, "mail", name.as_bytes().to_vec(), options).unwrap()
}

pub(crate) async fn a_group_becomes_one_task_when_it_is_quiet(bench: &Bench) {
    for name in ["a", "b"] {
        bench
            .engine
            .enqueue(&[named(bench, name, group("g", 9))])
            .await
            .unwrap();
        bench.clock.advance(SECOND);
    }
    bench
        .engine
        .enqueue(&[named(bench, "other", group("h", 9))])
        .await
        .unwrap();
    let promoted = bench.engine.promote(9).await.unwrap();
    assert_eq!((promoted.n_due, promoted.next_in), (0, Some(SECOND)));
    assert_eq!(bench.claim(9).await, []);
    bench.clock.advance(SECOND);
    assert_eq!(bench.engine.promote(9).await.unwrap().n_due, 1);
    let claimed = bench.claim(9).await;
    assert_eq!((claimed.len(), claimed[0].task.n_merged), (1, 2));
    assert_eq!(payloads(&claimed[0]), BTreeSet::from([b"a".to_vec(), b"b".to_vec()]));
    let counts = bench.engine.counts(&QueueName::default()).await.unwrap();
    assert_eq!(counts, [(State::Active, 1), (State::Waiting, 1)]);
}

pub(crate) async fn a_group_does_not_wait_for_ever_and_not_when_full(bench: &Bench) {
    for _ in 0..5 {
        assert_eq!(bench.engine.promote(9).await.unwrap().n_due, 0);
        bench.add(group("slow", 99)).await;
        bench.clock.advance(SECOND);
    }
    assert_eq!(bench.engine.promote(9).await.unwrap().n_due, 1, "the first is too old");
    assert_eq!(bench.claim(9).await[0].task.n_merged, 5);
    let many: Vec<NewTask> = (0..25).map(|_| bench.new_task(group("fast", 10))).collect();
    bench.engine.enqueue(&many).await.unwrap();
    assert_eq!(bench.engine.promote(9).await.unwrap().n_due, 3);
    let sizes: Vec<u32> = bench
        .claim(9)
        .await
        .iter()
        .map(|claimed| claimed.task.n_merged)
        .collect();
    assert_eq!(sizes, [10, 10, 5]);
    // Payloads have a bound together.
    let large: Vec<NewTask> = (0..5)
        .map(|_| named(bench, &"x".repeat(250 * 1024), group("large", 5)))
        .collect();
    bench.engine.enqueue(&large).await.unwrap();
    bench.engine.promote(9).await.unwrap();
    let sizes: Vec<u32> = bench
        .claim(9)
        .await
        .iter()
        .map(|claimed| claimed.task.n_merged)
        .collect();
    assert_eq!(sizes, [4, 1]);
}

/// Tasks come while others merge: each is in one merged task.
pub(crate) async fn nothing_is_merged_twice_and_nothing_left_out(bench: &Bench) {
    let add = async |first: u32| {
        for number in first..first + 30 {
            let task = named(bench, &number.to_string(), group("g", 7));
            bench.engine.enqueue(&[task]).await.unwrap();
        }
    };
    let merge = async || {
        for _ in 0..30 {
            bench.engine.promote(9).await.unwrap();
        }
    };
    futures::future::join(join_all([add(0), add(1000)]), join_all([merge(), merge()])).await;
    bench.clock.advance(5 * SECOND);
    bench.engine.promote(9).await.unwrap();
    let claimed = bench.claim(100).await;
    let all: Vec<Vec<u8>> = claimed.iter().flat_map(payloads).collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (60, 60));
    assert!(claimed.iter().all(|claimed| claimed.task.n_merged <= 7));
    assert_eq!(bench.engine.promote(9).await.unwrap().next_in, None);
}

fn limited(concurrency: Option<u32>, rate: Option<Rate>) -> Options {
    Options {
        limit: Some(KeyLimit {
            key: "customer 7".to_owned(),
            concurrency,
            rate,
        }),
        ..Options::default()
    }
}

pub(crate) async fn no_more_of_a_key_are_active_than_allowed(bench: &Bench) {
    let many: Vec<NewTask> = (0..6).map(|_| bench.new_task(limited(Some(2), None))).collect();
    bench.engine.enqueue(&many).await.unwrap();
    let free = bench.add(Options::default()).await;
    let mut claimed = bench.claim(2).await;
    assert_eq!(claimed.len(), 2);
    // Those that wait are not in the way of others.
    claimed.extend(bench.claim(9).await);
    assert_eq!(
        claimed.iter().map(|claimed| claimed.task.id).collect::<Vec<_>>()[2],
        free
    );
    assert_eq!(bench.engine.promote(9).await.unwrap().n_due, 0);
    let mut n_run = 0;
    while let Some(done) = claimed.pop() {
        report(bench, &done, succeeded(b"")).await;
        n_run += 1;
        bench.engine.promote(9).await.unwrap();
        claimed.extend(bench.claim(9).await);
        assert!(claimed.len() <= 2);
    }
    assert_eq!(n_run, 7);
}

pub(crate) async fn the_turn_of_the_dead_is_free_again(bench: &Bench) {
    let once = || Options {
        retries_max: 0,
        ..limited(Some(1), None)
    };
    let (one, two) = (bench.add(once()).await, bench.add(once()).await);
    assert_eq!(bench.claim(9).await[0].task.id, one);
    assert_eq!(bench.claim(9).await, []);
    bench.clock.advance(LEASE);
    bench.engine.expire(9).await.unwrap();
    bench.engine.promote(9).await.unwrap();
    assert_eq!(bench.claim(9).await[0].task.id, two);
}

/// Whoever was let go and did not start is no reason for the others to wait for ever.
pub(crate) async fn a_turn_that_nobody_took_is_not_lost(bench: &Bench) {
    let ids = [
        bench.add(limited(Some(1), None)).await,
        bench.add(limited(Some(1), None)).await,
        bench.add(limited(Some(1), None)).await,
    ];
    let first = bench.claim(9).await.remove(0);
    report(bench, &first, succeeded(b"")).await;
    bench.engine.promote(9).await.unwrap();
    bench.engine.command(ids[1], Command::Delete).await.unwrap();
    assert_eq!(bench.claim(9).await, []);
    bench.clock.advance(10 * SECOND);
    bench.engine.promote(9).await.unwrap();
    assert_eq!(bench.claim(9).await[0].task.id, ids[2]);
}

/// Workers that claim, report, fail and die at random: at no time more than two run, and all end.
pub(crate) async fn a_limit_holds_whatever_happens(bench: &Bench) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let random = Runtime::new(
        bench.clock.clone(),
        std::sync::Arc::new(mosaic_core::SeededRandom::new(seed)),
    );
    let options = || Options {
        retries_max: 100,
        ..limited(Some(2), None)
    };
    let many: Vec<NewTask> = (0..12).map(|_| bench.new_task(options())).collect();
    bench.engine.enqueue(&many).await.unwrap();
    let mut hands: Vec<Claimed> = Vec::new();
    for _ in 0..2000 {
        let counts = bench.engine.counts(&QueueName::default()).await.unwrap();
        let n_active = counts
            .iter()
            .find(|(state, _)| *state == State::Active)
            .map_or(0, |(_, n)| *n);
        assert!(n_active <= 2, "{counts:?}");
        if counts.is_empty() {
            return;
        }
        match random.random_below(6) {
            0 | 1 => hands.extend(futures::future::join(bench.claim(2), bench.claim(2)).await.0),
            2 | 3 if !hands.is_empty() => {
                let done = hands.swap_remove(random.random_below(hands.len() as u64) as usize);
                let outcome = if random.random_below(3) == 0 {
                    failed()
                } else {
                    succeeded(b"")
                };
                report(bench, &done, outcome).await;
            }
            _ => {
                bench.clock.advance(SECOND * random.random_below(20) as u32);
                bench.engine.expire(9).await.unwrap();
                bench.engine.promote(9).await.unwrap();
            }
        }
    }
    panic!("they did not end");
}

pub(crate) async fn starts_of_a_key_keep_their_rate(bench: &Bench) {
    let rate = Rate { n: 4, per: SECOND };
    let many: Vec<NewTask> = (0..12).map(|_| bench.new_task(limited(None, Some(rate)))).collect();
    bench.engine.enqueue(&many).await.unwrap();
    let mut starts = Vec::new();
    while starts.len() < 12 {
        let promoted = bench.engine.promote(9).await.unwrap();
        let now = bench.runtime.now();
        starts.extend(bench.claim(9).await.iter().map(|_| now));
        let next_in = bench.engine.promote(9).await.unwrap().next_in.or(promoted.next_in);
        bench
            .clock
            .advance(next_in.unwrap_or(SECOND).max(Duration::from_millis(1)));
    }
    for start in &starts {
        let n = starts
            .iter()
            .filter(|other| *other >= start && other.since(*start) < SECOND)
            .count();
        assert!(n <= 4, "{starts:?}");
    }
    assert!(starts[11].since(starts[0]) < 4 * SECOND, "{starts:?}");
}

pub(crate) async fn waiting_tasks_can_be_listed_and_run(bench: &Bench) {
    let id: TaskId = bench.add(group("g", 9)).await;
    let page = Page {
        queue: QueueName::default(),
        state: State::Waiting,
        after: None,
        limit: 9,
    };
    assert_eq!(bench.engine.list(&page).await.unwrap()[0].id, id);
    bench.engine.command(id, Command::RunNow).await.unwrap();
    let claimed = bench.claim(9).await.remove(0);
    assert_eq!((claimed.task.n_merged, claimed.payload.as_slice()), (0, &b"hello"[..]));
    bench.clock.advance(5 * SECOND);
    assert_eq!(bench.engine.promote(9).await.unwrap().n_due, 0);
}
