//! Comments as their callers see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod support;

use mosaic_testing::{FreshDatabase, Shape, engine_url};

use support::app;

/// Runs the cases in one process on the embedded database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    cases::all(app(Shape::Together)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict() {
    cases::all(app(Shape::Strict)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apart() {
    cases::all(app(Shape::Apart(&[&["front"], &["comments"]]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    on("MOSAIC_TEST_MYSQL").await;
}

async fn on(variable: &str) {
    let Some(url) = engine_url(variable) else { return };
    let database = FreshDatabase::create(&url).await;
    cases::all(app(Shape::Together).set("database.url", database.url())).await;
    database.remove().await;
}
