//! A hundred attempts to finish one upload, on every database: all of them end with the one file.

use mosaic_api::blobs::v1::Kind;
use mosaic_testing::{FreshDatabase, Shape, TestAppBuilder, engine_url};

use crate::support::{ALICE, Calls, PNG, app, refused};

async fn race(builder: TestAppBuilder) {
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let begun = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    assert_eq!(calls.put(&begun, PNG).await, 200);
    let attempts = (0..100).map(|_| calls.finish(&begun.blob_id, ALICE));
    let outcomes = futures::future::join_all(attempts).await;
    let first = outcomes[0].as_ref().unwrap();
    for outcome in &outcomes {
        assert_eq!(outcome.as_ref().unwrap(), first);
    }
    assert_eq!(calls.files().len(), 1);
    assert_eq!(
        calls.read(&begun.blob_id, "").await.unwrap().bytes().await.unwrap(),
        PNG
    );

    // Some finish while others put something else and others delete: it ends with nothing, and nothing is left.
    let begun = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    calls.put(&begun, PNG).await;
    let evil = vec![b'<'; PNG.len()];
    let mixed = (0..60).map(async |n| match n % 6 {
        0 => drop(calls.put(&begun, &evil).await),
        1 => drop(calls.put(&begun, PNG).await),
        5 if n > 40 => calls.delete(&begun.blob_id, ALICE).await.unwrap(),
        _ => drop(calls.finish(&begun.blob_id, ALICE).await),
    });
    futures::future::join_all(mixed).await;
    if let Ok(answer) = calls.read(&begun.blob_id, "").await {
        assert_ne!(answer.bytes().await.unwrap(), evil);
    }
    calls.delete(&begun.blob_id, ALICE).await.unwrap();
    refused(calls.known(&begun.blob_id).await, "BLOB_NOT_FOUND");
    app.stop().await;
}

async fn on(variable: &str) {
    let Some(url) = engine_url(variable) else { return };
    let database = FreshDatabase::create(&url).await;
    race(app(Shape::Together).set("database.url", database.url())).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    race(app(Shape::Together)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    on("MOSAIC_TEST_MYSQL").await;
}
