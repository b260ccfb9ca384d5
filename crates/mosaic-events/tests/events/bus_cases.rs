//! What a bus promises to those who publish, and to those who listen alone.

use std::time::Duration;

use mosaic_events::{Change, Delivered, Mode, PAYLOAD_MAX, Topic};

use crate::bench::{Bench, assert_in_order, group, name, next, take, topic};

fn events(taken: &[(u32, Delivered)]) -> impl Iterator<Item = &Delivered> {
    taken.iter().map(|(_, event)| event)
}

pub(crate) async fn what_is_published_comes_once_and_in_order_of_its_key(bench: &Bench) {
    bench.publish(&["a", "b", "c"], 0..10).await;
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    assert_eq!(assert_in_order(events(&take(&mut member, 30).await), 0), 30);
    bench.publish(&["a", "b", "c"], 10..20).await;
    assert_eq!(assert_in_order(events(&take(&mut member, 30).await), 10), 30);
    // A second group has its own way through the topic.
    let mut other = bench.bus.subscribe(&topic(), &group("others")).await.unwrap();
    assert_eq!(assert_in_order(events(&take(&mut other, 60).await), 0), 60);
}

pub(crate) async fn a_batch_of_thousands_is_whole(bench: &Bench) {
    let sent: Vec<_> = (0..5000)
        .map(|n| bench.message(&format!("account-{}", n % 97), n / 97))
        .collect();
    bench.bus.publish(&sent).await.unwrap();
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let taken = take(&mut member, 5000).await;
    assert_eq!(assert_in_order(events(&taken), 0), 5000);
    let mut ids: Vec<_> = events(&taken).map(|event| event.message.id).collect();
    ids.sort();
    let mut wanted: Vec<_> = sent.iter().map(|message| message.id).collect();
    wanted.sort();
    assert_eq!(ids, wanted);
    assert!(events(&taken).all(|event| sent.contains(&event.message)));
}

pub(crate) async fn too_large_is_refused_and_nothing_of_the_batch_stays(bench: &Bench) {
    let mut large = bench.message("a", 1);
    large.payload = vec![b' '; PAYLOAD_MAX + 1].into();
    let error = bench.bus.publish(&[bench.message("a", 0), large]).await.unwrap_err();
    assert_eq!(error.reason(), "EVENT_TOO_LARGE");
    let largest = (1..13).map(|version| {
        let mut largest = bench.message("a", version);
        largest.payload = vec![b' '; PAYLOAD_MAX].into();
        largest
    });
    bench.bus.publish(&largest.collect::<Vec<_>>()).await.unwrap();
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let taken = take(&mut member, 12).await;
    assert_eq!(taken.len(), 12);
    assert!(events(&taken).all(|event| event.message.payload.len() == PAYLOAD_MAX));
}

pub(crate) async fn everybody_hears_a_broadcast_from_now_on(bench: &Bench) {
    bench.publish(&["a"], 0..5).await;
    let mut one = bench.bus.subscribe(&topic(), &Mode::Broadcast).await.unwrap();
    let mut other = bench.elsewhere().subscribe(&topic(), &Mode::Broadcast).await.unwrap();
    bench.publish(&["a", "b"], 5..8).await;
    assert_eq!(assert_in_order(events(&take(&mut one, 6).await), 5), 6);
    assert_eq!(assert_in_order(events(&take(&mut other, 6).await), 5), 6);
}

pub(crate) async fn lag_is_counted_and_goes(bench: &Bench) {
    assert_eq!(bench.bus.lag(&topic(), &name("readers")).await.unwrap(), []);
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    bench.publish(&["a", "b", "c"], 0..4).await;
    let lag = async || {
        let lags = bench.bus.lag(&topic(), &name("readers")).await.unwrap();
        let oldest = lags.iter().map(|lag| lag.age).max().unwrap();
        (lags.iter().map(|lag| lag.events).sum::<u64>(), oldest)
    };
    assert_eq!(lag().await.0, 12);
    assert!(!bench.bus.capabilities().lag_age || lag().await.1 > Duration::ZERO);
    take(&mut member, 12).await;
    assert_eq!(lag().await, (0, Duration::ZERO));
}

pub(crate) async fn old_events_are_deleted_by_size(bench: &Bench) {
    let mut small = Topic::new(topic());
    small.partitions = 1;
    small.retention_bytes = 100 << 10;
    bench.bus.declare(&small).await.unwrap();
    assert_eq!(
        bench
            .bus
            .declare(&Topic { partitions: 0, ..small })
            .await
            .unwrap_err()
            .reason(),
        "EVENTS_TOPIC_INVALID"
    );
    for version in 0..40 {
        let mut message = bench.message("a", version);
        message.headers.push("padding", "x".repeat(8000));
        bench.bus.publish(&[message]).await.unwrap();
    }
    let Some(n_gone) = bench.trim().await else { return };
    assert!(n_gone > 0);
    assert_eq!(bench.trim().await, Some(0));
    // A reader that is behind goes on with what is there, and the end is there.
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    assert_eq!(next(&mut member).await, Change::Assigned(0));
    let Change::Events { events, .. } = next(&mut member).await else {
        panic!("events")
    };
    let first = events[0].position;
    assert!((20..35).contains(&first), "{first}");
    assert_eq!(assert_in_order(&events, first), 40 - usize::try_from(first).unwrap());
}
