//! No work goes on after its deadline, or after the one who asked has gone.

use std::time::Duration;

use futures::StreamExt as _;
use mosaic::Code;
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::Shape;
use serde_json::json;
use tokio::time::Instant;

use crate::raw::Connection;
use crate::stage::{APART, Stage, act, stranger, traced};

const SHAPES: [Shape; 3] = [Shape::Together, Shape::Strict, APART];
/// What each hop keeps of its time, by default.
const RESERVE: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_deadline_shrinks_hop_by_hop() {
    let stage = Stage::new();
    let app = stage.start(APART).await;
    let last = async |cx: mosaic::Context, ms: u32| {
        let front: FrontClient = app.client("test");
        let request = ActRequest { ms, ..act("", "hop") };
        let reply = front.ask(&cx, request).await.unwrap();
        Duration::from_millis(reply.remaining_ms.into())
    };
    let left = last(traced().0.with_timeout(Duration::from_secs(3)), 0).await;
    assert!(
        (Duration::from_secs(2)..=Duration::from_secs(3)).contains(&left),
        "{left:?}"
    );
    // Nobody allows more than the contract.
    let left = last(traced().0.with_timeout(Duration::from_secs(3600)), 0).await;
    assert!(
        (Duration::from_secs(9)..=Duration::from_secs(10)).contains(&left),
        "{left:?}"
    );
    app.stop().await;
}

#[tokio::test]
async fn work_is_dropped_at_the_callers_deadline_wherever_it_is_done() {
    for shape in SHAPES {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let back = app.processes().len() - 1;
        for turn in 0..10 {
            let cx = traced().0.with_timeout(TIMEOUT);
            let started = Instant::now();
            let error = match turn % 3 {
                0 => app
                    .client::<FrontClient>("test")
                    .ask(&cx, act("wait", "late"))
                    .await
                    .unwrap_err(),
                1 => app
                    .client::<BackClient>("test")
                    .act(&cx, act("wait", "late"))
                    .await
                    .unwrap_err(),
                _ => stranger::<BackClient>(&app, back)
                    .act(&cx, act("wait", "late"))
                    .await
                    .unwrap_err(),
            };
            assert_eq!(
                error.code(),
                Code::DeadlineExceeded,
                "{shape:?} {turn}: {error:?} {}",
                error.cause_chain()
            );
            assert!(
                (TIMEOUT - 3 * RESERVE..3 * TIMEOUT).contains(&started.elapsed()),
                "{:?}",
                started.elapsed()
            );
        }
        stage.witness.until("late", |seen| seen.n_dropped == 10).await;
        app.stop().await;
    }
}

#[tokio::test]
async fn a_method_has_a_timeout_of_its_own() {
    for shape in SHAPES {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let started = Instant::now();
        let reply = app
            .anonymous()
            .post("/back/v1/soon", json!({"act": "wait", "mark": "soon"}))
            .await;
        assert_eq!(
            (reply.status, &reply.json()["reason"]),
            (504, &json!("DEADLINE_EXCEEDED")),
            "{}",
            reply.text
        );
        assert!(started.elapsed() < Duration::from_secs(2), "{shape:?}");
        let back: BackClient = stranger(&app, app.processes().len() - 1);
        let error = back.act_soon(&traced().0, act("wait", "soon")).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{shape:?}");
        stage.witness.until("soon", |seen| seen.n_dropped == 2).await;
        app.stop().await;
    }
}

#[tokio::test]
async fn a_foreign_server_that_gives_up_in_time_is_a_deadline_too() {
    // What a server on tonic answers when its own timer is the first.
    let status = mosaic::rpc::tonic::Status::from_error(Box::new(mosaic::rpc::tonic::TimeoutExpired(())));
    let error = mosaic::rpc::error_from_status(&status);
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_work() {
    for shape in SHAPES {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let mut reader = Connection::open(app.http()).await.unwrap();
        let body = json!({"act": "wait", "mark": "http gone"}).to_string();
        reader.send("POST", "/front/v1/ask", &body).await.unwrap();
        stage.witness.until("http gone", |seen| seen.n_begun == 1).await;
        drop(reader);
        stage.witness.until("http gone", |seen| seen.n_dropped == 1).await;

        let back: BackClient = stranger(&app, app.processes().len() - 1);
        let cx = traced().0;
        let call = tokio::time::timeout(Duration::from_millis(50), back.act(&cx, act("wait", "grpc gone")));
        assert!(call.await.is_err());
        stage.witness.until("grpc gone", |seen| seen.n_dropped == 1).await;

        let mut items = back.watch(&cx, act("wait", "stream gone")).await.unwrap();
        assert!(items.next().await.unwrap().is_ok());
        drop(items);
        stage.witness.until("stream gone", |seen| seen.n_dropped == 1).await;
        app.stop().await;
    }
}
