//! Articles that change while they are read, and texts whose store is away.

use futures::future::{join, join_all};
use mosaic_testing::{Shape, TestApp, engine_url, in_every_shape, until};
use serde_json::{Value, json};

use crate::articles::{PATIENCE, edit, ids, publish, read, two};
use crate::support::{APART, User, content_user, failure, ok, platform, start};

in_every_shape!(APART;
    publish_races_withdraw,
    likes_race_unlikes,
    readers_see_whole_versions_until_it_is_withdrawn,
);

async fn withdraw(author: &User, id: i64) -> (u16, Value) {
    author
        .caller
        .post("/articles/withdraw", json!({"id": id}))
        .await
        .parts()
}

/// Author, readers, ranking and search end with the same opinion.
async fn publish_races_withdraw(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let articles = join_all((0..5).map(|_| publish(&author, 0, "标题", "内容"))).await;
    let races = articles.iter().flat_map(|&id| (0..6).map(move |_| id)).map(|id| {
        let text = json!({"id": id, "title": "又一版", "content": "内容"});
        join(author.caller.post("/articles/publish", text), withdraw(&author, id))
    });
    for (published, withdrawn) in join_all(races).await {
        assert_eq!((published.json()["code"].clone(), withdrawn), (json!(0), (200, ok())));
    }
    let mut shown = Vec::new();
    for &id in &articles {
        let own = author.caller.get(&format!("/articles/detail/{id}")).await.json();
        let is_published = own["data"]["status"] == 2;
        let seen = read(&reader, id).await;
        assert_eq!(seen["code"] == 0, is_published, "{own} {seen}");
        if is_published {
            shown.push(id);
        }
    }
    shown.sort_unstable_by(|a, b| b.cmp(a));
    let anonymous = app.anonymous();
    for path in ["/articles/ranking/likes?n=10", "/search?expression=%E5%86%85%E5%AE%B9"] {
        until("everybody knows which are left", PATIENCE, || async {
            let reply = anonymous.get(path).await;
            let mut there = match reply.json()["data"]["articles"].as_array() {
                Some(articles) => articles.iter().filter_map(|article| article["id"].as_i64()).collect(),
                None => ids(&reply),
            };
            there.sort_unstable_by(|a, b| b.cmp(a));
            there == shown
        })
        .await;
    }
    app.stop().await;
}

/// However likes and unlikes come, the counter is the number of those who like.
async fn likes_race_unlikes(shape: Shape) {
    let app = start(shape).await;
    let author = content_user(&app, "a@b.com").await;
    let id = publish(&author, 0, "标题", "内容").await;
    let users: Vec<User> = join_all((0..5).map(async |n| content_user(&app, &format!("r{n}@b.com")).await)).await;
    let calls = (0..100).map(|n| {
        let body = json!({"id": id, "like": (n / 5 + n) % 3 != 0});
        users[n % 5].caller.post("/articles/pub/like", body)
    });
    for reply in join_all(calls).await {
        assert_eq!(reply.parts(), (200, ok()));
    }
    let mut likers = 0;
    let mut counters = Vec::new();
    for user in &users {
        let seen = read(user, id).await;
        likers += i64::from(seen["data"]["liked"] == true);
        counters.push(seen["data"]["likeCnt"].clone());
    }
    assert_eq!(counters, vec![json!(likers); 5]);
    app.stop().await;
}

/// Title and text are of one version, and who asks after the withdrawal sees nothing.
async fn readers_see_whole_versions_until_it_is_withdrawn(shape: Shape) {
    let app = start(shape).await;
    whole_versions(&app).await;
    app.stop().await;
}

/// Reads until there is nothing to be read; returns how often there was.
async fn read_until_gone(reader: &User, id: i64) -> usize {
    for n_seen in 0.. {
        let seen = read(reader, id).await;
        if seen["code"] != 0 {
            assert_eq!(seen, failure(5, "系统错误"));
            return n_seen;
        }
        assert_eq!(seen["data"]["title"], seen["data"]["content"]);
    }
    unreachable!("the author withdraws it")
}

async fn whole_versions(app: &TestApp) {
    let (author, reader) = two(app).await;
    let id = publish(&author, 0, "第0版", "第0版").await;
    let writing = async {
        for n in 1..10 {
            let version = format!("第{n}版");
            publish(&author, id, &version, &version).await;
            let seen = read(&reader, id).await;
            assert_eq!(seen["data"]["title"], version.as_str(), "what was published");
        }
        assert_eq!(withdraw(&author, id).await, (200, ok()));
        assert_eq!(read(&reader, id).await, failure(5, "系统错误"));
    };
    let reading = join_all((0..4).map(|_| read_until_gone(&reader, id)));
    let ((), n_seen) = join(writing, reading).await;
    assert!(n_seen.iter().all(|n| *n > 0), "{n_seen:?}");
}

/// Starts the platform with the texts in an object store.
async fn start_with_blobs(url: &str) -> TestApp {
    let platform = platform(Shape::Together).set("content.body", "blobs");
    platform.set("blobs.url", url).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_in_files() {
    let app = start_with_blobs("file:").await;
    whole_versions(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_in_s3() {
    let Some(url) = engine_url("MOSAIC_TEST_S3") else {
        return;
    };
    let app = start_with_blobs(&url).await;
    whole_versions(&app).await;
    app.stop().await;
}

/// A publish whose text cannot be stored has not happened, and can be made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_leaves_nothing_half_published() {
    let app = start_with_blobs("file:").await;
    let (author, reader) = two(&app).await;
    let id = publish(&author, 0, "一", "第一版").await;
    edit(&author, id, "草稿", "第二版").await;
    let (folder, aside) = (app.data(0).join("blobs"), app.data(0).join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "no folder").unwrap();

    let new = json!({"title": "二", "content": "新的"});
    let again = json!({"id": id, "title": "一", "content": "第二版"});
    for text in [&new, &again] {
        let refused = author.caller.post("/articles/publish", text.clone()).await;
        assert_eq!(refused.parts(), (200, failure(502_001, "系统错误")), "{text}");
    }
    let list = author
        .caller
        .post("/articles/list", json!({"offset": 0, "limit": 10}))
        .await;
    assert_eq!(ids(&list), [id], "no new article");
    let own = author.caller.get(&format!("/articles/detail/{id}")).await.json();
    assert_eq!(
        (&own["data"]["title"], &own["data"]["status"]),
        (&json!("草稿"), &json!(1))
    );
    assert_eq!(
        read(&reader, id).await["data"]["content"],
        "第一版",
        "readers have what they had"
    );

    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    publish(&author, id, "一", "第二版").await;
    assert_eq!(read(&reader, id).await["data"]["content"], "第二版");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_that_nobody_serves_refuses_within_seconds() {
    let app = start_with_blobs("s3://key:secret@127.0.0.1:1/bucket").await;
    let author = content_user(&app, "a@b.com").await;
    let text = json!({"title": "一", "content": "内容"});
    let refused = author.caller.post("/articles/publish", text).await;
    assert_eq!(refused.parts(), (200, failure(502_001, "系统错误")));
    let list = author
        .caller
        .post("/articles/list", json!({"offset": 0, "limit": 10}))
        .await;
    assert_eq!(list.json()["data"], json!([]));
    app.stop().await;
}
