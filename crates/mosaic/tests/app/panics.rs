//! A handler that panics costs one request: the caller learns nothing, the operator everything, nobody else notices.

use std::time::Duration;

use futures::StreamExt as _;
use mosaic::Code;
use mosaic_stage::back::v1::BackClient;
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::{Shape, TestApp, until};
use serde_json::json;

use crate::raw::Connection;
use crate::stage::{APART, Stage, act, error_lines, stranger, traced};

const SHAPES: [Shape; 3] = [Shape::Together, Shape::Strict, APART];

/// Waits for the error line of a trace and asserts that it is one and holds `cause`.
async fn logged_once(trace_id: &str, cause: &str) {
    until("an error line", Duration::from_secs(5), || async {
        !error_lines(trace_id).is_empty()
    })
    .await;
    let lines = error_lines(trace_id);
    assert!(
        lines.len() == 1 && lines[0].contains(cause),
        "{lines:#?} {}",
        mosaic_testing::log()
            .lines()
            .filter(|l| l.contains("ERROR"))
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// Returns how many calls of `method` of the back the processes have counted as `code`.
async fn counted(app: &TestApp, method: &str, code: &str) -> u64 {
    let metrics = app.admin("/metrics").await.text;
    let (method, code) = (format!("method=\"{method}\""), format!("code=\"{code}\""));
    let line = metrics.lines().find(|line| {
        line.starts_with("mosaic_calls_total{")
            && line.contains("back.v1.Back")
            && line.contains("side=\"server\"")
            && line.contains(&method)
            && line.contains(&code)
    });
    line.map_or(0, |line| {
        let (_, count) = line.rsplit_once(' ').expect("a number at the end");
        count.parse().expect("a number")
    })
}

#[tokio::test]
async fn a_panic_behind_http_is_a_500_that_says_nothing() {
    for (shape, culprit) in SHAPES
        .into_iter()
        .flat_map(|shape| [(shape, "panic"), (shape, "panic in front")])
    {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let mut connection = Connection::open(app.http()).await.unwrap();
        let body = json!({"act": culprit, "mark": "http"}).to_string();
        let (status, head, text) = connection.ask("POST", "/front/v1/ask", &body).await.expect("an answer");
        assert_eq!(status, 500, "{shape:?}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert!(text.contains("internal error") && !text.contains("hidden"), "{text}");
        let (status, ..) = connection
            .ask("POST", "/front/v1/anybody", "{}")
            .await
            .expect("the same connection");
        assert_eq!(status, 200, "{shape:?}");
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "))
            .expect("a request id");
        logged_once(id, "panic: ").await;
        app.stop().await;
    }
}

#[tokio::test]
async fn a_panic_behind_grpc_is_internal_and_others_on_the_connection_live() {
    for shape in SHAPES {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let back: BackClient = stranger(&app, app.processes().len() - 1);
        let (cx, _) = traced();
        // A neighbour on the same connection, before and after.
        let mut neighbour = back.watch(&cx, act("wait", "neighbour")).await.unwrap();
        assert!(neighbour.next().await.unwrap().is_ok());
        let before = counted(&app, "Act", "INTERNAL").await;
        for road in ["stranger", "service"] {
            let (cx, id) = traced();
            let error = match road {
                "stranger" => back.act(&cx, act("panic", "grpc")).await.unwrap_err(),
                _ => app
                    .client::<FrontClient>("test")
                    .ask(&cx, act("panic", "grpc"))
                    .await
                    .unwrap_err(),
            };
            assert_eq!(
                (error.code(), error.message()),
                (Code::Internal, "internal error"),
                "{shape:?} {road}"
            );
            if road == "stranger" {
                logged_once(&id, "panic: hidden text of grpc").await;
            }
        }
        assert!(counted(&app, "Act", "INTERNAL").await >= before + 2, "{shape:?}");
        assert!(back.act(&cx, act("", "grpc")).await.is_ok());
        assert_eq!(stage.witness.seen("neighbour").n_dropped, 0);
        assert!(
            futures::FutureExt::now_or_never(neighbour.next()).is_none(),
            "it still waits"
        );
        drop(neighbour);
        app.stop().await;
    }
}

#[tokio::test]
async fn a_panic_within_a_stream_is_its_last_item() {
    for (shape, culprit) in SHAPES.into_iter().flat_map(|shape| [(shape, "panic"), (shape, "fail")]) {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let clients: [(&str, BackClient); 2] = [
            ("service", app.client("test")),
            ("stranger", stranger(&app, app.processes().len() - 1)),
        ];
        for (road, client) in clients {
            let (cx, id) = traced();
            let items = client.watch(&cx, act(culprit, "stream")).await.unwrap();
            let items: Vec<_> = items.collect().await;
            assert_eq!(items.len(), 2, "{shape:?} {culprit} {road}: {items:?}");
            let error = items[1].as_ref().unwrap_err();
            assert_eq!(
                (error.code(), error.message()),
                (Code::Internal, "internal error"),
                "{shape:?} {road}"
            );
            if road == "stranger" || shape == APART {
                logged_once(&id, "hidden text of stream").await;
            } else {
                assert!(
                    error.cause_chain().contains("hidden text of stream"),
                    "who asked may log it: {error:?}"
                );
            }
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn a_panic_within_server_sent_events_is_an_error_event() {
    for (shape, culprit) in SHAPES.into_iter().flat_map(|shape| [(shape, "panic"), (shape, "fail")]) {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let reply = app
            .anonymous()
            .get(&format!("/back/v1/watch?act={culprit}&mark=sse"))
            .await;
        assert_eq!(reply.status, 200);
        assert!(
            reply.text.contains("event: error") && reply.text.contains("internal error"),
            "{}",
            reply.text
        );
        assert!(!reply.text.contains("hidden"), "{}", reply.text);
        logged_once(reply.header("x-request-id"), "hidden text of sse").await;
        app.stop().await;
    }
}
