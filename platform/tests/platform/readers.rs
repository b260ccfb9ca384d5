//! What readers do with articles: like, collect, read again, comment, follow.

use mosaic_testing::{Shape, in_every_shape, until};
use serde_json::{Value, json};

use crate::articles::{PATIENCE, ids, publish, read, two};
use crate::support::{APART, User, failure, ok, start};

in_every_shape!(APART;
    likes_and_collections_are_counted,
    collected_articles_are_in_folders,
    readings_are_counted_and_remembered,
    comments_are_threads,
    comments_go_with_their_thread,
    follows_and_their_feed,
);

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
