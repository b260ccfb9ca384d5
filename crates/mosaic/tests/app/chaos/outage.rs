//! The registry is away, and nobody who calls finds out.

use std::time::Duration;

use mosaic::Code;
use mosaic::config::{Raw, Value as _};
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::Etcd;
use tokio::time::Instant;

use super::instance::{Fleet, Instance};
use super::load::{Account, Load};
use crate::stage::{Stage, act, stranger_at, traced};

/// How long the registry is away: many times the life of a lease.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn outage() -> Duration {
    let text = std::env::var("MOSAIC_TEST_ETCD_OUTAGE").unwrap_or_else(|_| "20s".to_owned());
    Duration::parse(&Raw::Text(text)).unwrap()
}

/// One that starts while nobody can be asked is up, and says at once that it knows nobody.
async fn fails_fast(front: &Instance) {
    let client: FrontClient = stranger_at(front.grpc);
    for _ in 0..3 {
        let started = Instant::now();
        let error = client.ask(&traced().0, act("", "nobody")).await.unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::Unavailable, "SERVICE_UNKNOWN"),
            "{error:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_etcd_costs_no_call_and_everybody_is_back_within_ten_seconds() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let fleet = Fleet::new(&etcd.url());
    let mut instances = vec![
        fleet.start("front").await,
        fleet.start("back").await,
        fleet.start("back").await,
    ];
    let stage = Stage::new();
    let app = fleet.callers(&stage, &instances.iter().collect::<Vec<_>>()).await;
    let load = Load::begin(&app, 8);
    for (is_wiped, length) in [(false, outage()), (true, Duration::from_secs(4))] {
        load.answers(200).await;
        if is_wiped {
            etcd.wipe();
        } else {
            etcd.kill();
        }
        let is_over = tokio::time::sleep(length);
        let (front, back) = (fleet.start("front").await, fleet.start("back").await);
        fails_fast(&front).await;
        is_over.await;
        etcd.run().await;
        instances.extend([front, back]);
        let took = fleet.listed(&instances.iter().collect::<Vec<_>>()).await;
        eprintln!("etcd away for {length:?}, wiped: {is_wiped}; everybody listed after {took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        for newcomer in &instances[instances.len() - 2..] {
            if newcomer.name.starts_with("back") {
                load.hears(&newcomer.name).await;
            }
        }
    }
    let account = Account {
        ended: load.end().await,
        carried_out: fleet.carried_out(),
    };
    account.tell("two outages of etcd");
    account.check_effects();
    account.check_none_failed();
    assert!(!account.carried_out.contains_key("nobody"));
    app.stop().await;
}
