//! What every engine promises.

use std::sync::Arc;

use mosaic_core::{Result, TaskGroup};
use mosaic_search::{
    Document, Elasticsearch, Field, Filter, Hits, Index, IndexSchema, Options, Query, Removal, SearchEngine, Tantivy,
    Value,
};
use tempfile::TempDir;

use crate::simulator::Simulator;

/// An engine, and what it needs to live.
pub(crate) struct Stage {
    pub(crate) engine: Arc<dyn SearchEngine>,
    _files: Option<TempDir>,
    _server: Option<Simulator>,
}

pub(crate) fn background() -> TaskGroup {
    TaskGroup::new(|panic| panic!("{panic:?}"))
}

async fn tantivy() -> Stage {
    let files = TempDir::new().unwrap();
    Stage {
        engine: Arc::new(Tantivy::new(files.path(), Options::default(), &background())),
        _files: Some(files),
        _server: None,
    }
}

pub(crate) async fn simulator() -> Simulator {
    Simulator::start_with("127.0.0.1:0".parse().unwrap(), Arc::default()).await
}

async fn elasticsearch() -> Stage {
    let server = simulator().await;
    Stage {
        engine: Arc::new(Elasticsearch::open(&server.url(), &Options::default()).unwrap()),
        _files: None,
        _server: Some(server),
    }
}

macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        mod on_tantivy { $(#[tokio::test] async fn $name() { super::$name(super::tantivy().await).await })* }
        mod on_elasticsearch { $(#[tokio::test] async fn $name() { super::$name(super::elasticsearch().await).await })* }
    };
}

on_every_engine!(
    a_document_is_found_by_its_words_and_returned,
    the_newest_version_is_found,
    an_older_version_changes_nothing,
    a_removed_document_does_not_come_back,
    chinese_is_found_by_a_word_inside_a_sentence,
    a_title_counts_for_more_than_a_text,
    what_somebody_likes_comes_first,
    filters_leave_the_rest_out,
    pages_follow_each_other,
    what_looks_like_a_query_language_is_text,
    what_is_too_much_is_refused,
    what_does_not_fit_the_schema_is_refused,
    changes_at_the_same_time_are_all_kept,
    a_dropped_index_begins_anew,
    indexes_know_nothing_of_each_other,
);

pub(crate) fn schema(name: &str) -> IndexSchema {
    let fields = [
        Field::text("title").boosted(4.0).returned(),
        Field::text("content"),
        Field::text("tags").returned(),
        Field::keyword("biz").returned(),
        Field::number("author").returned(),
    ];
    IndexSchema::new(name, fields).unwrap()
}

pub(crate) fn document(id: &str, version: i64, title: &str, content: &str) -> Document {
    Document::new(id, version)
        .with("title", title)
        .with("content", content)
        .with("biz", "article")
        .with("author", 7)
}

pub(crate) async fn open(stage: &Stage) -> Index {
    create(stage, "items").await
}

/// Creates an index where there is none.
async fn create(stage: &Stage, name: &str) -> Index {
    let engine = || stage.engine.clone();
    assert!(Index::open(engine(), schema(name)).await.unwrap().is_none());
    Index::create(engine(), schema(name)).await.unwrap()
}

pub(crate) async fn put(index: &Index, documents: impl Into<Vec<Document>>) {
    index.put(documents.into()).await.unwrap();
    index.refresh().await.unwrap();
}

pub(crate) async fn found(index: &Index, query: impl Into<Query>) -> Vec<String> {
    let hits = index.search(query.into()).await.unwrap();
    hits.ids().iter().map(|id| (*id).to_owned()).collect()
}

#[track_caller]
fn reason<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    outcome.unwrap_err().reason().to_owned()
}

async fn a_document_is_found_by_its_words_and_returned(stage: Stage) {
    stage.engine.ping().await.unwrap();
    let index = open(&stage).await;
    let tags = vec!["rust".to_owned(), "新手 入门".to_owned()];
    put(
        &index,
        [document("1", 1, "Hello, World", "of BIG cats 42").with("tags", tags.clone())],
    )
    .await;
    for words in [
        "hello",
        "WORLD",
        "cats",
        "42",
        "ｈｅｌｌｏ",
        "none of these",
        "rust",
        "新手",
    ] {
        assert_eq!(found(&index, Query::new(words)).await, ["1"], "{words}");
    }
    for words in ["hell", "orl", "", "  ", "!!"] {
        assert!(found(&index, Query::new(words)).await.is_empty(), "{words}");
    }
    let Hits { hits } = index.search(Query::new("hello")).await.unwrap();
    assert!(hits[0].score > 0.0);
    let values: Vec<_> = hits[0]
        .values
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let want = [
        ("author", Value::from(7)),
        ("biz", "article".into()),
        ("tags", tags.into()),
        ("title", "Hello, World".into()),
    ];
    assert_eq!(
        values, want,
        "what is returned is as it was put, and the content is not returned"
    );
}

async fn the_newest_version_is_found(stage: Stage) {
    let index = open(&stage).await;
    put(&index, [document("1", 1, "old", "")]).await;
    put(&index, [document("1", 2, "new", "")]).await;
    assert_eq!(found(&index, Query::new("new")).await, ["1"]);
    assert!(found(&index, Query::new("old")).await.is_empty());
    // Once more, as whoever does not know whether it arrived; then two in one batch.
    put(&index, [document("1", 2, "newer", "")]).await;
    assert_eq!(found(&index, Query::new("newer")).await, ["1"]);
    put(&index, [document("1", 4, "newest", ""), document("1", 3, "late", "")]).await;
    assert_eq!(found(&index, Query::new("newest late newer")).await, ["1"]);
    assert!(found(&index, Query::new("late newer")).await.is_empty());
}

async fn an_older_version_changes_nothing(stage: Stage) {
    let index = open(&stage).await;
    put(&index, [document("1", 5, "new", "")]).await;
    put(&index, [document("1", 4, "old", ""), document("2", 1, "other", "")]).await;
    index.remove(vec![Removal::new("1", 4)]).await.unwrap();
    index.refresh().await.unwrap();
    assert_eq!(found(&index, Query::new("new")).await, ["1"]);
    assert!(found(&index, Query::new("old")).await.is_empty());
    assert_eq!(
        found(&index, Query::new("other")).await,
        ["2"],
        "the rest of the batch is kept"
    );
}

async fn a_removed_document_does_not_come_back(stage: Stage) {
    let index = open(&stage).await;
    put(&index, [document("1", 1, "here", ""), document("2", 1, "here", "")]).await;
    index
        .remove(vec![Removal::new("1", 3), Removal::new("unknown", 1)])
        .await
        .unwrap();
    put(&index, [document("1", 2, "here", "")]).await;
    assert_eq!(found(&index, Query::new("here")).await, ["2"]);
    put(&index, [document("1", 4, "back", "")]).await;
    assert_eq!(found(&index, Query::new("back")).await, ["1"], "a later version may");
}

async fn chinese_is_found_by_a_word_inside_a_sentence(stage: Stage) {
    let index = open(&stage).await;
    let sentence = "我们用Rust2024重写了微服务框架，性能提升三倍。";
    put(
        &index,
        [
            document("1", 1, "重构笔记", sentence),
            document("2", 1, "今天天气很好", "出门散步"),
        ],
    )
    .await;
    for words in [
        "微服务",
        "服务",
        "框架",
        "性能提升",
        "rust2024",
        "RUST2024",
        "笔记",
        "倍",
        "Ｒｕｓｔ2024",
    ] {
        assert_eq!(found(&index, Query::new(words)).await, ["1"], "{words}");
    }
    assert_eq!(found(&index, Query::new("天气")).await, ["2"]);
    assert!(
        found(&index, Query::new("气天")).await.is_empty(),
        "the order of characters counts"
    );
}

async fn a_title_counts_for_more_than_a_text(stage: Stage) {
    let index = open(&stage).await;
    let documents = [
        document("content", 1, "one two", "mosaic three"),
        document("title", 1, "mosaic two", "one three"),
    ];
    put(&index, documents).await;
    assert_eq!(found(&index, Query::new("mosaic")).await, ["title", "content"]);
    let other = Query::new("mosaic").field("title", 1.0).field("content", 9.0);
    assert_eq!(found(&index, other).await, ["content", "title"]);
    assert_eq!(
        found(&index, Query::new("mosaic").field("content", 1.0)).await,
        ["content"]
    );
}

async fn what_somebody_likes_comes_first(stage: Stage) {
    let index = open(&stage).await;
    let documents: Vec<_> = ["a", "b", "c"].map(|id| document(id, 1, "tea", "time")).into();
    put(&index, documents).await;
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let query = Query::new("tea")
        .boost(ids(&["c", "nobody"]), 4.0)
        .boost(ids(&["b"]), 2.0);
    let Hits { hits } = index.search(query).await.unwrap();
    assert_eq!(
        hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(),
        ["c", "b", "a"]
    );
    let near = |one: f32, other: f32| (one / other - 1.0).abs() < 1e-3;
    assert!(
        near(hits[0].score, 4.0 * hits[2].score) && near(hits[1].score, 2.0 * hits[2].score),
        "{hits:?}"
    );
    let both = Query::new("tea").boost(ids(&["a", "b"]), 4.0).boost(ids(&["b"]), 2.0);
    assert_eq!(found(&index, both).await, ["b", "a", "c"]);
    let unmatched = Query::new("coffee").boost(ids(&["a"]), 4.0);
    assert!(
        found(&index, unmatched).await.is_empty(),
        "to be liked is not to be found"
    );
}

async fn filters_leave_the_rest_out(stage: Stage) {
    let index = open(&stage).await;
    let of = |id: &str, biz: &str, author: i64| document(id, 1, "tea", "").with("biz", biz).with("author", author);
    put(
        &index,
        [of("1", "article", 1), of("2", "article", 2), of("3", "video", 3)],
    )
    .await;
    let sorted = async |query: Query| {
        let mut ids = found(&index, query).await;
        ids.sort_unstable();
        ids.join(" ")
    };
    let query = || Query::new("tea");
    assert_eq!(sorted(query()).await, "1 2 3");
    assert_eq!(sorted(query().filter(Filter::is("biz", "article"))).await, "1 2");
    assert_eq!(
        sorted(query().filter(Filter::is("biz", "Article"))).await,
        "",
        "a keyword is as it is"
    );
    let any = Filter::AnyOf("biz".into(), vec!["video".into(), "none".into()]);
    assert_eq!(sorted(query().filter(any)).await, "3");
    assert_eq!(
        sorted(query().filter(Filter::Between("author".into(), 2, 3))).await,
        "2 3"
    );
    let both = query()
        .filter(Filter::is("biz", "article"))
        .filter(Filter::Between("author".into(), 2, i64::MAX));
    assert_eq!(sorted(both).await, "2");
    let plain = index.search(query()).await.unwrap().hits[0].score;
    let filtered = index
        .search(query().filter(Filter::is("biz", "video")))
        .await
        .unwrap()
        .hits[0]
        .score;
    assert!(
        (plain / filtered - 1.0).abs() < 1e-3,
        "a filter does not change scores: {plain}, {filtered}"
    );
}

async fn pages_follow_each_other(stage: Stage) {
    let index = open(&stage).await;
    // Each has more of the word than the one before, in texts that are equally long.
    let of = |n: usize| {
        document(
            &n.to_string(),
            1,
            &format!("{}{}", "tea ".repeat(n), "x ".repeat(30 - n)),
            "",
        )
    };
    put(&index, (1..=25).map(of).collect::<Vec<_>>()).await;
    let mut ids = Vec::new();
    for offset in [0, 10, 20, 30] {
        let page = found(&index, Query::new("tea").page(10, offset)).await;
        assert_eq!(page.len(), 25_usize.saturating_sub(offset).min(10));
        ids.extend(page);
    }
    let want: Vec<_> = (1..=25).rev().map(|n| n.to_string()).collect();
    assert_eq!(ids, want);
    for (limit, offset) in [(0, 0), (101, 0), (1, 5001)] {
        assert_eq!(
            reason(index.search(Query::new("tea").page(limit, offset)).await),
            "SEARCH_PAGE_INVALID"
        );
    }
    assert!(found(&index, Query::new("tea").page(100, 5000)).await.is_empty());
}

async fn what_looks_like_a_query_language_is_text(stage: Stage) {
    let index = open(&stage).await;
    let documents = [
        document("1", 1, "tea AND cake", "a b"),
        document("2", 1, "teapot", "title"),
    ];
    put(&index, documents).await;
    for text in [
        "(a+)+$",
        "\"tea\"",
        "tea AND NOT tea",
        "-tea",
        "tea OR",
        "tea~2",
        "{\"match_all\":{}} tea",
        "tea\\",
    ] {
        assert_eq!(found(&index, Query::new(text)).await, ["1"], "{text}");
    }
    // A field that is named, a range and wildcards are words like others, or none.
    assert_eq!(
        found(&index, Query::new("title:tea")).await.len(),
        2,
        "the word title is in a text of the other"
    );
    for text in [
        "%%%%",
        "*",
        "*:*",
        "?ea",
        "t?x",
        "*ea",
        "te*",
        "[* TO *]x",
        "/te./",
        "'; DROP TABLE x; --",
    ] {
        let ids = found(&index, Query::new(text)).await;
        assert!(ids.is_empty(), "{text} finds {ids:?}");
    }
}

async fn what_is_too_much_is_refused(stage: Stage) {
    let index = open(&stage).await;
    put(&index, [document("1", 1, "tea", "")]).await;
    let thousand: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    for text in ["x".repeat(10_240), thousand.join(" ")] {
        assert_eq!(reason(index.search(Query::new(text)).await), "SEARCH_QUERY_TOO_LONG");
    }
    assert_eq!(
        found(&index, Query::new(format!("tea {}", "y".repeat(1000)))).await,
        ["1"]
    );
    let ids = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(
        reason(index.search(Query::new("tea").boost(ids(4097), 2.0)).await),
        "SEARCH_QUERY_INVALID"
    );
    assert_eq!(found(&index, Query::new("tea").boost(ids(4096), 2.0)).await, ["1"]);
    let many: Vec<_> = ids(1001).iter().map(|id| document(id, 1, "", "")).collect();
    assert_eq!(reason(index.put(many).await), "SEARCH_DOCUMENT_INVALID");
    let large = document("2", 1, "", &"x".repeat(9 << 20));
    assert_eq!(reason(index.put(vec![large]).await), "SEARCH_DOCUMENT_INVALID");
}

async fn what_does_not_fit_the_schema_is_refused(stage: Stage) {
    let index = open(&stage).await;
    for document in [
        Document::new("", 1),
        Document::new("x".repeat(257), 1),
        Document::new("a\nb", 1),
        Document::new("1", 0),
        Document::new("1", 1).with("title", 5),
        Document::new("1", 1).with("author", "five"),
    ] {
        assert_eq!(reason(index.put(vec![document]).await), "SEARCH_DOCUMENT_INVALID");
    }
    assert_eq!(
        reason(index.put(vec![Document::new("1", 1).with("none", "x")]).await),
        "SEARCH_FIELD_UNKNOWN"
    );
    assert_eq!(
        reason(index.remove(vec![Removal::new("", 1)]).await),
        "SEARCH_DOCUMENT_INVALID"
    );
    for (query, why) in [
        (Query::new("x").field("none", 1.0), "SEARCH_FIELD_UNKNOWN"),
        (Query::new("x").field("biz", 1.0), "SEARCH_QUERY_INVALID"),
        (Query::new("x").field("title", -1.0), "SEARCH_QUERY_INVALID"),
        (Query::new("x").filter(Filter::is("title", "x")), "SEARCH_QUERY_INVALID"),
        (
            Query::new("x").filter(Filter::Between("author".into(), 2, 1)),
            "SEARCH_QUERY_INVALID",
        ),
        (Query::new("x").boost(vec![], f32::INFINITY), "SEARCH_QUERY_INVALID"),
    ] {
        assert_eq!(reason(index.search(query).await), why);
    }
}

async fn changes_at_the_same_time_are_all_kept(stage: Stage) {
    let index = open(&stage).await;
    let puts = (0..100).map(|n| {
        let index = index.clone();
        // Ten documents, each in ten versions, in no order.
        let (id, version) = (n % 10, (n * 7) % 100 / 10 + 1);
        async move {
            index
                .put(vec![document(&id.to_string(), version, &format!("v{version}"), "all")])
                .await
        }
    });
    futures::future::try_join_all(puts).await.unwrap();
    index.refresh().await.unwrap();
    assert_eq!(found(&index, Query::new("all").page(100, 0)).await.len(), 10);
    assert_eq!(found(&index, Query::new("v10").page(100, 0)).await.len(), 10);
}

async fn a_dropped_index_begins_anew(stage: Stage) {
    let index = open(&stage).await;
    put(&index, [document("1", 9, "tea", "")]).await;
    let again = Index::open(stage.engine.clone(), schema("items")).await.unwrap();
    assert_eq!(found(&again.unwrap(), Query::new("tea")).await, ["1"]);
    let again = Index::create(stage.engine.clone(), schema("items")).await.unwrap();
    assert_eq!(
        found(&again, Query::new("tea")).await,
        ["1"],
        "one that is there is kept"
    );
    again.drop_index().await.unwrap();
    index.clone().drop_index().await.unwrap();
    assert_eq!(reason(index.search(Query::new("tea")).await), "SEARCH_UNAVAILABLE");
    let index = open(&stage).await;
    put(&index, [document("1", 1, "coffee", "")]).await;
    assert_eq!(
        found(&index, Query::new("coffee tea")).await,
        ["1"],
        "versions are forgotten, too"
    );
}

async fn indexes_know_nothing_of_each_other(stage: Stage) {
    let (one, other) = (open(&stage).await, create(&stage, "users").await);
    put(&one, [document("1", 5, "tea", "")]).await;
    put(&other, [document("1", 1, "coffee", "")]).await;
    assert!(found(&one, Query::new("coffee")).await.is_empty());
    assert_eq!(found(&other, Query::new("coffee tea")).await, ["1"]);
}
