//! HTTP/1.1 byte by byte: what two readers could understand differently, and who takes without giving.

use std::time::Duration;

use mosaic_testing::{Shape, TestApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{platform, start};

/// Sends bytes and returns everything that comes back until the server closes, or nothing more comes for a while.
async fn exchange(app: &TestApp, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.http()).await.unwrap();
    // A server that refuses early may close while we write.
    let _ = stream.write_all(bytes).await;
    read_all(&mut stream, Duration::from_millis(400)).await
}

async fn read_all(stream: &mut TcpStream, patience: Duration) -> String {
    let mut answer = Vec::new();
    let mut buffer = vec![0; 65_536];
    while let Ok(Ok(n_bytes)) = tokio::time::timeout(patience, stream.read(&mut buffer)).await {
        if n_bytes == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n_bytes]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or(0)
}

fn n_answers(answer: &str) -> usize {
    answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smuggled_request_is_not_run() {
    let app = start(Shape::Together).await;
    let smuggled = "GET /dev/outbox HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = format!(
        "POST /users/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}",
        smuggled.len() + 12
    );
    let answer = exchange(&app, both.as_bytes()).await;
    assert!(n_answers(&answer) == 1 && !answer.contains("[]"), "{answer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_heads_are_400() {
    let app = start(Shape::Together).await;
    let head =
        |lines: &str| format!("POST /users/login HTTP/1.1\r\nContent-Type: application/json\r\n{lines}\r\n\r\n{{}}");
    let bad = [
        ("two lengths", head("Host: x\r\nContent-Length: 2\r\nContent-Length: 3")),
        (
            "two equal lengths",
            head("Host: x\r\nContent-Length: 2\r\nContent-Length: 2"),
        ),
        ("signed length", head("Host: x\r\nContent-Length: +2")),
        ("unknown coding", head("Host: x\r\nTransfer-Encoding: xchunked")),
        (
            "chunked not last",
            head("Host: x\r\nTransfer-Encoding: chunked, identity"),
        ),
        ("space before colon", head("Host: x\r\nContent-Length : 2")),
        ("folded line", head("Host: x\r\nX-A: b\r\n c\r\nContent-Length: 2")),
        ("NUL in a value", head("Host: x\r\nX-A: b\0c\r\nContent-Length: 2")),
        ("no host", head("Content-Length: 2")),
        ("two hosts", head("Host: x\r\nHost: y\r\nContent-Length: 2")),
        (
            "space in the target",
            "GET /users/pro file HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        ),
        (
            "backslash in the target",
            "GET /users\\profile HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        ),
        (
            "dots in the target",
            "GET /users/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        ),
        (
            "no UTF-8 in the target",
            "GET /users/%ff HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        ),
    ];
    for (what, bytes) in bad {
        let answer = exchange(&app, bytes.as_bytes()).await;
        assert!(matches!(status(&answer), 400 | 404), "{what}: {answer}");
        assert_eq!(n_answers(&answer), 1, "{what}: {answer}");
    }
    let mut extension = b"POST /users/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;".to_vec();
    extension.extend(vec![b'a'; 1 << 20]);
    let answer = exchange(&app, &extension).await;
    assert!(matches!(status(&answer), 400 | 413 | 415 | 0), "{answer}");
    let many = (0..101).map(|i| format!("x-{i}: 1\r\n")).collect::<String>();
    let answer = exchange(&app, format!("GET /docs HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(status(&answer), 431);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_targets_and_line_ends() {
    let app = start(Shape::Together).await;
    let first = async |request: &str| status(&exchange(&app, request.as_bytes()).await);
    assert_eq!(
        first("GET /identity/v1/jwks.json HTTP/1.1\nHost: x\n\n").await,
        200,
        "bare line feeds, re-framed by us"
    );
    let absolute = "GET http://other.test/identity/v1/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(first(absolute).await, 200, "routed by its target");
    assert!(matches!(
        first("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await,
        400 | 404 | 405 | 200
    ));
    assert!(matches!(
        first("CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n").await,
        400 | 404 | 405
    ));
    assert_eq!(first("TRACE /users/login HTTP/1.1\r\nHost: x\r\n\r\n").await, 405);
    assert_eq!(
        first("GET /users/../identity/v1/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n").await,
        404
    );
    app.stop().await;
}

/// A platform that loses patience soon.
async fn impatient() -> TestApp {
    let app = platform(Shape::Together)
        .set("edge.first_byte_timeout", "300ms")
        .set("edge.header_timeout", "300ms");
    app.set("edge.body_timeout", "300ms")
        .set("edge.idle_timeout", "600ms")
        .start()
        .await
}

/// Returns after how long the server closes the connection.
async fn closed_after(app: &TestApp, stream: &mut TcpStream) -> Duration {
    let started = app.runtime().instant();
    let mut buffer = vec![0; 65_536];
    let closed = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("the server closes");
    app.runtime().instant() - started
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_are_slow_are_cut_and_others_are_served() {
    let app = impatient().await;
    let silent = async {
        let mut stream = TcpStream::connect(app.http()).await.unwrap();
        closed_after(&app, &mut stream).await
    };
    let half_head = async {
        let mut stream = TcpStream::connect(app.http()).await.unwrap();
        stream.write_all(b"GET /docs HTTP/1.1\r\nHos").await.unwrap();
        closed_after(&app, &mut stream).await
    };
    let half_preface = async {
        let mut stream = TcpStream::connect(app.http()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2").await.unwrap();
        closed_after(&app, &mut stream).await
    };
    let drip = async {
        let mut stream = TcpStream::connect(app.http()).await.unwrap();
        for byte in b"GET /docs HTTP/1.1\r\nHost: a-name-that-takes-long-to-say\r\n"
            .iter()
            .cycle()
        {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let resting = async {
        let mut stream = TcpStream::connect(app.http()).await.unwrap();
        stream
            .write_all(b"GET /identity/v1/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        closed_after(&app, &mut stream).await
    };
    let all = async { tokio::join!(silent, half_head, half_preface, resting, drip) };
    let others = async {
        for _ in 0..20 {
            assert_eq!(app.anonymous().get("/identity/v1/jwks.json").await.status, 200);
        }
    };
    let ((silent, half_head, half_preface, resting, ()), ()) = tokio::join!(all, others);
    for (what, after, least) in [
        ("silent", silent, 250),
        ("half a head", half_head, 250),
        ("half a preface", half_preface, 250),
        ("resting", resting, 550),
    ] {
        assert!(
            after >= Duration::from_millis(least),
            "{what} is given its time: {after:?}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_is_408() {
    let app = impatient().await;
    let head = "POST /users/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
    for more in ["\r\n{", "Expect: 100-continue\r\n\r\n"] {
        let mut stream = TcpStream::connect(app.http()).await.unwrap();
        stream.write_all(format!("{head}{more}").as_bytes()).await.unwrap();
        let answer = read_all(&mut stream, Duration::from_secs(3)).await;
        assert!(answer.contains("HTTP/1.1 408 "), "{more:?}: {answer}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pipelined_requests_are_answered_in_order() {
    let app = start(Shape::Together).await;
    let mut stream = TcpStream::connect(app.http()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for i in 0..1000 {
            let path = if i % 2 == 0 {
                "/identity/v1/jwks.json"
            } else {
                "/nowhere"
            };
            let last = if i == 999 { "Connection: close\r\n" } else { "" };
            writer
                .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{last}\r\n").as_bytes())
                .await
                .unwrap();
        }
    };
    let read = async {
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(write, read);
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|one| &one[..3]).collect();
    let want: Vec<&str> = (0..1000).map(|i| if i % 2 == 0 { "200" } else { "404" }).collect();
    assert_eq!(statuses, want);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_idle_connections_end_and_nobody_else_notices() {
    let app = impatient().await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(app.http()).await.unwrap());
    }
    assert_eq!(app.anonymous().get("/identity/v1/jwks.json").await.status, 200);
    for stream in &mut idle {
        closed_after(&app, stream).await;
    }
    app.stop().await;
}
