//! An engine that is away, that comes back, that has lost everything; and an index that is built anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mosaic_testing::{Shape, TestApp, TestAppBuilder, until};
use tempfile::TempDir;

use crate::simulator::{Kept, Simulator};
use crate::support::{Calls, WAIT, alone, app, article, query};

async fn simulator() -> Simulator {
    let kept = Arc::new(Kept {
        refreshes: true,
        ..Kept::default()
    });
    Simulator::start_with("127.0.0.1:0".parse().unwrap(), kept).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_away_misses_nothing() {
    let server = simulator().await;
    let app = alone().set("search.url", server.url()).start().await;
    let calls = Calls::of(&app);
    calls.index(article(1, 1, "tea", "")).await;
    calls.until_items("tea", &[1]).await;
    let (address, kept) = server.stop().await;

    calls.index(article(2, 1, "tea", "")).await;
    calls.index(article(3, 2, "tea", "")).await;
    calls.remove(1, 2).await;
    calls.index(article(3, 1, "coffee", "")).await;
    let error = calls.search(query("tea")).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("SEARCH_UNAVAILABLE", true));

    let _server = Simulator::start_with(address, kept).await;
    until("the engine has caught up", WAIT, || async {
        let found = calls.search(query("tea coffee")).await;
        let mut ids: Vec<_> = found.map_or(vec![], |found| found.items.iter().map(|item| item.biz_id).collect());
        ids.sort_unstable();
        ids == [2, 3]
    })
    .await;
    assert!(calls.items(query("coffee")).await.is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_never_there_keeps_nobody_from_starting() {
    let (address, kept) = simulator().await.stop().await;
    let app = alone()
        .set("search.url", format!("elasticsearch://{address}"))
        .start()
        .await;
    let calls = Calls::of(&app);
    calls.index(article(1, 1, "tea", "")).await;
    assert_eq!(
        calls.search(query("tea")).await.unwrap_err().reason(),
        "SEARCH_UNAVAILABLE"
    );
    let _server = Simulator::start_with(address, kept).await;
    calls.until_items("tea", &[1]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_lost_everything_is_filled() {
    let server = simulator().await;
    let (builder, registrar) = app(Shape::Together);
    let app = builder.set("search.url", server.url()).start().await;
    let calls = Calls::of(&app);
    calls.index(article(1, 1, "tea", "")).await;
    registrar.register(&app, 7).await;
    calls.until_items("tea", &[1]).await;
    until("the account is found", WAIT, || async {
        !calls.users("用户").await.is_empty()
    })
    .await;
    until_nothing_is_to_do(&app).await;
    server.kept.indexes.lock().unwrap().clear();
    assert_eq!(
        calls.search(query("tea")).await.unwrap_err().reason(),
        "SEARCH_UNAVAILABLE"
    );
    until("all is found again", WAIT, || async {
        let found = calls.search(query("tea 用户")).await;
        found.is_ok_and(|found| found.items.len() == 1 && found.users.len() == 1)
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_whose_creation_nobody_heard_of_is_filled() {
    let server = simulator().await;
    let app = alone().set("search.url", server.url()).start().await;
    let calls = Calls::of(&app);
    calls.index(article(1, 1, "tea", "")).await;
    calls.until_items("tea", &[1]).await;
    until_nothing_is_to_do(&app).await;
    server.kept.lost_creations.store(2, Ordering::Relaxed);
    server.kept.indexes.lock().unwrap().clear();
    calls.search(query("tea")).await.unwrap_err();
    calls.until_items("tea", &[1]).await;
    app.stop().await;
}

/// Returns when no task of an earlier step is left, which might do what a later step is to do.
async fn until_nothing_is_to_do(app: &TestApp) {
    let url = format!("http://{}/tasks", app.processes()[0].addresses().admin);
    let client = mosaic::partner_client(WAIT).unwrap();
    until("all tasks are done", WAIT, || async {
        let queues: Vec<serde_json::Value> = client.get(&url).send().await.unwrap().json().await.unwrap();
        let n_left =
            |queue: &serde_json::Value| ["pending", "active", "retry"].map(|state| queue[state].as_u64().unwrap());
        queues.iter().all(|queue| n_left(queue) == [0; 3])
    })
    .await;
}

/// Search with files that outlive the process.
fn on_files(files: &Path) -> TestAppBuilder {
    alone()
        .set("search.url", format!("tantivy:{}", files.join("index").display()))
        .set("database.url", format!("sqlite:{}/", files.join("rows").display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_outlives_the_process() {
    let files = TempDir::new().unwrap();
    let app = on_files(files.path()).start().await;
    let calls = Calls::of(&app);
    calls.index(article(1, 1, "tea", "")).await;
    calls.until_items("tea", &[1]).await;
    app.stop().await;

    let app = on_files(files.path()).start().await;
    assert_eq!(
        Calls::of(&app).items(query("tea")).await,
        [1],
        "the first answer: nothing was filled"
    );
    app.stop().await;

    std::fs::remove_dir_all(files.path().join("index")).unwrap();
    let app = on_files(files.path()).start().await;
    Calls::of(&app).until_items("tea", &[1]).await;
    app.stop().await;
}

/// Names of the indexes, without the fingerprints of their schemas.
fn indexes(files: &Path) -> Vec<String> {
    let found = std::fs::read_dir(files.join("index")).unwrap();
    let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.map(|name| name[..name.len() - 17].to_owned()).collect();
    names.sort_unstable();
    names
}

/// Runs what waits for its time.
async fn run_scheduled(app: &TestApp) {
    let admin = app.processes()[0].addresses().admin;
    let url = format!("http://{admin}/tasks/search/queues/default/run?state=scheduled");
    let client = mosaic::partner_client(WAIT).unwrap();
    let answer = client.post(url).header("x-mosaic-admin", "1").send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_takes_the_place_of_the_index_when_it_is_complete() {
    let files = TempDir::new().unwrap();
    let app = on_files(files.path()).start().await;
    let calls = Calls::of(&app);
    for id in 1..=250 {
        calls.index(article(id, 1, "tea", "")).await;
    }
    calls.remove(1, 2).await;
    let all_found = async || {
        let page = |offset| calls.items(mosaic_api::search::v1::SearchRequest { offset, ..query("tea") });
        let mut ids = Vec::new();
        for offset in [0, 50, 100, 150, 200] {
            ids.extend(page(offset).await);
        }
        ids.sort_unstable();
        ids == (2..=250).collect::<Vec<_>>()
    };
    until("all are found", WAIT, &all_found).await;
    calls.rebuild().await;
    calls.index(article(300, 1, "during", "")).await;
    until("the new generation is there", WAIT, || async {
        assert!(all_found().await, "while it is built, the old one answers");
        indexes(files.path()).contains(&"items-2".to_owned())
    })
    .await;
    calls.until_items("during", &[300]).await;
    until("the old generations are dropped", WAIT, || async {
        run_scheduled(&app).await;
        indexes(files.path()) == ["items-2", "users-2"]
    })
    .await;
    assert!(all_found().await);
    assert_eq!(calls.items(query("during")).await, [300]);
    app.stop().await;
}
