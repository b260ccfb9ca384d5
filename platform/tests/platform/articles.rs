//! Articles through the content product's routes.

use std::time::Duration;

use mosaic_testing::{Reply, Shape, TestApp, in_every_shape, until};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::support::{APART, User, content_user, failure, ok, start};

in_every_shape!(APART;
    a_draft_is_its_authors,
    publish_shows_and_withdraw_hides,
    ids_and_pages_that_are_none,
    texts_are_only_texts,
    what_is_not_asked_for_is_refused,
    rankings,
    search_finds_what_is_published,
);

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn edit(user: &User, id: i64, title: &str, content: &str) -> Value {
    let body = json!({"id": id, "title": title, "content": content});
    user.caller.post("/articles/edit", body).await.json()
}

pub(crate) async fn publish(user: &User, id: i64, title: &str, content: &str) -> i64 {
    let body = json!({"id": id, "title": title, "content": content});
    let reply = user.caller.post("/articles/publish", body).await;
    assert_eq!(reply.json()["code"], 0, "{}", reply.text);
    reply.json()["data"].as_i64().expect("an id")
}

pub(crate) async fn read(user: &User, id: i64) -> Value {
    user.caller.get(&format!("/articles/pub/{id}")).await.json()
}

async fn list(user: &User) -> Vec<Value> {
    let reply = user
        .caller
        .post("/articles/list", json!({"offset": 0, "limit": 10}))
        .await;
    reply.json()["data"].as_array().expect("a list").clone()
}

pub(crate) fn ids(reply: &Reply) -> Vec<i64> {
    let list = reply.json()["data"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|article| article["id"].as_i64()).collect()
}

pub(crate) async fn two(app: &TestApp) -> (User, User) {
    (content_user(app, "a@b.com").await, content_user(app, "r@b.com").await)
}

async fn a_draft_is_its_authors(shape: Shape) {
    let app = start(shape).await;
    let (author, other) = two(&app).await;
    let body = json!({"title": "标题", "content": "内容".repeat(100)});
    let saved = author.caller.post("/articles/edit", body).await.json();
    let id = saved["data"].as_i64().expect("an id");
    let detail = author.caller.get(&format!("/articles/detail/{id}")).await.json();
    assert_eq!(detail["data"]["title"], "标题");
    assert_eq!(detail["data"]["status"], 1);
    assert_eq!(detail["data"]["abstract"], "内容".repeat(64));
    let ctime = detail["data"]["ctime"].as_str().unwrap();
    assert!(
        ctime.len() == 19 && &ctime[4..5] == "-" && &ctime[10..11] == " ",
        "{ctime}"
    );
    // The list is cached; what is saved next is there nevertheless, without its text.
    assert_eq!(list(&author).await.len(), 1);
    assert_eq!(edit(&author, id, "新标题", "新内容").await["data"], id);
    let listed = list(&author).await;
    assert_eq!(
        (&listed[0]["title"], &listed[0]["content"]),
        (&json!("新标题"), &json!(""))
    );
    assert_eq!(listed[0]["abstract"], "新内容");

    let system = failure(5, "系统错误");
    assert_eq!(edit(&other, id, "抢", "抢").await, system);
    for path in ["publish", "edit"] {
        let body = json!({"id": id, "title": "抢", "content": "抢"});
        let reply = other.caller.post(&format!("/articles/{path}"), body).await;
        assert_eq!(reply.parts(), (200, system.clone()), "{path}");
    }
    let reply = other.caller.post("/articles/withdraw", json!({"id": id})).await;
    assert_eq!(reply.parts(), (200, system.clone()));
    let reply = other.caller.get(&format!("/articles/detail/{id}")).await;
    assert_eq!(reply.parts(), (200, system.clone()));
    assert_eq!(read(&author, id).await, system, "a draft is not for readers");
    assert!(list(&other).await.is_empty());
    let detail = author.caller.get(&format!("/articles/detail/{id}")).await.json();
    assert_eq!(detail["data"]["title"], "新标题", "nobody changed it");
    app.stop().await;
}

async fn publish_shows_and_withdraw_hides(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let id = publish(&author, 0, "一", "第一版").await;
    let shown = read(&reader, id).await["data"].clone();
    assert_eq!((&shown["title"], &shown["content"]), (&json!("一"), &json!("第一版")));
    assert_eq!(shown["status"], 2);
    assert_eq!(shown["author"]["id"], shown["authorId"]);
    assert_eq!(shown["author"]["name"], shown["authorName"]);
    assert!(shown["authorName"].as_str().unwrap().starts_with("用户"), "{shown}");

    // Saving touches only the author's library.
    edit(&author, id, "二", "第二版").await;
    assert_eq!(list(&author).await[0]["status"], 1);
    assert_eq!(read(&reader, id).await["data"]["content"], "第一版");
    assert_eq!(publish(&author, id, "二", "第二版").await, id);
    assert_eq!(
        read(&reader, id).await["data"]["content"],
        "第二版",
        "read what was written"
    );

    let withdrawn = author.caller.post("/articles/withdraw", json!({"id": id})).await;
    assert_eq!(withdrawn.parts(), (200, ok()));
    assert_eq!(read(&reader, id).await, failure(5, "系统错误"));
    assert_eq!(list(&author).await[0]["status"], 3);
    let own = author.caller.get(&format!("/articles/detail/{id}")).await.json();
    assert_eq!(own["data"]["content"], "第二版");
    for body in [json!({"id": id, "like": true}), json!({"id": id, "like": true})] {
        let reply = reader.caller.post("/articles/pub/like", body).await;
        assert_eq!(reply.parts(), (200, failure(5, "系统错误")));
    }
    publish(&author, id, "三", "第三版").await;
    assert_eq!(read(&reader, id).await["data"]["content"], "第三版");
    let blank = author
        .caller
        .post("/articles/publish", json!({"id": id, "title": " ", "content": "x"}))
        .await;
    assert_eq!(blank.parts(), (200, failure(402_001, "标题和内容不能为空")));
    app.stop().await;
}

async fn ids_and_pages_that_are_none(shape: Shape) {
    let app = start(shape).await;
    let author = content_user(&app, "a@b.com").await;
    let bad = failure(4, "id 参数错误");
    for id in ["abc", "-1", "0", "1.5", "99999999999999999999"] {
        for path in ["detail", "pub"] {
            let reply = author.caller.get(&format!("/articles/{path}/{id}")).await;
            assert_eq!(reply.parts(), (200, bad.clone()), "{path} {id}");
        }
    }
    for body in [
        json!({"offset": -1, "limit": 1}),
        json!({"offset": 0, "limit": 101}),
        json!({}),
    ] {
        let reply = author.caller.post("/articles/list", body).await;
        assert_eq!(reply.parts(), (200, failure(4, "分页参数错误")));
    }
    let broken = author.caller.post_text("/articles/edit", "application/json", "{").await;
    assert_eq!(broken.status, 400);
    let unknown = author
        .caller
        .post("/articles/edit", json!({"title": "a", "content": "b", "authorId": 7}))
        .await;
    assert_eq!(unknown.status, 400, "nobody writes in another's name");
    for (method, path) in [
        ("post", "/articles/edit"),
        ("get", "/articles/pub/1"),
        ("get", "/follow/feed"),
    ] {
        let reply = match method {
            "post" => app.anonymous().post(path, json!({})).await,
            _ => app.anonymous().get(path).await,
        };
        assert_eq!((reply.status, reply.text.as_str()), (401, ""), "{path}");
    }
    app.stop().await;
}

async fn texts_are_only_texts(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    for text in [
        "'); DROP TABLE article; --",
        "<img src=x onerror=alert(1)><script>alert(1)</script>",
        "{{7*7}} ${jndi:ldap://x} %s %n %%%%",
        "(a+)+$ \\ \" \u{202e}abc \u{feff} \r\n.",
        "👩‍👩‍👧‍👦 e\u{301} 𠮷",
    ] {
        let id = publish(&author, 0, text, text).await;
        let seen = read(&reader, id).await["data"].clone();
        assert_eq!((&seen["title"], &seen["content"]), (&json!(text), &json!(text)));
        let query = utf8_percent_encode(text, NON_ALPHANUMERIC);
        for path in ["/search?expression=", "/articles/history?before="] {
            let reply = reader.caller.get(&format!("{path}{query}")).await;
            let code = reply.json()["code"].clone();
            assert!(
                reply.status == 200 && (code == 0 || code == 4),
                "{path}{query}: {}",
                reply.text
            );
        }
    }
    let nul = author
        .caller
        .post("/articles/edit", json!({"title": "a\0", "content": "b"}))
        .await;
    assert_eq!(
        nul.parts(),
        (200, failure(4, "title: must not contain a NUL character"))
    );
    app.stop().await;
}

/// What a client may not say is no part of a request.
async fn what_is_not_asked_for_is_refused(shape: Shape) {
    let app = start(shape).await;
    let (author, _) = two(&app).await;
    for (key, value) in [
        ("authorId", json!(1)),
        ("status", json!(2)),
        ("likeCnt", json!(9)),
        ("is_admin", json!(true)),
    ] {
        let mut body = json!({"title": "一", "content": "内容"});
        body[key] = value;
        let reply = author.caller.post("/articles/publish", body).await;
        assert_eq!(reply.status, 400, "{key}: {}", reply.text);
    }
    assert!(list(&author).await.is_empty());
    app.stop().await;
}

async fn rankings(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let plain = publish(&author, 0, "一", "内容").await;
    let liked = publish(&author, 0, "二", "内容").await;
    for user in [&author, &reader] {
        user.caller
            .post("/articles/pub/like", json!({"id": liked, "like": true}))
            .await;
    }
    let likes = async |n: u32| app.anonymous().get(&format!("/articles/ranking/likes?n={n}")).await;
    until("the liked one leads", PATIENCE, async || {
        ids(&likes(10).await) == [liked, plain]
    })
    .await;
    assert_eq!(ids(&likes(1).await), [liked]);
    assert_eq!(likes(10).await.json()["data"][0]["likeCnt"], 2);
    assert_eq!(likes(1001).await.json()["code"], 4);
    let refreshed = app.client::<mosaic_api::ranking::v1::RankingClient>("content");
    let hot = async || {
        let cx = mosaic::Context::new(app.runtime());
        let request = mosaic_api::ranking::v1::RefreshRequest {
            biz: "article".to_owned(),
        };
        refreshed.refresh(&cx, request).await.unwrap();
        ids(&app.anonymous().get("/articles/ranking/hot").await)
    };
    until("the hot list has both", PATIENCE, async || {
        hot().await == [liked, plain]
    })
    .await;
    app.stop().await;
}

async fn search_finds_what_is_published(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let id = publish(&author, 0, "异步运行时", "关于微服务的一篇文章").await;
    let other = publish(&author, 0, "别的", "没有关系").await;
    let search = async |words: &str| {
        let reply = reader.caller.get(&format!("/search?expression={words}")).await.json();
        let articles = reply["data"]["articles"].as_array().cloned().unwrap_or_default();
        articles
            .iter()
            .map(|article| article["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    until("a word of the text is found", PATIENCE, async || {
        search("微服务").await == [id]
    })
    .await;
    until("a word of the title is found", PATIENCE, async || {
        search("运行时").await == [id]
    })
    .await;
    author.caller.post("/articles/withdraw", json!({"id": id})).await;
    until("the withdrawn one is not", PATIENCE, async || {
        search("微服务").await.is_empty()
    })
    .await;
    assert!(search("别的").await.contains(&other));
    for words in ["", "%20", &"x".repeat(257)] {
        let reply = reader.caller.get(&format!("/search?expression={words}")).await;
        assert_eq!(reply.parts(), (200, failure(4, "搜索条件不合法")), "{words}");
    }
    app.stop().await;
}
