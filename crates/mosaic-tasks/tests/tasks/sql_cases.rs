//! What only engines in a database can do; nothing on the one in memory.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_tasks::{Engine, Options, QueueName, SqlEngine, State};

use crate::bench::{Bench, LEASE, lease, mail};

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
