//! Who calls finds whom it calls: in any order of start, while it is away, when it is back, beside one that is dead.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use mosaic::Code;
use mosaic_stage::back::v1::{ActRequest, BackClient, KeepRequest};
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::{Shape, TestApp, until};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::stage::{APART, Stage, act, traced};

const FRONT: Shape = Shape::Apart(&[&["edge", "front"]]);
const BACK: Shape = Shape::Apart(&[&["back"]]);

/// An address that nobody listens on, kept so that nobody else can.
fn reserved() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Starts a front that looks for its back at `addresses`.
async fn front_of(stage: &Stage, addresses: &[SocketAddr]) -> TestApp {
    let list: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    stage
        .builder(FRONT)
        .set("rpc.services.back", list.join(","))
        .start()
        .await
}

async fn back_at(stage: &Stage, address: SocketAddr) -> TestApp {
    stage.builder(BACK).set("grpc", address.to_string()).start().await
}

#[tokio::test]
async fn a_caller_is_installed_before_whom_it_calls_and_they_call_each_other() {
    for shape in [Shape::Together, Shape::Strict] {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let front: FrontClient = app.client("test");
        // Front, back, front, back, front, back.
        let request = ActRequest {
            hops: 2,
            ..act("", "order")
        };
        assert!(front.ask(&traced().0, request).await.is_ok(), "{shape:?}");
        assert_eq!(stage.witness.seen("order").n_done, 3, "{shape:?}");
        app.stop().await;
    }
}

#[tokio::test]
async fn two_processes_call_each_other_whichever_starts_first() {
    let stage = Stage::new();
    let ((front_socket, front_at), (back_socket, back_at)) = (reserved(), reserved());
    drop((front_socket, back_socket));
    let builder = |shape| {
        let builder = stage
            .builder(shape)
            .set("rpc.services.front", format!("http://{front_at}"));
        builder.set("rpc.services.back", format!("http://{back_at}"))
    };
    let front = builder(FRONT).set("grpc", front_at.to_string()).start().await;
    let back = builder(BACK).set("grpc", back_at.to_string()).start().await;
    let body = json!({"hops": 2, "mark": "each other"});
    assert_eq!(front.anonymous().post("/front/v1/ask", body).await.status, 200);
    assert_eq!(stage.witness.seen("each other").n_done, 3);
    front.stop().await;
    back.stop().await;
}

#[tokio::test]
async fn a_module_keeps_its_rows_in_a_database_of_its_own() {
    for shape in [Shape::Together, APART] {
        let app = Stage::new().start(shape).await;
        for n_kept in 1..=2 {
            let reply = app.anonymous().post("/back/v1/keep", json!({"text": "a"})).await;
            assert_eq!(reply.parts(), (200, json!({"nKept": n_kept})), "{shape:?}");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn who_is_called_may_come_later_go_and_come_back() {
    let stage = Stage::new();
    let (socket, address) = reserved();
    let front = front_of(&stage, &[address]).await;
    assert_eq!(
        front.admin("/readyz").await.status,
        200,
        "it is ready, whoever else is not"
    );
    let ask = async || front.anonymous().post("/front/v1/ask", json!({"mark": "later"})).await;
    let fails_at_once = async || {
        let started = tokio::time::Instant::now();
        let reply = ask().await;
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(
            started.elapsed() < Duration::from_millis(500),
            "{:?}",
            started.elapsed()
        );
    };
    for _ in 0..3 {
        fails_at_once().await;
    }
    drop(socket);
    for _ in 0..2 {
        let back = back_at(&stage, address).await;
        until("calls recover", Duration::from_secs(5), || async {
            ask().await.status == 200
        })
        .await;
        for _ in 0..10 {
            let reply = ask().await;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
        back.stop().await;
        fails_at_once().await;
        fails_at_once().await;
    }
    front.stop().await;
}

#[tokio::test]
async fn an_address_that_refuses_costs_no_call() {
    let stage = Stage::new();
    let backs = [stage.start(BACK).await, stage.start(BACK).await];
    let [first, second] = backs.each_ref().map(|back| back.processes()[0].addresses().grpc);
    let (_kept, dead) = reserved();
    let front = front_of(&stage, &[first, dead, second]).await;
    let client: BackClient = front.client("test");
    let cx = traced().0;
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..30 {
        let by = client.act(&cx, act("", "spread")).await.expect("not idempotent").by;
        *answers.entry(by).or_default() += 1;
        client.act_again(&cx, act("", "spread")).await.expect("idempotent");
        let items = client.watch(&cx, act("", "spread")).await.expect("streamed");
        assert_eq!(items.count().await, 0);
    }
    let at_once = (0..40).map(|_| async { client.act(&traced().0, act("", "spread")).await.expect("among many") });
    for reply in futures::future::join_all(at_once).await {
        *answers.entry(reply.by).or_default() += 1;
    }
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.values().all(|n_calls| *n_calls >= 10), "{answers:?}");
    // Each carried out once.
    assert_eq!(stage.witness.seen("spread").n_done, 130);
    for app in backs.into_iter().chain([front]) {
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_two_goes_no_call_fails() {
    for turn in 0..5 {
        let stage = Stage::new();
        let (stays, goes) = (stage.start(BACK).await, stage.start(BACK).await);
        let [first, second] = [&stays, &goes].map(|back| back.processes()[0].addresses().grpc);
        let front = front_of(&stage, &[first, second]).await;
        let client: BackClient = front.client("test");
        let is_gone = AtomicBool::new(false);
        let stop = async {
            stage.witness.until("busy", |seen| seen.n_done > 100).await;
            goes.stop().await;
            is_gone.store(true, Ordering::SeqCst);
        };
        let callers = (0..40).map(|_| async {
            let mut n_answered = 0;
            while !is_gone.load(Ordering::SeqCst) {
                let reply = client
                    .act(
                        &traced().0,
                        ActRequest {
                            ms: 1,
                            ..act("", "busy")
                        },
                    )
                    .await;
                reply.unwrap_or_else(|error| panic!("turn {turn}: {error:?}"));
                n_answered += 1;
            }
            n_answered
        });
        let (answered, ()) = tokio::join!(futures::future::join_all(callers), stop);
        assert_eq!(
            stage.witness.seen("busy").n_done,
            answered.iter().sum::<usize>(),
            "each once"
        );
        front.stop().await;
        stays.stop().await;
    }
}

#[tokio::test]
async fn a_service_that_nobody_serves_is_unavailable_with_its_name() {
    let front = Stage::new().start(FRONT).await;
    let error = front
        .client::<FrontClient>("test")
        .ask(&traced().0, act("", ""))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "SERVICE_UNKNOWN"));
    assert!(error.message().contains("back"), "{error:?}");
    let keep = KeepRequest::default();
    let error = front
        .client::<BackClient>("test")
        .keep(&traced().0, keep)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "SERVICE_UNKNOWN");
    front.stop().await;
}
