//! What an inbox remembers, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use mosaic_core::{Runtime, Timestamp};
use mosaic_events::{EventId, Inbox};

use crate::bench::Bench;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More than are deleted at once.
const MANY: u128 = 1_100;

/// Returns ids as they are drawn at `time`.
fn ids(time: Timestamp, n: u128) -> BTreeSet<EventId> {
    let first = u128::from(Runtime::least_id_at(time).unsigned_abs()) << 64;
    (0..n).map(|i| EventId::from_bits(first + i)).collect()
}

async fn take(bench: &Bench, consumer: &str, ids: impl IntoIterator<Item = EventId>, at: Timestamp) -> Vec<EventId> {
    let ids: Vec<_> = ids.into_iter().collect();
    let taken = bench
        .module
        .transaction(async |tx| Inbox::new(consumer).take(&tx, &ids, at).await);
    taken.await.unwrap().into_iter().collect()
}

pub(crate) async fn an_event_is_new_once_for_each_consumer(bench: &Bench) {
    let now = bench.runtime.now();
    let all: Vec<_> = ids(now, 5).into_iter().collect();
    assert_eq!(take(bench, "a", [all[1], all[3], all[1]], now).await, [all[1], all[3]]);
    assert_eq!(take(bench, "a", all.clone(), now).await, [all[0], all[2], all[4]]);
    assert_eq!(take(bench, "b", all.clone(), now).await, all);
    assert_eq!(take(bench, "a", all, now).await, []);
    assert_eq!(take(bench, "a", [], now).await, []);
}

pub(crate) async fn what_is_old_is_forgotten_unless_it_was_handled_late(bench: &Bench) {
    let now = bench.runtime.now();
    let (long_ago, week_ago) = (now.minus(8 * DAY), now.minus(7 * DAY));
    let old = ids(long_ago, MANY);
    let (late, early): (Vec<EventId>, Vec<EventId>) = old.iter().partition(|id| id.bits() % 100 == 0);
    let fresh = ids(now, 3);
    take(bench, "a", early.clone(), long_ago).await;
    take(bench, "b", early.clone(), long_ago).await;
    take(bench, "a", late.clone(), now).await;
    take(bench, "a", fresh.clone(), now).await;
    let n_gone = Inbox::purge(&bench.module, week_ago).await.unwrap();
    assert_eq!(n_gone, 2 * early.len() as u64);
    assert_eq!(Inbox::purge(&bench.module, week_ago).await.unwrap(), 0);
    assert_eq!(take(bench, "a", old.union(&fresh).copied(), now).await, early);
}
