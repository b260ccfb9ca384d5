//! Articles through the content product's routes.

use std::time::Duration;

use mosaic_testing::{Reply, Shape, TestApp, until};
use serde_json::{Value, json};

use crate::support::{User, content_user, failure, in_every_shape, ok, start};

in_every_shape!(
    a_draft_is_its_authors,
    publish_shows_and_withdraw_hides,
    ids_and_pages_that_are_none,
    likes_and_collections_are_counted,
    collected_articles_are_in_folders,
    readings_are_counted_and_remembered,
    comments_are_threads,
    comments_go_with_their_thread,
    follows_and_their_feed,
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

async fn likes_and_collections_are_counted(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let id = publish(&author, 0, "一", "内容").await;
    let like = async |user: &User, like: bool| {
        let reply = user
            .caller
            .post("/articles/pub/like", json!({"id": id, "like": like}))
            .await;
        assert_eq!(reply.parts(), (200, ok()));
    };
    let collect = async |user: &User, collect: bool| {
        let body = json!({"id": id, "cid": 0, "collect": collect});
        let reply = user.caller.post("/articles/pub/collect", body).await;
        assert_eq!(reply.parts(), (200, ok()));
    };
    let state = async |user: &User| {
        let shown = read(user, id).await["data"].clone();
        let of = |name: &str| shown[name].clone();
        json!([of("likeCnt"), of("liked"), of("collectCnt"), of("collected")])
    };
    for _ in 0..3 {
        like(&reader, true).await;
    }
    collect(&reader, true).await;
    assert_eq!(
        state(&reader).await,
        json!([1, true, 1, true]),
        "a repeated like is one like"
    );
    assert_eq!(state(&author).await, json!([1, false, 1, false]));
    like(&author, true).await;
    like(&reader, false).await;
    like(&reader, false).await;
    collect(&reader, false).await;
    assert_eq!(state(&reader).await, json!([1, false, 0, false]));
    let none = reader
        .caller
        .post("/articles/pub/collect", json!({"id": id, "cid": 77}))
        .await;
    assert_eq!(none.parts(), (200, failure(4, "收藏夹不存在")));
    app.stop().await;
}

async fn collected_articles_are_in_folders(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let (first, second) = (
        publish(&author, 0, "一", "内容").await,
        publish(&author, 0, "二", "内容").await,
    );
    let post = async |path: &str, body: Value| reader.caller.post(path, body).await.parts().1;
    let made = post("/collections/create", json!({"name": " 待读 "})).await;
    let cid = made["data"].as_i64().expect("a folder");
    for (name, said) in [
        ("待读", "收藏夹已存在"),
        (" ", "收藏夹名称不能为空"),
        (&"长".repeat(65), "收藏夹名称过长"),
    ] {
        let refused = post("/collections/create", json!({"name": name})).await;
        assert_eq!(refused, failure(4, said));
    }
    for (id, cid) in [(first, 0), (second, cid), (first, cid)] {
        assert_eq!(post("/articles/pub/collect", json!({"id": id, "cid": cid})).await, ok());
    }
    let collected = async |query: String| {
        let reply = reader
            .caller
            .get(&format!("/collections/articles?{query}"))
            .await
            .json();
        reply["data"].as_array().unwrap_or_else(|| panic!("{reply}")).clone()
    };
    let ids = |entries: &[Value]| Vec::from_iter(entries.iter().map(|entry| entry["article"]["id"].clone()));
    let page = collected(format!("cid={cid}&limit=1")).await;
    assert_eq!(ids(&page), [first], "it has moved");
    let cursor = page[0]["cursor"].as_str().unwrap();
    assert_eq!(
        ids(&collected(format!("cid={cid}&limit=1&before={cursor}")).await),
        [second]
    );
    assert!(collected("cid=0".to_owned()).await.is_empty());

    assert_eq!(
        post("/collections/rename", json!({"cid": cid, "name": "读过"})).await,
        ok()
    );
    let folders = reader.caller.get("/collections").await.json()["data"].clone();
    assert_eq!(
        folders,
        json!([{"cid": 0, "name": "默认收藏夹"}, {"cid": cid, "name": "读过"}])
    );
    let others = author.caller.post("/collections/delete", json!({"cid": cid})).await;
    assert_eq!(others.parts(), (200, failure(4, "收藏夹不存在")), "another's");
    assert_eq!(post("/collections/delete", json!({"cid": cid})).await, ok());
    assert_eq!(ids(&collected("cid=0".to_owned()).await), [first, second]);
    assert_eq!(read(&reader, first).await["data"]["collectCnt"], 1);
    app.stop().await;
}

async fn readings_are_counted_and_remembered(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let first = publish(&author, 0, "一", "内容").await;
    let second = publish(&author, 0, "二", "内容").await;
    for id in [first, second, first] {
        assert_eq!(read(&reader, id).await["code"], 0);
    }
    let reads = async |id: i64| read(&author, id).await["data"]["readCnt"].as_i64().unwrap();
    until("readings are counted", PATIENCE, async || {
        reads(first).await >= 2 && reads(second).await >= 1
    })
    .await;
    let history = async || {
        let reply = reader.caller.get("/articles/history?limit=10").await.json();
        let entries = reply["data"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry["article"]["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    until("history is written", PATIENCE, async || {
        history().await == [first, second]
    })
    .await;
    app.stop().await;
}

/// Comments on an article, or answers to the comment `parent`; returns the comment's id.
async fn comment(user: &User, id: i64, parent: i64, content: &str) -> i64 {
    let body = json!({"id": id, "parentId": parent, "content": content});
    let reply = user.caller.post("/articles/pub/comment", body).await.json();
    assert_eq!(reply["code"], 0, "{reply}");
    reply["data"]["id"].as_i64().unwrap()
}

async fn comments_are_threads(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let id = publish(&author, 0, "一", "内容").await;
    let root = comment(&reader, id, 0, "<script>alert(1)</script>").await;
    let mut replies = Vec::new();
    for n in 0..5 {
        replies.push(
            comment(
                &author,
                id,
                replies.last().copied().unwrap_or(root),
                &format!("回复{n}"),
            )
            .await,
        );
    }
    let other = comment(&author, id, 0, "第二条").await;
    let page = app
        .anonymous()
        .get(&format!("/articles/pub/comment/list?id={id}&limit=10"))
        .await;
    assert_eq!(ids(&page), [other, root]);
    let thread = page.json()["data"][1].clone();
    assert_eq!(
        thread["content"], "<script>alert(1)</script>",
        "stored as it was written"
    );
    assert_eq!(thread["replyCnt"], 5);
    let newest: Vec<_> = thread["replies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reply| reply["id"].clone())
        .collect();
    assert_eq!(newest, [replies[4], replies[3], replies[2]]);
    let more = app
        .anonymous()
        .get(&format!(
            "/articles/pub/comment/replies?rootId={root}&after={}&limit=2",
            replies[0]
        ))
        .await;
    assert_eq!(ids(&more), replies[1..3]);
    app.stop().await;
}

async fn comments_go_with_their_thread(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let id = publish(&author, 0, "一", "内容").await;
    let root = comment(&reader, id, 0, "第一条").await;
    comment(&author, id, root, "回复").await;
    let other = comment(&author, id, 0, "第二条").await;
    let delete = async |user: &User, id: i64| {
        user.caller
            .post("/articles/pub/comment/delete", json!({"id": id}))
            .await
            .parts()
    };
    assert_eq!(
        delete(&author, root).await,
        (200, failure(4, "评论不存在")),
        "another's"
    );
    assert_eq!(delete(&reader, root).await, (200, ok()));
    let page = app
        .anonymous()
        .get(&format!("/articles/pub/comment/list?id={id}&limit=10"))
        .await;
    assert_eq!(ids(&page), [other]);
    let gone = author
        .caller
        .post(
            "/articles/pub/comment",
            json!({"id": id, "parentId": root, "content": "晚了"}),
        )
        .await;
    assert_eq!(gone.parts(), (200, failure(4, "评论不存在")));
    let empty = author
        .caller
        .post("/articles/pub/comment", json!({"id": id, "content": " "}))
        .await;
    assert_eq!(empty.parts(), (200, failure(4, "评论不能为空")));
    app.stop().await;
}

async fn follows_and_their_feed(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let first = publish(&author, 0, "一", "内容").await;
    let uid = read(&reader, first).await["data"]["authorId"].as_i64().unwrap();
    let follow = async |path: &str| reader.caller.post(path, json!({"uid": uid})).await.parts();
    assert_eq!(follow("/follow/follow").await, (200, ok()));
    assert_eq!(follow("/follow/follow").await, (200, ok()));
    let stats = reader.caller.get(&format!("/follow/stats?uid={uid}")).await.json();
    assert_eq!(stats["data"], json!({"followers": 1, "followees": 0, "followed": true}));
    let stats = reader.caller.get("/follow/stats").await.json();
    assert_eq!(
        stats["data"],
        json!({"followers": 0, "followees": 1, "followed": false})
    );
    let followees = reader.caller.get("/follow/followees").await.json();
    assert_eq!(followees["data"]["users"][0]["id"], uid);
    let myself = author.caller.post("/follow/follow", json!({"uid": uid})).await;
    assert_eq!(myself.parts(), (200, failure(4, "不能关注自己")));

    let second = publish(&author, 0, "二", "内容").await;
    let feed = async || {
        let page = reader.caller.get("/follow/feed").await.json();
        let articles = page["data"]["articles"].as_array().cloned().unwrap_or_default();
        articles
            .iter()
            .map(|article| article["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    until("both are in the feed", PATIENCE, async || {
        feed().await == [second, first]
    })
    .await;
    author.caller.post("/articles/withdraw", json!({"id": second})).await;
    until("the withdrawn one is not", PATIENCE, async || feed().await == [first]).await;
    assert_eq!(follow("/follow/cancel").await, (200, ok()));
    until("nothing is left", PATIENCE, async || feed().await.is_empty()).await;
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
