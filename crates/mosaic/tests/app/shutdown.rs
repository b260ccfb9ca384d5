//! A process that is told to stop: what was accepted is answered, streams say goodbye, tasks end or are cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use mosaic::Code;
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_testing::Shape;
use serde_json::json;
use tokio::time::Instant;

use crate::raw::Connection;
use crate::stage::{APART, Stage, act, stranger, traced};

/// Calls on one connection after another until a new one is refused; returns how many were answered.
///
/// # Panics
/// If a request that was sent has no answer.
async fn call_until_refused(address: SocketAddr, is_stopping: Arc<AtomicBool>) -> usize {
    let body = json!({"mark": "load", "ms": 5}).to_string();
    let mut n_answered = 0;
    while let Ok(mut connection) = Connection::open(address).await {
        for n_before in 0.. {
            let answer = connection.ask("POST", "/front/v1/ask", &body).await;
            let Some((status, head, text)) = answer else {
                // Let in by the kernel while the socket closed, and not by us.
                assert!(
                    n_before == 0 && is_stopping.load(Ordering::SeqCst),
                    "no answer after {n_before}"
                );
                return n_answered;
            };
            assert_eq!(status, 200, "{text}");
            n_answered += 1;
            if head.contains("connection: close") {
                assert!(is_stopping.load(Ordering::SeqCst), "nobody stops yet");
                break;
            }
        }
    }
    n_answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_request_fails_over_http() {
    for turn in 0..5 {
        let stage = Stage::new();
        let app = stage.start(Shape::Together).await;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let http = app.http();
        let callers = (0..50).map(|_| call_until_refused(http, is_stopping.clone()));
        let witness = stage.witness.clone();
        let stop = async {
            witness.until("load", |seen| seen.n_done > 200).await;
            is_stopping.store(true, Ordering::SeqCst);
            let started = Instant::now();
            app.stop().await;
            started.elapsed()
        };
        let (answered, took) = tokio::join!(join_all(callers), stop);
        let n_answered: usize = answered.iter().sum();
        assert_eq!(stage.witness.seen("load").n_done, n_answered, "turn {turn}");
        assert!(took < Duration::from_secs(4), "turn {turn}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_call_fails_over_grpc() {
    for turn in 0..5 {
        let stage = Stage::new();
        let app = stage.start(Shape::Together).await;
        let is_stopping = Arc::new(AtomicBool::new(false));
        // Connections that are shared by ten callers each.
        let clients: Vec<BackClient> = (0..5).map(|_| stranger(&app, 0)).collect();
        let callers = (0..50).map(|caller| {
            let (client, is_stopping) = (clients[caller % 5].clone(), is_stopping.clone());
            async move {
                for n_answered in 0_usize.. {
                    match client
                        .act(
                            &traced().0,
                            ActRequest {
                                ms: 5,
                                ..act("", "load")
                            },
                        )
                        .await
                    {
                        Ok(_) => {}
                        Err(error) => {
                            assert!(is_stopping.load(Ordering::SeqCst), "{error:?}");
                            // Refused; or let in by the kernel while the socket closed, and not by us.
                            assert_eq!(error.code(), Code::Unavailable, "turn {turn}: {error:?}");
                            return n_answered;
                        }
                    }
                }
                0
            }
        });
        let witness = stage.witness.clone();
        let stop = async {
            witness.until("load", |seen| seen.n_done > 200).await;
            is_stopping.store(true, Ordering::SeqCst);
            let started = Instant::now();
            app.stop().await;
            started.elapsed()
        };
        let (answered, took) = tokio::join!(join_all(callers), stop);
        let seen = stage.witness.seen("load");
        // Whatever was begun was answered.
        assert_eq!(
            (seen.n_done, seen.n_dropped),
            (answered.iter().sum::<usize>(), 0),
            "turn {turn}"
        );
        assert!(took < Duration::from_secs(4), "turn {turn}: {took:?}");
    }
}

#[tokio::test]
async fn tasks_are_told_and_awaited_and_a_deaf_one_is_cut() {
    let stage = Stage::new();
    let app = stage
        .builder(Shape::Together)
        .set("run", "edge,front,back,deaf")
        .set("drain_timeout", "2s");
    let app = app.start().await;
    let started = Instant::now();
    app.stop().await;
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(500)..Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
    let [willing, deaf] = ["willing", "deaf"].map(|mark| stage.witness.seen(mark));
    assert_eq!((willing.n_done, willing.n_dropped), (1, 0));
    assert_eq!((deaf.n_done, deaf.n_dropped), (0, 1));
}

#[tokio::test]
async fn work_that_does_not_end_is_cut_at_the_drain_timeout() {
    let stage = Stage::new();
    let app = stage.builder(Shape::Together).set("drain_timeout", "2s").start().await;
    let back: BackClient = stranger(&app, 0);
    let cx = traced().0;
    let mut reader = Connection::open(app.http()).await.unwrap();
    reader
        .send(
            "POST",
            "/front/v1/ask",
            &json!({"act": "wait", "mark": "stuck"}).to_string(),
        )
        .await
        .unwrap();
    let stop = async {
        stage.witness.until("stuck", |seen| seen.n_begun == 2).await;
        let started = Instant::now();
        app.stop().await;
        started.elapsed()
    };
    let call = async {
        let outcome = back.act(&cx, act("wait", "stuck")).await;
        // Told when the process ends, not at the deadline of the method.
        assert_eq!(outcome.unwrap_err().code(), Code::Unavailable);
    };
    let ((), took) = tokio::join!(call, stop);
    assert!(
        (Duration::from_secs(1)..Duration::from_millis(2500)).contains(&took),
        "{took:?}"
    );
    stage.witness.until("stuck", |seen| seen.n_dropped == 2).await;
}

#[tokio::test]
async fn streams_say_that_the_process_goes_away() {
    for shape in [Shape::Together, Shape::Strict, APART] {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let back: BackClient = stranger(&app, app.processes().len() - 1);
        let mut items = back.watch(&traced().0, act("wait", "goodbye")).await.unwrap();
        assert!(items.next().await.unwrap().is_ok());
        let mut events = Connection::open(app.http()).await.unwrap();
        events
            .send("GET", "/back/v1/watch?act=wait&mark=goodbye", "")
            .await
            .unwrap();
        assert!(events.read_until("\"count\":0").await.is_some());
        let stop = async {
            let started = Instant::now();
            app.stop().await;
            started.elapsed()
        };
        let (last, rest, took) = tokio::join!(items.next(), events.rest(), stop);
        let error = last.expect("one more item").unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::Unavailable, "GOING_AWAY"),
            "{shape:?}"
        );
        assert!(
            rest.contains("event: error") && rest.contains("GOING_AWAY"),
            "{shape:?}: {rest}"
        );
        assert!(rest.ends_with("0\r\n\r\n"), "the answer is whole: {rest}");
        assert!(took < Duration::from_secs(3), "{shape:?}: {took:?}");
        stage.witness.until("goodbye", |seen| seen.n_dropped == 2).await;
    }
}
