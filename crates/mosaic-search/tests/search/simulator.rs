//! Stands in for a server that speaks Elasticsearch's HTTP: exactly the calls that the adapter makes, and no others.
//!
//! Documents are kept with external versions and found after a refresh, as by the real one. Its scores are its own: the share of a
//! field's words that are looked for, times the field's boost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What the server keeps; outlives the server.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) indexes: Mutex<BTreeMap<String, Stored>>,
    /// What a request must carry, if anything.
    pub(crate) authorization: Option<String>,
    /// Is everything found at once, as if a refresh came after each change?
    pub(crate) refreshes: bool,
    /// How many indexes are still created without its being said.
    pub(crate) lost_creations: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Stored {
    /// By id: version and source, `None` once removed.
    written: BTreeMap<String, (i64, Option<Json>)>,
    visible: BTreeMap<String, Json>,
}

impl Stored {
    fn refresh(&mut self) {
        let written = self.written.iter();
        self.visible = written
            .filter_map(|(id, (_, source))| Some((id.clone(), source.clone()?)))
            .collect();
    }
}

/// A server that runs; dropped, it refuses connections.
pub(crate) struct Simulator {
    pub(crate) address: SocketAddr,
    pub(crate) kept: Arc<Kept>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<tokio::task::JoinHandle<()>>,
}

impl Simulator {
    /// Starts at `address` with what another has kept.
    pub(crate) async fn start_with(address: SocketAddr, kept: Arc<Kept>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(kept.clone());
        #[expect(clippy::disallowed_methods, reason = "a server of a test, awaited by its stop")]
        let ended = tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                _ = stopped => {}
            }
        });
        Self {
            address,
            kept,
            stop: Some(stop),
            ended: Some(ended),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("elasticsearch://{}/test-", self.address)
    }

    /// Ends the server, and returns once nobody can connect.
    pub(crate) async fn stop(mut self) -> (SocketAddr, Arc<Kept>) {
        self.stop.take().unwrap().send(()).unwrap();
        self.ended.take().unwrap().await.unwrap();
        (self.address, self.kept.clone())
    }
}

fn router(kept: Arc<Kept>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/{index}", get(exists).put(create).delete(drop_index))
        .route("/{index}/_bulk", post(bulk))
        .route("/{index}/_search", post(search))
        .route("/{index}/_refresh", post(refresh))
        .with_state(kept)
}

type Server = State<Arc<Kept>>;

fn failure(status: StatusCode, kind: &str) -> Response {
    (
        status,
        axum::Json(json!({"error": {"type": kind}, "status": status.as_u16()})),
    )
        .into_response()
}

fn done(body: Json) -> Response {
    axum::Json(body).into_response()
}

impl Kept {
    /// Does something with an index, for somebody who may and who says what his body is.
    fn with(
        &self,
        headers: &HeaderMap,
        kind: Option<&str>,
        name: &str,
        work: impl FnOnce(&mut Stored) -> Response,
    ) -> Response {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        if header("authorization") != self.authorization.as_deref() {
            return failure(StatusCode::UNAUTHORIZED, "security_exception");
        }
        if header("content-type") != kind {
            return failure(StatusCode::NOT_ACCEPTABLE, "media_type_header_exception");
        }
        match self.indexes.lock().unwrap().get_mut(name) {
            Some(stored) => work(stored),
            None => failure(StatusCode::NOT_FOUND, "index_not_found_exception"),
        }
    }
}

async fn root(State(kept): Server, headers: HeaderMap) -> Response {
    let header = headers.get("authorization").map(|value| value.to_str().unwrap());
    if header != kept.authorization.as_deref() {
        return failure(StatusCode::UNAUTHORIZED, "security_exception");
    }
    done(json!({"version": {"number": "8.19.0"}}))
}

async fn exists(State(kept): Server, Path(index): Path<String>, headers: HeaderMap) -> Response {
    kept.with(&headers, None, &index, |_| {
        done(json!({index.clone(): {"aliases": {}}}))
    })
}

async fn create(State(kept): Server, Path(index): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["mappings"]["dynamic"], "strict");
    assert_eq!(body["settings"]["index"]["gc_deletes"], "1h");
    kept.indexes.lock().unwrap().entry("probe".to_owned()).or_default();
    let allowed = kept.with(&headers, Some("application/json"), "probe", |_| done(json!({})));
    let mut indexes = kept.indexes.lock().unwrap();
    indexes.remove("probe");
    if allowed.status() != StatusCode::OK {
        return allowed;
    }
    if indexes.contains_key(&index) {
        return failure(StatusCode::BAD_REQUEST, "resource_already_exists_exception");
    }
    indexes.insert(index.clone(), Stored::default());
    let one_less = |left: usize| left.checked_sub(1);
    let lost = kept
        .lost_creations
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    if lost.is_ok() {
        return failure(StatusCode::GATEWAY_TIMEOUT, "timeout");
    }
    done(json!({"acknowledged": true, "shards_acknowledged": true, "index": index}))
}

async fn drop_index(State(kept): Server, Path(index): Path<String>, headers: HeaderMap) -> Response {
    let answer = kept.with(&headers, None, &index, |_| done(json!({"acknowledged": true})));
    if answer.status() == StatusCode::OK {
        kept.indexes.lock().unwrap().remove(&index);
    }
    answer
}

async fn refresh(State(kept): Server, Path(index): Path<String>, headers: HeaderMap) -> Response {
    kept.with(&headers, None, &index, |stored| {
        stored.refresh();
        done(json!({"_shards": {"total": 1, "successful": 1, "failed": 0}}))
    })
}

async fn bulk(State(kept): Server, Path(index): Path<String>, headers: HeaderMap, body: String) -> Response {
    kept.with(&headers, Some("application/x-ndjson"), &index, |stored| {
        assert!(body.ends_with('\n'), "a bulk request ends with a line feed");
        let mut lines = body.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let (mut items, mut errors) = (Vec::new(), false);
        while let Some(line) = lines.next() {
            let (action, subject) = line.as_object().unwrap().iter().next().unwrap();
            assert_eq!(subject["version_type"], "external_gte");
            let (id, version) = (subject["_id"].as_str().unwrap(), subject["version"].as_i64().unwrap());
            let source = match action.as_str() {
                "index" => lines.next(),
                "delete" => None,
                other => panic!("no such action: {other}"),
            };
            let known = stored.written.get(id);
            let status = match known {
                Some((later, _)) if *later > version => 409,
                Some((_, Some(_))) => 200,
                _ if source.is_none() => 404,
                _ => 201,
            };
            errors |= status >= 400;
            if status != 409 {
                stored.written.insert(id.to_owned(), (version, source));
            }
            items.push(json!({action: {"_id": id, "_version": version, "status": status}}));
        }
        done(json!({"took": 1, "errors": errors, "items": items}))
    })
}

async fn search(State(kept): Server, Path(index): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Json = serde_json::from_slice(&body).unwrap();
    let refreshes = kept.refreshes;
    kept.with(&headers, Some("application/json"), &index, |stored| {
        if refreshes {
            stored.refresh();
        }
        let (query, functions) = match body["query"].get("function_score") {
            Some(scored) => {
                assert_eq!(
                    (&scored["score_mode"], &scored["boost_mode"]),
                    (&json!("multiply"), &json!("multiply"))
                );
                (
                    &scored["query"]["bool"],
                    scored["functions"].as_array().unwrap().clone(),
                )
            }
            None => (&body["query"]["bool"], Vec::new()),
        };
        let mut found: Vec<_> = stored
            .visible
            .iter()
            .filter(|(_, source)| {
                query["filter"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|filter| fulfils(source, filter))
            })
            .map(|(id, source)| {
                (
                    id,
                    source,
                    score(source, &query["must"][0]["multi_match"]) * factor(id, &functions),
                )
            })
            .filter(|(_, _, score)| *score > 0.0)
            .collect();
        found.sort_by(|one, other| other.2.total_cmp(&one.2));
        let (from, size) = (body["from"].as_u64().unwrap(), body["size"].as_u64().unwrap());
        let page = found
            .into_iter()
            .skip(usize::try_from(from).unwrap())
            .take(usize::try_from(size).unwrap());
        let hits = page.map(|(id, source, score)| {
            let returned = body["_source"][0].as_str().unwrap();
            json!({"_index": index, "_id": id, "_score": score, "_source": {returned: source[returned]}})
        });
        done(json!({"took": 1, "timed_out": false, "hits": {"max_score": null, "hits": hits.collect::<Vec<_>>()}}))
    })
}

fn values(value: &Json) -> Vec<&Json> {
    match value {
        Json::Array(values) => values.iter().collect(),
        Json::Null => Vec::new(),
        one => vec![one],
    }
}

fn fulfils(source: &Json, filter: &Json) -> bool {
    let (kind, named) = filter.as_object().unwrap().iter().next().unwrap();
    let (name, wanted) = named.as_object().unwrap().iter().next().unwrap();
    values(&source[name]).into_iter().any(|value| match kind.as_str() {
        "terms" => wanted.as_array().unwrap().contains(value),
        "range" => (wanted["gte"].as_i64()..=wanted["lte"].as_i64()).contains(&value.as_i64()),
        other => panic!("no such filter: {other}"),
    })
}

fn score(source: &Json, multi_match: &Json) -> f64 {
    assert_eq!(
        (&multi_match["type"], &multi_match["operator"]),
        (&json!("most_fields"), &json!("or"))
    );
    let wanted: Vec<_> = multi_match["query"].as_str().unwrap().split(' ').collect();
    let of_field = |field: &Json| {
        let (name, boost) = field.as_str().unwrap().split_once('^').unwrap();
        let texts = values(&source[name]).into_iter().map(|text| text.as_str().unwrap());
        let words: Vec<_> = texts.flat_map(|text| text.split(' ')).collect();
        let n_found = words.iter().filter(|word| wanted.contains(word)).count();
        boost.parse::<f64>().unwrap() * n_found as f64 / words.len().max(1) as f64
    };
    multi_match["fields"].as_array().unwrap().iter().map(of_field).sum()
}

fn factor(id: &str, functions: &[Json]) -> f64 {
    let matching = functions.iter().filter(|function| {
        let ids = function["filter"]["ids"]["values"].as_array().unwrap();
        ids.contains(&json!(id))
    });
    matching.map(|function| function["weight"].as_f64().unwrap()).product()
}
