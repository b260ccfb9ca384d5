//! What the engine elsewhere promises alone: a server that is away, slow, strange.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use mosaic_core::Error;
use mosaic_search::{Elasticsearch, Index, Options, Query, SearchEngine, open};
use tokio::net::TcpListener;

use crate::contract::{background, document, found, put, schema, simulator};
use crate::simulator::{Kept, Simulator};

fn options() -> Options {
    Options {
        timeout: Duration::from_millis(300),
        ..Options::default()
    }
}

fn engine(url: &str) -> Arc<dyn SearchEngine> {
    open(url, "unused".as_ref(), options(), &background()).unwrap()
}

fn assert_unavailable(error: &Error) {
    assert_eq!(
        (error.reason(), error.is_retryable()),
        ("SEARCH_UNAVAILABLE", true),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_comes_back_has_what_it_kept() {
    let server = simulator().await;
    let engine = engine(&server.url());
    let index = Index::create(engine.clone(), schema("items")).await.unwrap();
    put(&index, [document("1", 1, "tea", "")]).await;
    let (address, kept) = server.stop().await;
    assert_unavailable(&index.search(Query::new("tea")).await.unwrap_err());
    assert_unavailable(&index.put(vec![document("2", 1, "tea", "")]).await.unwrap_err());
    assert_unavailable(&engine.ping().await.unwrap_err());
    let _server = Simulator::start_with(address, kept).await;
    assert_eq!(found(&index, Query::new("tea")).await, ["1"]);
}

#[tokio::test]
async fn names_begin_with_the_prefix_and_end_with_the_schema() {
    let server = simulator().await;
    Index::create(engine(&server.url()), schema("items")).await.unwrap();
    let want = format!("test-items-{}", schema("items").fingerprint());
    let indexes = server.kept.indexes.lock().unwrap();
    assert_eq!(indexes.keys().collect::<Vec<_>>(), [&want]);
}

#[tokio::test]
async fn who_may_not_in_is_told_nothing_of_why() {
    let kept = Arc::new(Kept {
        authorization: Some("Basic YWRhOmh1bnRlcjI=".to_owned()),
        ..Kept::default()
    });
    let server = Simulator::start_with("127.0.0.1:0".parse().unwrap(), kept).await;
    engine(&format!("elasticsearch://ada:hunter2@{}", server.address))
        .ping()
        .await
        .unwrap();
    for url in [
        format!("elasticsearch://{}", server.address),
        format!("elasticsearch://ada:hunter3@{}", server.address),
    ] {
        let error = Index::open(engine(&url), schema("items")).await.unwrap_err();
        assert_unavailable(&error);
        assert!(
            error.cause_chain().contains("401") && !error.cause_chain().contains("hunter"),
            "{error:?}"
        );
    }
}

/// A server that answers everything with `status` and `body`.
async fn strange(status: StatusCode, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move || async move { (status, body) });
    #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("elasticsearch://{address}")
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_failure_of_the_server() {
    for (status, body) in [
        (StatusCode::OK, "<html>a gateway</html>".to_owned()),
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::OK, "x".repeat(20 << 20)),
        (StatusCode::BAD_GATEWAY, String::new()),
        (StatusCode::TOO_MANY_REQUESTS, "{}".to_owned()),
        (StatusCode::FOUND, "{}".to_owned()),
    ] {
        let engine = engine(&strange(status, body).await);
        let query = Query::new("tea").field("title", 1.0);
        assert_unavailable(&engine.search(&schema("items"), query).await.unwrap_err());
    }
}

#[tokio::test]
async fn a_batch_is_kept_as_a_whole_or_tried_again() {
    let item = |action: &str, status: u16| format!(r#"{{"{action}": {{"status": {status}}}}}"#);
    for (n_fine, last, want) in [
        (2, item("index", 409), None),
        (2, item("delete", 404), None),
        (2, item("index", 429), Some("SEARCH_UNAVAILABLE")),
        (2, item("index", 503), Some("SEARCH_UNAVAILABLE")),
        (2, item("index", 400), Some("INTERNAL")),
    ] {
        let mut items = vec![item("index", 201); n_fine];
        items.push(last);
        let body = format!(r#"{{"errors": true, "items": [{}]}}"#, items.join(","));
        let engine = engine(&strange(StatusCode::OK, body).await);
        let outcome = engine.put(&schema("items"), vec![document("1", 1, "", "")]).await;
        let reason = outcome.err().map(|error| error.reason().to_owned());
        assert_eq!(reason.as_deref(), want, "{items:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("elasticsearch://{}", listener.local_addr().unwrap());
    let engine = Elasticsearch::open(&url, &options()).unwrap();
    assert_unavailable(&engine.ping().await.unwrap_err());
}

#[tokio::test]
async fn a_url_of_no_engine_is_refused() {
    for url in ["", "redis://x", "http://es:9200", "elasticsearch:"] {
        let outcome = open(url, "unused".as_ref(), options(), &background());
        assert_eq!(outcome.err().unwrap().reason(), "SEARCH_URL_INVALID", "{url}");
    }
}
