//! Feeds as their readers see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod down;
mod support;

use mosaic_testing::{FreshDatabase, Shape, engine_url};

use support::app;

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
    cases::all(app(Shape::Apart(&[&["press"], &["feed"], &["relations"]]))).await;
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
    let (builder, press) = app(Shape::Together);
    cases::all((builder.set("database.url", database.url()), press)).await;
    database.remove().await;
}
