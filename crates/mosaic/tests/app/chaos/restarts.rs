//! Processes that are replaced while they are called.

use std::time::Duration;

use mosaic::Code;
use mosaic_stage::back::v1::BackClient;
use mosaic_testing::{Etcd, until};
use tokio::time::Instant;

use super::instance::{Fleet, Instance};
use super::load::{Account, Load};
use crate::stage::{Stage, act, stranger_at, traced};

const N_RESTARTS: usize = 50;

/// Replaces one of `instances` after the other; returns how long the slowest took to end.
async fn roll(fleet: &Fleet, module: &str, instances: &mut Vec<Instance>) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..N_RESTARTS {
        instances.push(fleet.start(module).await);
        slowest = slowest.max(instances.remove(0).terminate().await);
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_rolling_restarts_of_every_service_lose_no_call() {
    let Some(etcd) = Etcd::start().await else { return };
    let fleet = Fleet::new(&etcd.url());
    let mut fronts = vec![fleet.start("front").await];
    let mut backs = vec![fleet.start("back").await, fleet.start("back").await];
    let stage = Stage::new();
    let listed: Vec<_> = backs.iter().chain(&fronts).collect();
    let app = fleet.callers(&stage, &listed).await;
    let load = Load::begin(&app, 8);
    load.answers(200).await;
    let rolls = (roll(&fleet, "front", &mut fronts), roll(&fleet, "back", &mut backs));
    let slowest = tokio::join!(rolls.0, rolls.1);
    load.answers(200).await;
    let account = Account {
        ended: load.end().await,
        carried_out: fleet.carried_out(),
    };
    account.tell("2 x 50 rolling restarts");
    eprintln!("the slowest ends: {slowest:?}");
    account.check_effects();
    account.check_none_failed();
    assert!(slowest.0.max(slowest.1) < Duration::from_secs(10), "{slowest:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_process_at_once() {
    let fleet = Fleet::new("memory:");
    let back = fleet.start("back").await;
    let client: BackClient = stranger_at(back.grpc);
    let cx = traced().0;
    let call = client.act(&cx, act("wait", "stuck"));
    let end = async {
        let is_begun = || async { fleet.carried_out().contains_key("stuck") };
        until("the call is begun", Duration::from_secs(5), is_begun).await;
        let started = Instant::now();
        back.signal();
        let stops = || async { back.log().contains("stopping;") };
        until("it stops", Duration::from_secs(5), stops).await;
        back.signal();
        assert!(!back.ended().await, "it was cut, and says so");
        started.elapsed()
    };
    let (outcome, took) = tokio::join!(call, end);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(outcome.unwrap_err().code(), Code::Unavailable);
}
