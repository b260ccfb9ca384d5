//! A hundred versions at once, on every database: the last one is found.

use std::sync::Arc;

use mosaic::{Runtime, SeededRandom, SystemClock};
use mosaic_testing::{FreshDatabase, TestAppBuilder, engine_url, until};

use crate::support::{Calls, WAIT, alone, article, query};

async fn race(builder: TestAppBuilder) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let dice = Runtime::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(seed)));
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let mut versions: Vec<i64> = (1..=100).collect();
    for position in (1..versions.len()).rev() {
        versions.swap(position, dice.random_below(position as u64 + 1) as usize);
    }
    // Odd versions are removals, and so is not the last one.
    let all = versions.iter().map(|&version| {
        let calls = &calls;
        async move {
            if version % 2 == 0 {
                calls
                    .index(article(1, version, &format!("v{version} 微服务"), "😀 text"))
                    .await;
            } else {
                calls.remove(1, version).await;
            }
        }
    });
    futures::future::join_all(all).await;
    calls.until_items("v100", &[1]).await;
    calls.index(article(2, 1, "marker", "")).await;
    until("the marker is found", WAIT, || async {
        calls.items(query("marker")).await == [2]
    })
    .await;
    let found = calls.search(query("微服务")).await.unwrap();
    assert_eq!(
        found.items.iter().map(|item| item.title.as_str()).collect::<Vec<_>>(),
        ["v100 微服务"]
    );
    app.stop().await;
}

async fn on(variable: &str) {
    let Some(url) = engine_url(variable) else { return };
    let database = FreshDatabase::create(&url).await;
    race(alone().set("database.url", database.url())).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    race(alone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    on("MOSAIC_TEST_MYSQL").await;
}
