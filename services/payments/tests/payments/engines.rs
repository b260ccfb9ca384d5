//! The journey on the engines of production.

use mosaic_testing::{FreshDatabase, Shape, TestApp, engine_url};

use crate::embedded::journey;
use crate::support::app;

async fn on(engine: &str) {
    let Some(url) = engine_url(engine) else { return };
    let database = FreshDatabase::create(&url).await;
    journey(
        TestApp::builder(app())
            .shape(Shape::Together)
            .set("database.url", database.url()),
    )
    .await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    on("MOSAIC_TEST_MYSQL").await;
}
