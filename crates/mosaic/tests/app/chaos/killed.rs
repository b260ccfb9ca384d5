//! Processes that die in the middle of calls.

use std::time::Duration;

use mosaic_testing::Etcd;

use super::instance::Fleet;
use super::load::{Account, Kind, Load};
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_dies_and_what_may_be_repeated_succeeds() {
    let Some(etcd) = Etcd::start().await else { return };
    let fleet = Fleet::new(&etcd.url());
    let front = fleet.start("front").await;
    let mut backs = vec![
        fleet.start("back").await,
        fleet.start("back").await,
        fleet.start("back").await,
    ];
    let stage = Stage::new();
    let listed: Vec<_> = backs.iter().chain([&front]).collect();
    let app = fleet.callers(&stage, &listed).await;
    let load = Load::begin(&app, 16);
    load.answers(500).await;
    for _ in 0..10 {
        backs.remove(0).kill().await;
        load.answers(100).await;
        let back = fleet.start("back").await;
        load.hears(&back.name).await;
        backs.push(back);
    }
    let account = Account {
        ended: load.end().await,
        carried_out: fleet.carried_out(),
    };
    account.tell("10 kills of one of three");
    account.check_effects();
    account.check_no_idempotent_failed();
    assert!(
        account.longest_silence() < Duration::from_secs(1),
        "{:?}",
        account.longest_silence()
    );
    // Of each death at most what was in flight there.
    assert!(account.failed().len() <= 10 * 16, "{} failed", account.failed().len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_died_and_is_back_at_its_address_takes_over_from_the_last_one_at_once() {
    let Some(etcd) = Etcd::start().await else { return };
    let fleet = Fleet::new(&etcd.url());
    let mut backs = vec![fleet.start("back").await, fleet.start("back").await];
    let stage = Stage::new();
    let app = fleet.callers(&stage, &backs.iter().collect::<Vec<_>>()).await;
    let load = Load::of_kinds(&app, 8, &[Kind::Again]);
    for _ in 0..5 {
        load.answers(200).await;
        let dead = backs.remove(0);
        let address = dead.grpc;
        dead.kill().await;
        load.answers(400).await;
        backs.push(fleet.start_at("back", address).await);
        // Nobody has called the new one yet.
        let last = backs.remove(0);
        let address = last.grpc;
        last.terminate().await;
        load.answers(200).await;
        backs.push(fleet.start_at("back", address).await);
        fleet.listed(&backs.iter().collect::<Vec<_>>()).await;
    }
    let account = Account {
        ended: load.end().await,
        carried_out: fleet.carried_out(),
    };
    account.tell("5 deaths and returns at the same address");
    account.check_none_failed();
    app.stop().await;
}
