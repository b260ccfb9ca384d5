//! What every engine of leases does.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::TaskGroup;
use mosaic_lease::{Acquired, Lease, NodeLoad};
use tokio::sync::mpsc;

use crate::Bench;

async fn take(bench: &Bench, name: &str, holder: &str) -> Option<Lease> {
    match bench.leases.acquire(name, holder, bench.ttl()).await.unwrap() {
        Acquired::Ours(lease) => Some(lease),
        Acquired::Theirs(_) => None,
    }
}

pub(crate) async fn one_of_many_gets_it(bench: &Bench) {
    let name = bench.name("race");
    let group = TaskGroup::new(|panic| panic!("{panic:?}"));
    for round in 1..=5_i64 {
        let (won, mut all) = mpsc::unbounded_channel();
        for i in 0..20 {
            let (leases, name, won, ttl) = (
                Arc::clone(&bench.leases),
                name.clone(),
                won.clone(),
                Duration::from_secs(60),
            );
            group.spawn("racer", async move {
                won.send(leases.acquire(&name, &format!("node{i}"), ttl).await.unwrap())
                    .unwrap();
            });
        }
        drop(won);
        let mut ours = Vec::new();
        while let Some(answer) = all.recv().await {
            match answer {
                Acquired::Ours(lease) => ours.push(lease),
                Acquired::Theirs(holder) => assert_eq!(holder.fence, round),
            }
        }
        assert_eq!(ours.iter().map(|lease| lease.fence).collect::<Vec<_>>(), [round]);
        bench.leases.release(&ours[0]).await.unwrap();
        assert_eq!(bench.leases.holder(&name).await.unwrap(), None);
    }
}

pub(crate) async fn numbers_rise_for_ever(bench: &Bench) {
    let name = bench.name("rise");
    let first = take(bench, &name, "a").await.unwrap();
    let held = bench.leases.holder(&name).await.unwrap().unwrap();
    assert_eq!((held.holder.as_str(), held.fence), ("a", first.fence));
    assert!(held.remaining <= bench.ttl() && held.remaining > bench.ttl() / 2);
    assert_eq!(
        take(bench, &name, "a").await,
        None,
        "a lease is not shared, not even with oneself"
    );
    bench.pass(11).await;
    let second = take(bench, &name, "b").await.unwrap();
    assert_eq!(second.fence, first.fence + 1);
    bench.leases.release(&first).await.unwrap();
    assert!(
        bench.leases.holder(&name).await.unwrap().is_some(),
        "an old holder releases nothing"
    );
    bench.leases.release(&second).await.unwrap();
    bench.pass(30).await;
    assert_eq!(take(bench, &name, "c").await.unwrap().fence, first.fence + 2);
}

pub(crate) async fn who_is_late_has_lost(bench: &Bench) {
    let name = bench.name("late");
    let lease = take(bench, &name, "a").await.unwrap();
    for _ in 0..3 {
        bench.pass(5).await;
        assert!(bench.leases.renew(&lease, bench.ttl()).await.unwrap());
        // A second time within the same instant changes nothing and is no loss.
        assert!(bench.leases.renew(&lease, bench.ttl()).await.unwrap());
    }
    bench.pass(11).await;
    assert!(
        !bench.leases.renew(&lease, bench.ttl()).await.unwrap(),
        "too late, though nobody took it"
    );
    let next = take(bench, &name, "b").await.unwrap();
    assert!(!bench.leases.renew(&lease, bench.ttl()).await.unwrap());
    assert!(bench.leases.renew(&next, bench.ttl()).await.unwrap());
}

pub(crate) async fn names_are_checked(bench: &Bench) {
    for (name, holder) in [
        ("", "a"),
        ("n", ""),
        ("a\nb", "a"),
        (&"x".repeat(121), "a"),
        ("n", &"x".repeat(121)),
    ] {
        let refused = bench.leases.acquire(name, holder, bench.ttl()).await.unwrap_err();
        assert_eq!(refused.reason(), "LEASE_NAME_INVALID");
    }
    let name = bench.name("quoted'\" %{x}");
    assert!(take(bench, &name, "it's me").await.is_some());
}

pub(crate) async fn loads_are_forgotten(bench: &Bench) {
    let group = bench.name("board");
    let report = async |node: &str, load| {
        let node = node.to_owned();
        bench
            .leases
            .report(&group, &NodeLoad { node, load }, bench.ttl())
            .await
            .unwrap();
    };
    report("b", 0.25).await;
    report("a", 1.5).await;
    bench.pass(6).await;
    report("b", 0.5).await;
    report("c", f64::NAN).await;
    let seen = async || -> Vec<(String, f64)> {
        let reports = bench.leases.reports(&group).await.unwrap();
        reports.into_iter().map(|report| (report.node, report.load)).collect()
    };
    let of = |node: &str, load| (node.to_owned(), load);
    assert_eq!(seen().await, [of("a", 1.5), of("b", 0.5), of("c", 1000.0)]);
    bench.pass(5).await;
    assert_eq!(seen().await, [of("b", 0.5), of("c", 1000.0)]);
    assert_eq!(bench.leases.reports(&bench.name("other")).await.unwrap(), []);
}
