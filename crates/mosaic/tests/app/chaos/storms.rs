//! Trouble that must not become more trouble: failures that are repeated, work that nobody waits for.

use std::time::Duration;

use futures::future::join_all;
use mosaic::Runtime;
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::{ChaosProxy, Network, Shape, until};
use tokio::time::Instant;

use crate::stage::{Stage, act, stranger_at, traced};

const LAYERS: Shape = Shape::Apart(&[&["edge"], &["front"], &["back"]]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_layers_add_a_fifth_to_what_fails_and_not_the_square_of_it() {
    let stage = Stage::new();
    // With a breaker there is next to nothing to repeat.
    let app = stage.builder(LAYERS).set("guard.breaker", "off").start().await;
    let began = Instant::now();
    let callers = (0..16).map(|_| async {
        let front: FrontClient = app.client("load");
        let mut n_calls = 0;
        // Many, as what may be saved up would hide too much of few.
        while n_calls < 250 {
            assert!(front.ask_again(&traced().0, act("refuse", "storm")).await.is_err());
            n_calls += 1;
        }
        n_calls
    });
    let n_calls: usize = join_all(callers).await.into_iter().sum();
    let n_begun = stage.witness.seen("storm").n_begun;
    // The floor of a budget may be saved up for ten seconds.
    let n_free = 10 * (began.elapsed().as_secs() as usize + 1) + 100;
    eprintln!("{n_calls} calls that fail, carried out {n_begun} times");
    assert!(
        n_begun <= n_calls * 12 / 10 + n_free,
        "{n_calls} calls were carried out {n_begun} times"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_on_after_a_deadline_of_fifty_milliseconds() {
    const N_CALLS: usize = 200;
    let stage = Stage::new();
    let app = stage.start(LAYERS).await;
    let front: FrontClient = app.client("load");
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    for n in 0..N_CALLS {
        let ms = (seed.wrapping_mul(n as u64 * 2 + 1) >> 33) as u32 % 60;
        let mark = format!("late-{n}");
        // Front, back, front, back; each back takes its time.
        let request = ActRequest {
            ms,
            hops: 1,
            ..act("", &mark)
        };
        let cx = traced().0.with_timeout(Duration::from_millis(50));
        let started = Instant::now();
        let _ = front.ask(&cx, request).await;
        let over = started + Duration::from_millis(50);
        let is_over = || async {
            let seen = stage.witness.seen(&mark);
            seen.n_begun == seen.n_done + seen.n_dropped
        };
        until("no work is left", Duration::from_secs(5), is_over).await;
        let late = over.elapsed();
        assert!(
            late < Duration::from_millis(100),
            "call {n} of {ms} ms runs {late:?} too long"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_ends_in_time_though_nobody_can_tell_that_it_is_over() {
    let stage = Stage::new();
    let app = stage.start(Shape::Apart(&[&["back"]])).await;
    let proxy = ChaosProxy::to(app.processes()[0].addresses().grpc);
    let back: BackClient = stranger_at(proxy.address());
    let cx = traced().0.with_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let call = back.act(&cx, act("wait", "cut off"));
    let cut = async {
        stage.witness.until("cut off", |seen| seen.n_begun == 1).await;
        // The caller's "never mind" does not arrive.
        proxy.set(Network::BlackHole);
        stage.witness.until("cut off", |seen| seen.n_dropped == 1).await;
        began.elapsed()
    };
    let (outcome, took) = tokio::join!(call, cut);
    assert!(outcome.is_err());
    assert!(took < Duration::from_millis(400), "{took:?}");
    app.stop().await;
}
