//! A hundred changes at once, on every engine: counters equal rows, and events tell how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mosaic::{Runtime, SeededRandom, SystemClock};
use mosaic_testing::{FreshDatabase, Shape, TestAppBuilder, engine_url, until};

use crate::support::{Calls, Heard, app};

const ACCOUNTS: u64 = 6;

async fn race(builder: TestAppBuilder, heard: &Heard) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let dice = Runtime::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(seed)));
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let mut toggles = Vec::new();
    while toggles.len() < 100 {
        let pair = (1 + dice.random_below(ACCOUNTS), 1 + dice.random_below(ACCOUNTS));
        if pair.0 != pair.1 {
            toggles.push((pair.0 as i64, pair.1 as i64, dice.random_below(2) == 0));
        }
    }
    let all = toggles
        .iter()
        .map(|&(follower, followee, following)| calls.set(follower, followee, following));
    for result in futures::future::join_all(all).await {
        result.unwrap();
    }
    let mut pairs = 0;
    for account in 1..=ACCOUNTS as i64 {
        let (followers, followees) = calls.rows(account).await;
        assert_eq!(
            calls.counters(account).await,
            (followers.len() as i64, followees.len() as i64),
            "account {account}"
        );
        pairs += followees.len();
    }
    // Follows minus unfollows that were told are the relations there are: none was told twice or for nothing.
    until("all is told", Duration::from_secs(20), || async {
        let sum: i64 = heard.all().iter().map(|event| if event.2 { 1 } else { -1 }).sum();
        sum == pairs as i64
    })
    .await;
    let mut by_pair = HashMap::<_, i64>::new();
    for (follower, followee, following) in heard.all() {
        *by_pair.entry((follower, followee)).or_default() += if following { 1 } else { -1 };
    }
    assert!(by_pair.values().all(|&sum| sum == 0 || sum == 1), "{by_pair:?}");
    app.stop().await;
}

async fn on(variable: &str) {
    let Some(url) = engine_url(variable) else { return };
    let database = FreshDatabase::create(&url).await;
    let (builder, heard) = app(Shape::Together);
    race(builder.set("database.url", database.url()), &heard).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let (builder, heard) = app(Shape::Together);
    race(builder, &heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    on("MOSAIC_TEST_MYSQL").await;
}
