//! From beginning to end, in every shape and on both engines.

use std::sync::Arc;
use std::time::Duration;

use mosaic::tasks::Options;
use mosaic::{ManualClock, Runtime, SystemRandom};
use mosaic_api::blobs::v1::Kind;
use mosaic_testing::{Shape, TestAppBuilder, engine_url, until};

use crate::support::{ALICE, Calls, CleanUp, MALLORY, PNG, app, app_and_tasks, refused};

async fn journey(builder: TestAppBuilder) {
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let begun = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    let id = &begun.blob_id;
    refused(calls.finish(id, ALICE).await, "BLOB_NOT_UPLOADED");
    refused(calls.known(id).await, "BLOB_NOT_FOUND");
    refused(calls.read(id, "").await, "BLOB_NOT_FOUND");
    assert_eq!(calls.put(&begun, PNG).await, 200);
    refused(calls.read(id, "").await, "BLOB_NOT_FOUND");
    refused(calls.finish(id, MALLORY).await, "BLOB_NOT_FOUND");

    let blob = calls.finish(id, ALICE).await.unwrap();
    assert_eq!(
        (blob.account_id, blob.size_bytes, &*blob.content_type),
        (ALICE, PNG.len() as i64, "image/png")
    );
    assert_eq!(calls.finish(id, ALICE).await.unwrap(), blob);
    assert_eq!(calls.known(id).await.unwrap(), blob);
    let answer = calls.read(id, "../猫\"\r\n.png").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/png");
    let disposition = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("attachment; filename=\"_"), "{disposition}");
    assert_eq!(answer.bytes().await.unwrap(), PNG);

    refused(calls.delete(id, MALLORY).await, "BLOB_NOT_FOUND");
    assert_eq!(calls.read(id, "").await.unwrap().status(), 200);
    calls.delete(id, ALICE).await.unwrap();
    refused(calls.known(id).await, "BLOB_NOT_FOUND");
    refused(calls.read(id, "").await, "BLOB_NOT_FOUND");
    calls.delete(id, ALICE).await.unwrap();
    assert_eq!(calls.files(), [] as [std::path::PathBuf; 0]);
    app.stop().await;
}

#[tokio::test]
async fn together() {
    journey(app(Shape::Together)).await;
}

#[tokio::test]
async fn strict() {
    journey(app(Shape::Strict)).await;
}

#[tokio::test]
async fn on_s3() {
    if let Some(url) = engine_url("MOSAIC_TEST_S3") {
        journey(app(Shape::Together).set("blobs.url", url)).await;
    }
}

#[tokio::test]
async fn an_upload_is_larger_than_a_request_may_be() {
    let app = app(Shape::Together).start().await;
    let calls = Calls::of(&app);
    let photo = [b"\xff\xd8\xff\xe0".as_slice(), &vec![0; 19 << 20]].concat();
    let begun = calls.begin(Kind::Image, "image/jpeg", photo.len()).await.unwrap();
    assert_eq!(calls.put(&begun, &photo).await, 200);
    calls.finish(&begun.blob_id, ALICE).await.unwrap();
    assert_eq!(
        calls.read(&begun.blob_id, "").await.unwrap().bytes().await.unwrap(),
        photo
    );
    app.stop().await;
}

#[tokio::test]
async fn what_nobody_finishes_is_removed_after_a_day() {
    let clock = Arc::new(ManualClock::at(Runtime::system().now()));
    let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
    let (builder, tasks) = app_and_tasks();
    let app = builder.runtime(runtime).start().await;
    let calls = Calls::of(&app);
    let kept = calls.upload().await;
    let abandoned = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    assert_eq!(calls.put(&abandoned, PNG).await, 200);
    // Through a link that is still good, when it is all over.
    let late = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    calls.put(&late, PNG).await;
    calls.finish(&late.blob_id, ALICE).await.unwrap();
    assert_eq!(calls.put(&late, PNG).await, 200);
    assert_eq!(calls.files().len(), 4);
    clock.advance(Duration::from_secs(25 * 3600));
    let cx = calls.cx();
    let asked = tasks.get().unwrap().enqueue(&cx, &CleanUp {}, Options::default()).await;
    asked.unwrap();
    until("two are left", Duration::from_secs(30), async || {
        calls.files().len() == 2
    })
    .await;
    assert_eq!(calls.read(&kept, "").await.unwrap().status(), 200);
    assert_eq!(calls.read(&late.blob_id, "").await.unwrap().status(), 200);
    refused(calls.finish(&abandoned.blob_id, ALICE).await, "BLOB_NOT_FOUND");
    app.stop().await;
}
