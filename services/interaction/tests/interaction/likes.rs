//! Likes: idempotent, exact, and told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mosaic::{Runtime, SeededRandom, SystemClock};
use mosaic_testing::{engine_url, until};

use crate::support::Plan;

pub(crate) async fn who_likes_twice_is_counted_once(plan: Plan) {
    let bench = plan.start().await;
    // Who likes or not, how many there are then, and what he sees.
    let steps = [
        (1, true, 1),
        (1, true, 1),
        (2, true, 2),
        (1, false, 1),
        (1, false, 1),
        (3, false, 1),
        (1, true, 2),
        (2, false, 1),
        (1, false, 0),
    ];
    for (step, (account, liked, likes)) in steps.into_iter().enumerate() {
        bench.like(7, account, liked).await.unwrap();
        let state = bench.get(7, account).await;
        assert_eq!((state.likes, state.liked), (likes, liked), "step {step}");
        assert!(!state.collected && state.collects == 0);
    }
    assert!(!bench.get(7, 0).await.liked, "nobody likes nothing");
    // What nobody ever liked is not made by not liking it.
    bench.like(8, 1, false).await.unwrap();
    assert_eq!(bench.number("SELECT COUNT(*) AS n FROM item").await, 1);
    bench.check_counters(&[7, 8]).await;
    bench.stop().await;
}

/// What somebody has marked is kept as long as it is little: around that limit nobody sees a difference.
pub(crate) async fn who_likes_much_sees_it(plan: Plan) {
    let bench = plan.start().await;
    join_all((1..=98).map(|item| bench.like(item, 5, true))).await;
    bench.collect(1, 5, Some(0)).await.unwrap();
    for item in 99..=102 {
        assert!(!bench.get(item, 5).await.liked, "{item} before");
        bench.like(item, 5, true).await.unwrap();
        let seen = [1, item, item + 1].map(|item| bench.get(item, 5));
        let seen = join_all(seen)
            .await
            .into_iter()
            .map(|state| (state.liked, state.collected));
        let want = [(true, true), (true, false), (false, false)];
        assert_eq!(Vec::from_iter(seen), want, "after {item}");
    }
    for item in 2..=6 {
        bench.like(item, 5, false).await.unwrap();
        assert!(!bench.get(item, 5).await.liked, "{item} after");
        assert!(bench.get(item + 1, 5).await.liked && bench.get(1, 5).await.collected);
    }
    assert!(!bench.get(1, 6).await.liked, "another");
    bench.stop().await;
}

pub(crate) async fn a_hundred_at_once_are_counted_exactly(plan: Plan) {
    let bench = plan.start().await;
    let all = join_all((0..100).map(|_| bench.like(1, 5, true))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(bench.get(1, 5).await.likes, 1, "one of them a hundred times");
    let all = join_all((1..=100).map(|account| bench.like(2, account, true))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(bench.get(2, 5).await.likes, 100, "a hundred of them");
    let collected = join_all((1..=100).map(|account| bench.collect(2, account, Some(0)))).await;
    assert!(collected.iter().all(Result::is_ok), "{collected:?}");
    join_all((1..=100).map(|account| bench.like(2, account % 50 + 1, false))).await;
    let state = bench.get(2, 60).await;
    assert_eq!((state.likes, state.collects, state.liked), (50, 100, true));
    bench.check_counters(&[1, 2]).await;
    bench.stop().await;
}

/// People toggle side by side, each in an order of his own; the end is the last word of each.
pub(crate) async fn toggled_at_random_the_counters_are_the_rows(plan: Plan) {
    let bench = plan.start().await;
    let seed = bench.app.runtime().random_u64();
    eprintln!("seed {seed}");
    let walks = (1..=30).map(|account| {
        let (bench, random) = (&bench, SeededRandom::new(seed.wrapping_add(account)));
        let dice = Runtime::new(Arc::new(SystemClock), Arc::new(random));
        let account = account as i64;
        async move {
            let mut last = BTreeMap::new();
            for _ in 0..30 {
                let (item, is_on) = (dice.random_below(4) as i64 + 1, dice.random_below(2) == 0);
                if dice.random_below(3) == 0 {
                    bench.collect(item, account, is_on.then_some(0)).await.unwrap();
                } else {
                    bench.like(item, account, is_on).await.unwrap();
                    last.insert(item, is_on);
                    let seen = bench.get(item, account).await;
                    assert_eq!(seen.liked, is_on, "read your own write");
                    assert!(seen.likes >= i64::from(is_on), "it is counted");
                }
            }
            last
        }
    });
    let last = join_all(walks).await;
    for item in 1..=4 {
        let likes = last.iter().filter(|last| last.get(&item) == Some(&true)).count();
        assert_eq!(bench.get(item, 0).await.likes, likes as i64, "item {item}");
    }
    bench.check_counters(&[1, 2, 3, 4]).await;
    bench.stop().await;
}

/// Two processes on one database, in small batches of the same few people and items.
pub(crate) async fn two_processes_count_together(plan: Plan) {
    let Some(redis) = engine_url("MOSAIC_TEST_REDIS") else {
        return;
    };
    let plan = plan.set("cache.url", &redis).set("interaction.batch_max", "5");
    let bench = plan.start().await;
    let Some(twin) = bench.twin().await else {
        return bench.stop().await;
    };
    let seed = bench.app.runtime().random_u64();
    eprintln!("seed {seed}");
    let dice = Runtime::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(seed)));
    let draw = |below| dice.random_below(below) as i64 + 1;
    let steps: Vec<_> = (0..200).map(|n| (n % 2 == 0, draw(6), draw(5), draw(2) == 1)).collect();
    let calls = steps.into_iter().map(|(is_here, item, account, liked)| {
        let at = if is_here { &bench } else { &twin };
        at.like(item, account, liked)
    });
    let failed: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::err).collect();
    assert!(
        failed.is_empty(),
        "{} failed, the first with {:?}",
        failed.len(),
        failed[0]
    );
    bench.check_counters(&Vec::from_iter(1..=6)).await;
    twin.stop().await;
    bench.stop().await;
}

pub(crate) async fn a_like_is_told_with_the_number(plan: Plan) {
    let bench = plan.start().await;
    for (account, liked) in [(1, true), (2, true), (2, true), (1, false), (1, false)] {
        bench.like(3, account, liked).await.unwrap();
    }
    bench.collect(3, 9, Some(0)).await.unwrap();
    bench.like(4, 1, true).await.unwrap();
    let ten_seconds = Duration::from_secs(10);
    until("all is told", ten_seconds, || async { bench.told().len() >= 4 }).await;
    let mut told = bench.told();
    told.sort_by_key(|(item, _)| *item);
    assert_eq!(told, [(3, 1), (3, 2), (3, 1), (4, 1)], "each change once, in order");
    bench.stop().await;
}
