//! Thousands of random changes, on every engine: the top list is what a full sort of all items gives.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic::{Context, Runtime};
use mosaic_testing::{FreshDatabase, Shape, TestAppBuilder, engine_url};

use crate::support::{News, Press, app, hot, likes, published, refresh, until_top, withdrawn};

const N_ITEMS: u64 = 1500;
const N_CHANGES: usize = 4000;
/// Changes in a transaction.
const BATCH: usize = 100;

/// What an item should be.
#[derive(Clone, Copy, Default)]
struct Truth {
    published_at: Option<i64>,
    likes: i64,
}

async fn random_changes(builder: TestAppBuilder, press: Press) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let random = Runtime::new(
        std::sync::Arc::new(mosaic::SystemClock),
        std::sync::Arc::new(mosaic::SeededRandom::new(seed)),
    );
    let app = builder.start().await;
    let cx = Context::new(app.runtime());
    let start = app.runtime().now();
    let mut truth: BTreeMap<i64, Truth> = BTreeMap::new();
    let mut changes = (0..N_CHANGES)
        .map(|_| change(&random, &mut truth, start))
        .collect::<Vec<_>>()
        .into_iter();
    loop {
        let batch: Vec<News> = changes.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        press.publish(&cx, &batch).await;
    }
    let mut top: Vec<(i64, i64)> = Vec::new();
    top.extend(
        truth
            .iter()
            .filter(|(_, item)| item.published_at.is_some())
            .map(|(id, item)| (*id, item.likes)),
    );
    top.sort_by_key(|(id, likes)| std::cmp::Reverse((*likes, *id)));
    top.truncate(999);
    until_top_of(&app, &top).await;

    refresh(&app).await;
    let now = app.runtime().now();
    let mut hottest: Vec<(f64, i64)> = Vec::new();
    for (id, item) in &truth {
        let Some(at) = item.published_at else { continue };
        let age = now.since(mosaic::Timestamp::from_micros(at)).as_secs_f64();
        if age < 7.0 * 24.0 * 3600.0 - 600.0 {
            hottest.push(((item.likes - 1) as f64 / (age + 2.0).powf(1.5), *id));
        }
    }
    hottest.sort_by(|a, b| b.0.total_cmp(&a.0));
    let list = hot(&app, 0).await.items;
    assert_eq!(list.len(), 100);
    for (item, (score, _)) in list.iter().zip(&hottest) {
        // Both were computed at slightly different times.
        assert!(
            (item.score / score - 1.0).abs() < 0.05,
            "seed {seed}: {item:?} instead of {score}"
        );
    }
    app.stop().await;
}

async fn until_top_of(app: &mosaic_testing::TestApp, top: &[(i64, i64)]) {
    if top.len() < 999 {
        return until_top(app, top).await;
    }
    mosaic_testing::until(
        "the top list is that of a full sort",
        crate::support::PATIENCE,
        || async { crate::support::top(app, 999).await == top },
    )
    .await;
}

/// Draws a change and notes what it makes of the item.
fn change(random: &Runtime, truth: &mut BTreeMap<i64, Truth>, start: mosaic::Timestamp) -> News {
    let id = i64::try_from(random.random_below(N_ITEMS)).expect("a small number") + 1;
    let item = truth.entry(id).or_default();
    match random.random_below(10) {
        0..4 => {
            // Older than ten minutes, so that a moment more or less matters little.
            let age = Duration::from_secs(600 + random.random_below(10 * 24 * 3600));
            let at = start.minus(age).as_micros();
            item.published_at = Some(at);
            published(id, at)
        }
        4 => {
            item.published_at = None;
            withdrawn(id)
        }
        _ => {
            item.likes = i64::try_from(random.random_below(40)).expect("a small number");
            likes(id, item.likes)
        }
    }
}

async fn on(variable: &str) {
    let Some(url) = engine_url(variable) else { return };
    let database = FreshDatabase::create(&url).await;
    let (builder, press) = app(Shape::Together);
    random_changes(builder.set("database.url", database.url()), press).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let (builder, press) = app(Shape::Together);
    random_changes(builder, press).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    on("MOSAIC_TEST_MYSQL").await;
}
