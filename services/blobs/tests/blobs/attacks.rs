//! What strangers upload.

use mosaic_api::blobs::v1::Kind;
use mosaic_testing::{Shape, TestApp};

use crate::support::{ALICE, Calls, PNG, app, refused};

async fn started() -> TestApp {
    app(Shape::Together).start().await
}

#[tokio::test]
async fn what_runs_in_a_browser_is_not_taken() {
    let app = started().await;
    let calls = Calls::of(&app);
    for content_type in [
        "image/svg+xml",
        "text/html",
        "application/xhtml+xml",
        "application/octet-stream",
        "image/png\r\nx: y",
    ] {
        for kind in [Kind::Avatar, Kind::Image, Kind::Video, Kind::Document] {
            refused(calls.begin(kind, content_type, 10).await, "BLOB_TYPE_REFUSED");
        }
    }
    refused(calls.begin(Kind::Avatar, "image/png", 3 << 20).await, "BLOB_TOO_LARGE");
    refused(calls.begin(Kind::Avatar, "image/png", 0).await, "INVALID_REQUEST");
    app.stop().await;
}

#[tokio::test]
async fn a_file_that_is_not_what_it_claims_is_removed() {
    let app = started().await;
    let calls = Calls::of(&app);
    let polyglot = [PNG, b"<script>alert(1)</script>"].concat();
    let files: [&[u8]; 5] = [
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<!doctype html>",
        b"GIF89a\x01\0\x01\0",
        b"MZ\x90\0",
        &polyglot,
    ];
    for bytes in files {
        let begun = calls.begin(Kind::Avatar, "image/png", bytes.len()).await.unwrap();
        assert_eq!(calls.put(&begun, bytes).await, 200);
        let error = calls.finish(&begun.blob_id, ALICE).await.expect_err("not a PNG");
        assert_eq!((error.reason(), error.http_status()), ("BLOB_TYPE_REFUSED", 415));
        refused(calls.known(&begun.blob_id).await, "BLOB_NOT_FOUND");
        refused(calls.finish(&begun.blob_id, ALICE).await, "BLOB_NOT_FOUND");
        assert_eq!(calls.files().len(), 0);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_link_that_is_still_good_changes_nothing_that_is_read() {
    let app = started().await;
    let calls = Calls::of(&app);
    let begun = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    calls.put(&begun, PNG).await;
    calls.finish(&begun.blob_id, ALICE).await.unwrap();
    let evil = vec![b'<'; PNG.len()];
    assert_eq!(calls.put(&begun, &evil).await, 200);
    assert_eq!(
        calls.finish(&begun.blob_id, ALICE).await.unwrap().blob_id,
        begun.blob_id
    );
    assert_eq!(
        calls.read(&begun.blob_id, "").await.unwrap().bytes().await.unwrap(),
        PNG
    );
    app.stop().await;
}

#[tokio::test]
async fn a_link_takes_only_what_was_said() {
    let app = started().await;
    let calls = Calls::of(&app);
    let begun = calls.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
    assert_eq!(calls.put(&begun, &[PNG, b"x"].concat()).await, 403);
    let mut other_type = begun.clone();
    other_type
        .headers
        .insert("content-type".to_owned(), "text/html".to_owned());
    assert_eq!(calls.put(&other_type, PNG).await, 403);
    let mut other_place = begun.clone();
    other_place.url = other_place.url.replace("/incoming/", "/files/");
    assert_eq!(calls.put(&other_place, PNG).await, 403);
    refused(calls.finish(&begun.blob_id, ALICE).await, "BLOB_NOT_UPLOADED");
    app.stop().await;
}

#[tokio::test]
async fn ids_that_are_none_are_not_found_and_uploads_are_counted() {
    let app = started().await;
    let calls = Calls::of(&app);
    for id in [
        "../../../../../../etc/passwd-xxxx",
        "................................",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        refused(calls.known(&id[..32]).await, "BLOB_NOT_FOUND");
        refused(calls.finish(&id[..32], ALICE).await, "BLOB_NOT_FOUND");
    }
    for _ in 0..100 {
        calls.begin(Kind::Avatar, "image/png", 10).await.unwrap();
    }
    refused(calls.begin(Kind::Avatar, "image/png", 10).await, "UPLOADS_TOO_MANY");
    app.stop().await;
}
