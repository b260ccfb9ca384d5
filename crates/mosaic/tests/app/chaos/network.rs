//! A network that refuses, swallows, cuts, drips and delays.

use std::net::SocketAddr;
use std::time::Duration;

use mosaic::{Code, Error};
use mosaic_stage::back::v1::BackClient;
use mosaic_testing::{ChaosProxy, Network, Shape, TestApp, until};
use tokio::time::Instant;

use super::load::{Account, Kind, Load};
use crate::stage::{Stage, act, traced};

const TIMEOUT: Duration = Duration::from_millis(500);
const BACK: Shape = Shape::Apart(&[&["back"]]);

/// Starts callers who know the back at `addresses`.
async fn callers(stage: &Stage, addresses: &[SocketAddr]) -> TestApp {
    let list: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    let builder = stage.builder(Shape::Apart(&[&["edge"]]));
    let builder = builder.set("rpc.services.back", list.join(","));
    // While one is new the other is called whatever it costs.
    builder.set("rpc.slow_start", "0").start().await
}

/// Calls once; returns how it ended and how long that took.
async fn call(client: &BackClient, mark: &str) -> (Result<(), Error>, Duration) {
    let started = Instant::now();
    let outcome = client.act_again(&traced().0.with_timeout(TIMEOUT), act("", mark)).await;
    (outcome.map(drop), started.elapsed())
}

/// Calls while the network is broken: every call ends in time, and soon without having waited for anybody.
async fn see_it_break(client: &BackClient, network: Network) {
    let (mut n_fast, mut reasons) = (0, std::collections::BTreeMap::<String, usize>::new());
    // With a black hole it takes the breaker some calls to open.
    for n in 0.. {
        let (outcome, took) = call(client, "broken").await;
        assert!(took < TIMEOUT + Duration::from_millis(200), "{network:?}: {took:?}");
        let Err(error) = outcome else {
            // Let through before the connection was found out.
            assert!(n < 5, "{network:?}: call {n} succeeds");
            continue;
        };
        assert!(
            matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded),
            "{network:?}: {error:?} {}",
            error.cause_chain()
        );
        *reasons.entry(error.reason().to_owned()).or_default() += 1;
        n_fast += usize::from(took < Duration::from_millis(100));
        if n_fast >= 10 {
            break;
        }
        assert!(n < 200, "{network:?}: only {n_fast} calls fail at once: {reasons:?}");
    }
    eprintln!("{network:?}: {reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_network_fails_calls_in_time_and_is_forgotten_within_two_seconds() {
    for network in [
        Network::Refuse,
        Network::BlackHole,
        Network::ResetAnswers,
        Network::Drip,
        Network::Delay(Duration::from_secs(3)),
    ] {
        let stage = Stage::new();
        let back = stage.start(BACK).await;
        let proxy = ChaosProxy::to(back.processes()[0].addresses().grpc);
        let app = callers(&stage, &[proxy.address()]).await;
        let client: BackClient = app.client("test");
        for _ in 0..20 {
            assert!(call(&client, "well").await.0.is_ok(), "{network:?}");
        }
        proxy.set(network);
        see_it_break(&client, network).await;
        proxy.set(Network::Pass);
        let repaired = Instant::now();
        until("calls succeed", Duration::from_secs(10), || async {
            call(&client, "repaired").await.0.is_ok()
        })
        .await;
        let took = repaired.elapsed();
        eprintln!(
            "{network:?}: first success after {took:?}, {} connections",
            proxy.n_connections()
        );
        assert!(took < Duration::from_secs(2), "{network:?}: {took:?}");
        app.stop().await;
        back.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_behind_a_black_hole_costs_the_other_no_call() {
    for network in [
        Network::BlackHole,
        Network::ResetAnswers,
        Network::Refuse,
        Network::Drip,
    ] {
        let stage = Stage::new();
        let (far, near) = (stage.start(BACK).await, stage.start(BACK).await);
        let [far_at, near_at] = [&far, &near].map(|back| back.processes()[0].addresses().grpc);
        let proxy = ChaosProxy::to(far_at);
        let app = callers(&stage, &[proxy.address(), near_at]).await;
        let load = Load::of_kinds(&app, 8, &[Kind::Again]);
        load.answers(200).await;
        proxy.set(network);
        let broken = Instant::now();
        // The kernel would wait for a quarter of an hour.
        load.turn(Duration::from_secs(20)).await;
        let found_out = broken.elapsed();
        load.answers(200).await;
        proxy.set(Network::Pass);
        load.answers(200).await;
        let account = Account {
            ended: load.end().await,
            carried_out: std::collections::HashMap::new(),
        };
        account.tell(&format!("one of two behind {network:?}, found out after {found_out:?}"));
        account.check_none_failed();
        assert!(
            account.slowest() < Duration::from_secs(9),
            "{network:?}: {:?}",
            account.slowest()
        );
        assert!(
            account.longest_silence() < Duration::from_secs(1),
            "{network:?}: {:?}",
            account.longest_silence()
        );
        app.stop().await;
        near.stop().await;
        far.stop().await;
    }
}
