//! The life of the gRPC port and of its connections: lingering, draining, age, patience.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_testing::{Shape, TestApp, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::grpc::{Connection, framed};
use crate::stage::{Stage, act, stranger, traced};

const TELL: &str = "/front.v1.Front/Tell";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn grpc(app: &TestApp) -> SocketAddr {
    app.processes()[0].addresses().grpc
}

async fn is_answered(connection: &Connection) -> bool {
    let answer = connection.call(TELL, &[], &framed(&[])).await;
    answer.is_ok_and(|answer| answer.status == Some(0))
}

/// Waits until the other side has ended the connection; returns how long that took.
async fn until_ended(mut stream: TcpStream) -> Duration {
    let started = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_the_process_lingers_is_served() {
    let stage = Stage::new();
    let app = stage.builder(Shape::Together).set("rpc.linger", "1s").start().await;
    let address = grpc(&app);
    let before = Connection::open(address).await;
    assert!(is_answered(&before).await);
    let stop = async {
        let started = Instant::now();
        app.stop().await;
        started.elapsed()
    };
    let come = async {
        let started = Instant::now();
        let mut n_answered = 0;
        // What was open before is told to go.
        until("the connection from before is told", Duration::from_secs(1), || async {
            before.send.clone().ready().await.is_err()
        })
        .await;
        while started.elapsed() < Duration::from_millis(800) {
            let connection = Connection::open(address).await;
            for _ in 0..3 {
                assert!(is_answered(&connection).await, "after {:?}", started.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
                n_answered += 1;
            }
        }
        n_answered
    };
    let (took, n_answered) = tokio::join!(stop, come);
    // One round at least; how many there are is up to the machine.
    assert!(n_answered >= 3, "{n_answered}");
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    assert!(TcpStream::connect(address).await.is_err(), "the door is closed");
}

#[tokio::test]
async fn health_says_not_serving_while_the_process_lingers() {
    let stage = Stage::new();
    let app = stage.builder(Shape::Together).set("rpc.linger", "700ms").start().await;
    let address = grpc(&app);
    let health = async || {
        let connection = Connection::open(address).await;
        let request = framed(b"\x0a\x0efront.v1.Front");
        let answer = connection
            .call("/grpc.health.v1.Health/Check", &[], &request)
            .await
            .unwrap();
        // Field 1 of the answer: 1 is serving, 2 is not.
        *answer.body.last().unwrap()
    };
    assert_eq!(health().await, 1);
    let ask = async {
        until("not serving", Duration::from_millis(600), || async {
            health().await == 2
        })
        .await;
    };
    tokio::join!(app.stop(), ask);
}

#[tokio::test]
async fn without_lingering_the_door_closes_at_once() {
    let app = Stage::new().start(Shape::Together).await;
    let address = grpc(&app);
    let started = Instant::now();
    app.stop().await;
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn connections_that_rest_hold_no_drain_up_and_are_not_counted_as_cut() {
    let stage = Stage::new();
    let app = stage.builder(Shape::Together).set("drain_timeout", "8s").start().await;
    let address = grpc(&app);
    // One that says nothing, one that speaks but answers no ping, and one that is well.
    let silent = TcpStream::connect(address).await.unwrap();
    let mut asleep = TcpStream::connect(address).await.unwrap();
    asleep.write_all(PREFACE).await.unwrap();
    let mut settings = [0; 9];
    asleep.read_exact(&mut settings).await.unwrap();
    let well = Connection::open(address).await;
    assert!(is_answered(&well).await);
    let started = Instant::now();
    app.stop().await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let ends = tokio::join!(until_ended(silent), until_ended(asleep));
    assert!(ends.0 < Duration::from_secs(1) && ends.1 < Duration::from_secs(1));
}

#[tokio::test]
async fn a_call_that_hangs_is_cut_at_the_hard_deadline() {
    let stage = Stage::new();
    let app = stage
        .builder(Shape::Together)
        .set("drain_timeout", "2s")
        .set("rpc.linger", "300ms");
    let app = app.start().await;
    let back: BackClient = stranger(&app, 0);
    let cx = traced().0;
    let stop = async {
        stage.witness.until("hang", |seen| seen.n_begun == 1).await;
        let started = Instant::now();
        app.stop().await;
        started.elapsed()
    };
    let (outcome, took) = tokio::join!(back.act(&cx, act("wait", "hang")), stop);
    assert_eq!(outcome.unwrap_err().code(), mosaic::Code::Unavailable);
    assert!(
        (Duration::from_millis(1700)..Duration::from_millis(2800)).contains(&took),
        "{took:?}"
    );
    stage.witness.until("hang", |seen| seen.n_dropped == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_grow_old_under_load_and_no_call_is_lost() {
    let stage = Stage::new();
    let app = stage
        .builder(Shape::Together)
        .set("rpc.max_connection_age", "1100ms")
        .start()
        .await;
    let clients: Vec<BackClient> = (0..4).map(|_| stranger(&app, 0)).collect();
    let is_done = AtomicBool::new(false);
    let callers = (0..24).map(|caller| {
        let (client, is_done) = (&clients[caller % 4], &is_done);
        async move {
            while !is_done.load(Ordering::SeqCst) {
                let request = ActRequest {
                    ms: 3,
                    ..act("", "age")
                };
                client.act(&traced().0, request).await.expect("no call is lost");
            }
        }
    });
    let end = async {
        // Three ages: each connection is replaced twice at least.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        is_done.store(true, Ordering::SeqCst);
    };
    tokio::join!(futures::future::join_all(callers), end);
    let seen = stage.witness.seen("age");
    assert!(seen.n_dropped == 0 && seen.n_done > 1000, "{seen:?}");
    app.stop().await;
}

#[tokio::test]
async fn an_old_connection_whose_call_does_not_end_is_cut_after_its_grace() {
    let stage = Stage::new();
    let app = stage.builder(Shape::Together).set("rpc.max_connection_age", "300ms");
    let app = app.set("rpc.max_connection_age_grace", "700ms").start().await;
    let connection = Connection::open(grpc(&app)).await;
    let started = Instant::now();
    // `ActRequest.act = "wait"`, `mark = "old"`.
    let request = framed(b"\x0a\x04wait\x12\x03old");
    let outcome = connection.call("/back.v1.Back/Act", &[], &request).await;
    assert!(outcome.is_err(), "{outcome:?}");
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    stage.witness.until("old", |seen| seen.n_dropped == 1).await;
    app.stop().await;
}

#[tokio::test]
async fn who_says_nothing_or_half_a_preface_is_sent_away_after_five_seconds() {
    let app = Stage::new().start(Shape::Together).await;
    let address = grpc(&app);
    let silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&PREFACE[..10]).await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (silent, half, other) = tokio::join!(until_ended(silent), until_ended(half), until_ended(other));
    let five = Duration::from_millis(4800)..Duration::from_millis(6500);
    assert!(five.contains(&silent) && five.contains(&half), "{silent:?} {half:?}");
    assert!(other < Duration::from_millis(500), "HTTP/1 at once: {other:?}");
    app.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_place() {
    let stage = Stage::new();
    let app = stage
        .builder(Shape::Together)
        .set("rpc.max_connections", "2")
        .start()
        .await;
    let address = grpc(&app);
    let first = Connection::open(address).await;
    let second = Connection::open(address).await;
    assert!(is_answered(&first).await && is_answered(&second).await);
    let third = Connection::open(address).await;
    let early = tokio::time::timeout(Duration::from_millis(300), is_answered(&third)).await;
    assert!(early.is_err(), "there is no place yet");
    drop(first);
    assert!(is_answered(&third).await && is_answered(&second).await);
    app.stop().await;
}

#[tokio::test]
async fn a_request_that_stays_half_is_ended_by_its_deadline() {
    let app = Stage::new().start(Shape::Together).await;
    let connection = Connection::open(grpc(&app)).await;
    let request = http::Request::post("http://test/back.v1.Back/ActSoon").header("content-type", "application/grpc");
    let mut send = connection.send.clone().ready().await.unwrap();
    let (answer, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
    let started = Instant::now();
    let answer = crate::grpc::read(answer).await.unwrap();
    assert_eq!((answer.http.as_u16(), answer.status), (200, Some(4)), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    app.stop().await;
}
