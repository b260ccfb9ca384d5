//! S3 when it is down, silent, or not ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mosaic_blob::{Blobs, open};
use mosaic_core::{Code, Runtime};
use mosaic_testing::{ChaosProxy, Network, engine_url};
use tokio::time::Instant;

use crate::support::{options, text};

fn opened(url: &str) -> Arc<dyn Blobs> {
    let directory = tempfile::tempdir().unwrap();
    open(url, options(&directory, String::new()), &Runtime::system())
        .unwrap()
        .blobs()
}

#[track_caller]
fn check_unavailable<T: std::fmt::Debug>(outcome: Result<T, mosaic_core::Error>) {
    let error = outcome.expect_err("it cannot have answered");
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, "BLOBS_UNAVAILABLE"),
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("test-secret"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_within_seconds() {
    let proxy = ChaosProxy::to(SocketAddr::from(([127, 0, 0, 1], 1)));
    proxy.set(Network::Refuse);
    let blobs = opened(&format!("s3://test:test-secret@{}/bucket?tls=false", proxy.address()));
    let key = "a".parse().unwrap();
    let started = Instant::now();
    check_unavailable(blobs.put(&key, Bytes::from_static(b"x"), &text()).await);
    check_unavailable(blobs.get(&key, 10).await);
    check_unavailable(blobs.get_range(&key, 0..1).await);
    check_unavailable(blobs.head(&key).await);
    check_unavailable(blobs.delete(&key).await);
    check_unavailable(blobs.ping().await);
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_comes_back() {
    let Some(url) = engine_url("MOSAIC_TEST_S3") else {
        return;
    };
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let proxy = ChaosProxy::to(host.parse().unwrap());
    let blobs = opened(&url.replace(&host, &proxy.address().to_string()));
    let key = format!("silent-{}", Runtime::system().random_hex::<6>())
        .parse()
        .unwrap();
    blobs.put(&key, Bytes::from_static(b"x"), &text()).await.unwrap();
    proxy.set(Network::BlackHole);
    let started = Instant::now();
    check_unavailable(blobs.head(&key).await);
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(35), "{elapsed:?}");
    proxy.set(Network::Refuse);
    proxy.set(Network::Pass);
    mosaic_testing::until("it is back", Duration::from_secs(20), async || {
        blobs.head(&key).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_and_a_missing_bucket_do_not_look_like_an_empty_store() {
    let Some(url) = engine_url("MOSAIC_TEST_S3") else {
        return;
    };
    let key = "nothing-here".parse().unwrap();
    let stranger = opened(&url.replace("test-secret", "another"));
    check_unavailable(stranger.get(&key, 10).await);
    check_unavailable(stranger.put(&key, Bytes::new(), &text()).await);
    let nowhere = opened(&url.replace("/mosaic?", "/no-such-bucket?"));
    check_unavailable(nowhere.get(&key, 10).await);
    check_unavailable(nowhere.ping().await);
}
