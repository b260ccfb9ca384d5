//! What readers and authors can still do while one capability is away.
//!
//! The table is the promise. Which answers may lack something is configuration (`content.degrade`), and so is what is repeated and
//! limited (`guard`; the guide on resilience tells).

use mosaic_testing::{Caller, Reply, Shape, TestApp, until};
use serde_json::{Value, json};

use crate::articles::{PATIENCE, ids, publish, read, two};
use crate::support::{PASSWORD, User, ok, platform};

const MODULES: [&str; 14] = [
    "edge",
    "content",
    "comments",
    "feed",
    "search",
    "rewards",
    "relations",
    "ranking",
    "interaction",
    "payments",
    "ledger",
    "identity",
    "users",
    "messaging",
];

/// Who is away, whom they need themselves, and what fails meanwhile; everything else in [`Site::calls`] works.
const TABLE: [Row; 10] = [
    (&["interaction"], &[], &["like", "collect", "history"]),
    (&["users"], &[], &["profile"]),
    (&["identity", "messaging"], &[], &["login", "profile"]),
    (&["comments"], &[], &["comment", "comments"]),
    (&["relations"], &[], &["follow", "followers"]),
    (&["feed"], &["relations"], &["feed"]),
    (&["ranking"], &[], &[]),
    (&["search"], &["interaction"], &["search"]),
    (&["rewards"], &["payments", "ledger"], &["reward"]),
    (&["payments"], &[], &["reward"]),
];
type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

/// An author with an article, and a reader.
struct Site {
    anonymous: Caller,
    author: User,
    reader: User,
    article: i64,
    author_id: i64,
}

impl Site {
    async fn open(app: &TestApp) -> Self {
        let (author, reader) = two(app).await;
        let article = publish(&author, 0, "标题", "内容").await;
        let author_id = read(&reader, article).await["data"]["authorId"].as_i64().unwrap();
        let like = json!({"id": article, "like": true});
        assert_eq!(
            reader.caller.post("/articles/pub/like", like).await.parts(),
            (200, ok())
        );
        let anonymous = app.anonymous();
        until("it is ranked", PATIENCE, || async {
            ids(&anonymous.get("/articles/ranking/likes?n=10").await) == [article]
        })
        .await;
        assert_eq!(anonymous.get("/articles/ranking/hot").await.status, 200);
        Self {
            anonymous,
            author,
            reader,
            article,
            author_id,
        }
    }

    /// One of each kind of what clients ask for.
    async fn calls(&self) -> Vec<(&'static str, Reply)> {
        let (id, reader, author) = (self.article, &self.reader.caller, &self.author.caller);
        let text = json!({"id": id, "title": "新标题", "content": "新内容"});
        let credentials = json!({"email": "r@b.com", "password": PASSWORD});
        let follow = json!({"uid": self.author_id});
        let likes = json!({"id": id, "like": true});
        let collect = json!({"id": id, "cid": 0});
        let comment = json!({"id": id, "content": "好"});
        // An amount of its own each time: a code that is known would be answered without asking anybody.
        let reward = json!({"id": id, "amt": 100});
        let page = json!({"offset": 0, "limit": 10});
        vec![
            ("login", self.anonymous.post("/users/login", credentials).await),
            ("profile", reader.get("/users/profile").await),
            ("read", reader.get(&format!("/articles/pub/{id}")).await),
            ("edit", author.post("/articles/edit", text.clone()).await),
            ("publish", author.post("/articles/publish", text).await),
            ("own", author.get(&format!("/articles/detail/{id}")).await),
            ("list", author.post("/articles/list", page).await),
            ("hot", self.anonymous.get("/articles/ranking/hot").await),
            ("top", self.anonymous.get("/articles/ranking/likes?n=10").await),
            ("like", reader.post("/articles/pub/like", likes).await),
            ("collect", reader.post("/articles/pub/collect", collect).await),
            ("history", reader.get("/articles/history").await),
            ("comment", reader.post("/articles/pub/comment", comment).await),
            (
                "comments",
                self.anonymous.get(&format!("/articles/pub/comment/list?id={id}")).await,
            ),
            ("follow", reader.post("/follow/follow", follow).await),
            (
                "followers",
                reader.get(&format!("/follow/followers?uid={}", self.author_id)).await,
            ),
            ("feed", reader.get("/follow/feed").await),
            ("search", reader.get("/search?expression=%E6%A0%87%E9%A2%98").await),
            ("reward", reader.post("/articles/pub/reward", reward).await),
        ]
    }
}

/// Starts the platform with `away` in a process of their own, the second. Nobody gets ready without the keys of `identity`, so its
/// process is the first to start: the last one.
async fn start_beside(away: &'static [&'static str], needs: &[&'static str], degrade: &str) -> TestApp {
    let last = ["identity", "messaging"].iter().chain(needs).copied();
    let last: Vec<_> = last.filter(|module| !away.contains(module)).collect();
    let first = MODULES
        .into_iter()
        .filter(|module| !away.contains(module) && !last.contains(module));
    let mut lists: Vec<&'static [&'static str]> = vec![first.collect::<Vec<_>>().leak(), away];
    if !last.is_empty() {
        lists.push(last.leak());
    }
    let platform = platform(Shape::Apart(lists.leak()));
    platform.set("content.degrade", degrade).start().await
}

fn failed(calls: &[(&'static str, Reply)]) -> Vec<&'static str> {
    let is_ok = |reply: &Reply| reply.status == 200 && reply.json()["code"] == 0;
    calls
        .iter()
        .filter(|(_, reply)| !is_ok(reply))
        .map(|(name, _)| *name)
        .collect()
}

async fn all_but(position: usize) {
    let (away, needs, fails) = TABLE[position];
    let mut app = start_beside(away, needs, "interaction, users").await;
    let site = Site::open(&app).await;
    app.stop_process(1).await;
    let calls = site.calls().await;
    assert_eq!(failed(&calls), fails, "{away:?} away: {calls:#?}");
    for (name, reply) in &calls {
        let tells = fails.contains(name) && reply.text.contains(away[0]);
        assert!(!tells, "{name} tells of what is inside: {}", reply.text);
    }
    app.stop().await;
}

macro_rules! without {
    ($($name:ident: $position:literal),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            assert_eq!(stringify!($name), TABLE[$position].0[0]);
            all_but($position).await;
        }
    )*};
}

mod without {
    use super::{TABLE, all_but};
    without!(
        interaction: 0, users: 1, identity: 2, comments: 3, relations: 4, feed: 5, ranking: 6, search: 7, rewards: 8,
        payments: 9,
    );
}

/// What an article is worth without its counters is for who runs the site to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_counters_may_be_missing_is_configuration() {
    for (degrade, shown) in [("interaction", true), ("users", false)] {
        let mut app = start_beside(&["interaction"], &[], degrade).await;
        let site = Site::open(&app).await;
        assert_eq!(read(&site.reader, site.article).await["data"]["likeCnt"], 1);
        app.stop_process(1).await;
        let read = read(&site.reader, site.article).await;
        let state = |key: &str| read["data"][key].clone();
        if shown {
            assert_eq!(
                (state("content"), state("likeCnt"), state("liked")),
                (json!("内容"), json!(0), json!(false))
            );
        } else {
            assert_eq!((&read["code"], &read["data"]), (&json!(5), &Value::Null), "{read}");
        }
        app.stop().await;
    }
}
