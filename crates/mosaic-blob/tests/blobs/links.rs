//! Links to files, as strangers try them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mosaic_blob::{Disposition, GetGrant, PutGrant};
use mosaic_core::{ManualClock, Runtime, SystemRandom, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Engine, files, files_of, request, text};

fn grant() -> GetGrant {
    GetGrant {
        ttl: Duration::from_secs(60),
        disposition: Disposition::Attachment,
        content_type: None,
    }
}

/// Sends bytes as they are and returns the answer: a client would tidy the path up.
async fn raw(engine: &Engine, text: &str) -> String {
    let link = engine.blobs.presign_get(&engine.key("x"), &grant()).await.unwrap();
    let host = link
        .url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(&host).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_path_leads_out_of_the_directory() {
    let engine = files().await;
    std::fs::write(engine.directory.path().join("secret~"), b"secret").unwrap();
    let long = "a".repeat(10 * 1024);
    for path in [
        "..%2f..%2fsecret",
        "../../secret",
        "%2e%2e/%2e%2e/secret",
        "%252e%252e%252fsecret",
        "..\\..\\secret",
        "..%5c..%5csecret",
        "a%00",
        "a%00.png",
        "CON",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "a//b",
        "a%0d%0ax:%20y",
        "%ff%fe",
        "%c0%ae%c0%ae/secret",
        ".git",
        &long,
    ] {
        let answer = raw(
            &engine,
            &format!("GET /blobs/{path}?expires=9999999999&sig=AAAA HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        )
        .await;
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(matches!(status, 400 | 404 | 414), "{path}: {answer}");
        assert!(
            !answer.contains("secret") && !answer.to_lowercase().contains("\nx: y"),
            "{path}: {answer}"
        );
    }
}

#[tokio::test]
async fn what_is_sent_back_cannot_run() {
    let engine = files().await;
    let key = engine.key("page.html");
    engine
        .blobs
        .put(&key, Bytes::from_static(b"<script>"), &"text/html".parse().unwrap())
        .await
        .unwrap();
    let link = engine.blobs.presign_get(&key, &grant()).await.unwrap();
    let answer = request(&link).send().await.unwrap();
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["content-disposition"], "attachment");
    assert_eq!(
        answer.headers()["content-security-policy"],
        "default-src 'none'; sandbox"
    );
    assert_eq!(answer.headers()["content-type"], "text/html");
}

#[tokio::test]
async fn ranges_are_one_few_or_refused() {
    let engine = files().await;
    let key = engine.key("r");
    engine
        .blobs
        .put(&key, Bytes::from_static(b"0123456789"), &text())
        .await
        .unwrap();
    let link = engine.blobs.presign_get(&key, &grant()).await.unwrap();
    let thousand = format!("bytes={}9-9", "0-0,".repeat(999));
    for (range, status, body) in [
        ("bytes=0-0", 206, "0"),
        ("bytes=-3", 206, "789"),
        ("bytes=5-", 206, "56789"),
        ("bytes=0-0,2-2", 200, "0123456789"),
        ("bytes=-0", 416, ""),
        ("bytes=10-", 416, ""),
        (&thousand, 416, ""),
    ] {
        let answer = request(&link).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), status, "{range:.40}");
        if status == 416 {
            assert_eq!(answer.headers()["content-range"], "bytes */10");
        } else {
            assert_eq!(answer.text().await.unwrap(), body, "{range:.40}");
        }
    }
}

#[tokio::test]
async fn a_link_ends_when_it_says() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let engine = files_of(&Runtime::new(clock.clone(), Arc::new(SystemRandom))).await;
    let key = engine.key("x");
    engine.blobs.put(&key, Bytes::from_static(b"x"), &text()).await.unwrap();
    let link = engine.blobs.presign_get(&key, &grant()).await.unwrap();
    assert_eq!(link.expires, Timestamp::from_secs(1_800_000_060));
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(request(&link).send().await.unwrap().status(), 200);
    clock.advance(Duration::from_millis(1));
    let answer = request(&link).send().await.unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.text().await.unwrap().contains("BLOB_URL_EXPIRED")
        ),
        (403, true)
    );
}

#[tokio::test]
async fn a_connection_that_breaks_off_leaves_nothing() {
    let engine = files().await;
    let key = engine.key("half");
    let grant = PutGrant {
        ttl: Duration::from_secs(60),
        content_type: text(),
        size_bytes: 1000,
    };
    let link = engine.blobs.presign_put(&key, &grant).await.unwrap();
    let rest = link.url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let incoming = engine.directory.path().join("blobs/incoming");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "PUT /{path} HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nhalf of it"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let n_staged = || std::fs::read_dir(&incoming).map_or(0, Iterator::count);
    mosaic_testing::until("it has begun", Duration::from_secs(10), async || n_staged() == 1).await;
    drop(stream);
    mosaic_testing::until("it is cleared", Duration::from_secs(10), async || n_staged() == 0).await;
    assert_eq!(engine.blobs.head(&key).await.unwrap(), None);

    let chunked = format!(
        "PUT /{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert!(raw(&engine, &chunked).await.starts_with("HTTP/1.1 411"));
}
