//! The table of jobs, and writes that are fenced by a lease.

use std::time::Duration;

use mosaic_core::TaskGroup;
use mosaic_lease::{Acquired, Job, Leases as _, SqlLeases};
use tokio::sync::mpsc;

use crate::Bench;

pub(crate) async fn a_write_is_fenced(bench: &Bench) {
    let database = bench.database.as_ref().unwrap();
    let leases = SqlLeases::with_clock(database, bench.clock.clone().unwrap());
    let Acquired::Ours(lease) = leases.acquire("writer", "a", bench.ttl()).await.unwrap() else {
        panic!("nobody else is here");
    };
    let write = async |lease: &mosaic_lease::Lease| {
        let lease = lease.clone();
        database
            .transaction(async |tx| leases.check_in(&tx, &lease).await)
            .await
    };
    write(&lease).await.unwrap();
    bench.pass(20).await;
    write(&lease).await.unwrap();
    let Acquired::Ours(next) = leases.acquire("writer", "b", bench.ttl()).await.unwrap() else {
        panic!("the first has run out");
    };
    assert_eq!(write(&lease).await.unwrap_err().reason(), "LEASE_LOST");
    write(&next).await.unwrap();
}

pub(crate) async fn abandoned_rows_are_taken_over(bench: &Bench) {
    let (jobs, ttl) = (bench.jobs(), bench.ttl());
    assert!(jobs.add("feed", b"all of it").await.unwrap());
    assert!(!jobs.add("feed", b"something else").await.unwrap());
    assert_eq!(
        jobs.add("big", &[0; 70_000]).await.unwrap_err().reason(),
        "JOB_TOO_LARGE"
    );
    let first = jobs.take("a", ttl, Duration::ZERO, 10).await.unwrap();
    assert_eq!(
        (first.len(), &*first[0].payload, &*first[0].progress),
        (1, &b"all of it"[..], &b""[..])
    );
    let save = async |job: &Job, progress: &'static [u8]| {
        let database = bench.database.as_ref().unwrap();
        database
            .transaction(async |tx| jobs.save_in(&tx, job, progress).await)
            .await
    };
    save(&first[0], b"half").await.unwrap();
    bench.pass(9).await;
    assert!(jobs.renew(&first[0], ttl).await.unwrap());
    bench.pass(9).await;
    assert_eq!(
        jobs.take("b", ttl, Duration::ZERO, 10).await.unwrap(),
        [],
        "it is being renewed"
    );
    assert_eq!(jobs.list().await.unwrap(), [("feed".to_owned(), "a".to_owned())]);
    bench.pass(2).await;
    assert_eq!(
        jobs.take("b", ttl, ttl, 10).await.unwrap(),
        [],
        "not free for long enough"
    );
    let second = jobs.take("b", ttl, Duration::ZERO, 10).await.unwrap();
    assert_eq!(
        (&*second[0].progress, second[0].fence),
        (&b"half"[..], first[0].fence + 1)
    );
    assert_eq!(save(&first[0], b"lost").await.unwrap_err().reason(), "JOB_LOST");
    assert!(!jobs.renew(&first[0], ttl).await.unwrap());
    jobs.release(&first[0]).await.unwrap();
    save(&second[0], b"whole").await.unwrap();
    jobs.release(&second[0]).await.unwrap();
    let third = jobs.take("c", ttl, Duration::ZERO, 10).await.unwrap();
    assert_eq!((third.len(), &*third[0].progress), (1, &b"whole"[..]));
    jobs.remove("feed").await.unwrap();
    assert!(!jobs.renew(&third[0], ttl).await.unwrap());
    assert_eq!(jobs.list().await.unwrap(), []);
}

pub(crate) async fn two_never_take_the_same(bench: &Bench) {
    let jobs = bench.jobs();
    for i in 0..30 {
        jobs.add(&format!("job{i:02}"), b"").await.unwrap();
    }
    let group = TaskGroup::new(|panic| panic!("{panic:?}"));
    let (taken, mut all) = mpsc::unbounded_channel();
    for node in 0..6 {
        let (jobs, taken, ttl) = (jobs.clone(), taken.clone(), bench.ttl());
        group.spawn("taker", async move {
            for _ in 0..5 {
                for job in jobs.take(&format!("node{node}"), ttl, Duration::ZERO, 3).await.unwrap() {
                    taken.send(job.name).unwrap();
                }
            }
        });
    }
    drop(taken);
    let mut names = Vec::new();
    while let Some(name) = all.recv().await {
        names.push(name);
    }
    let n_taken = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), n_taken), (30, 30));
}
