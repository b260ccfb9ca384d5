//! A Kubernetes API server of a test's own: list and watch of EndpointSlices, and the ways in which it ends a watch.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;

/// What the server stores.
#[derive(Debug, Default)]
pub(crate) struct Store {
    slices: BTreeMap<String, Value>,
    version: u64,
    log: Vec<Entry>,
    n_told: u64,
    /// Versions up to this are forgotten.
    compacted: u64,
    /// The token that is asked for.
    pub(crate) token: Option<String>,
    pub(crate) n_lists: usize,
    pub(crate) n_watches: usize,
    /// How often running watches were ended: in order, and with 410.
    ended: [u64; 2],
}

/// An event that watches are told.
#[derive(Debug)]
struct Entry {
    number: u64,
    version: u64,
    event: Value,
}

impl Entry {
    fn is_for(&self, service: &str) -> bool {
        self.event["object"]["metadata"]["labels"].is_null() || is_of(&self.event["object"], service)
    }
}

pub(crate) struct ApiServer {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<()>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    /// Dropped, the server and all its connections are gone.
    running: JoinSet<()>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Store>>, watch::Sender<()>);

impl ApiServer {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut server = Self {
            store: Arc::default(),
            changed: watch::Sender::new(()),
            address: listener.local_addr().expect("an address"),
            tls,
            running: JoinSet::new(),
        };
        server.serve(listener);
        server
    }

    pub(crate) async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    pub(crate) async fn run_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port of before");
        self.serve(listener);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no panic")
    }

    /// Stores a slice and tells the watches.
    pub(crate) fn apply(&self, mut slice: Value) {
        let mut store = self.store();
        let name = slice["metadata"]["name"].as_str().expect("a name").to_owned();
        store.version += 1;
        slice["metadata"]["resourceVersion"] = json!(store.version.to_string());
        let kind = if store.slices.insert(name, slice.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        store.tell(kind, &slice);
        self.changed.send_replace(());
    }

    pub(crate) fn delete(&self, name: &str) {
        let mut store = self.store();
        store.version += 1;
        let mut slice = store.slices.remove(name).expect("a slice");
        slice["metadata"]["resourceVersion"] = json!(store.version.to_string());
        store.tell("DELETED", &slice);
        self.changed.send_replace(());
    }

    /// Sends an event that is none of a slice.
    pub(crate) fn tell(&self, kind: &str, object: &Value) {
        self.store().tell(kind, object);
        self.changed.send_replace(());
    }

    /// Moves the version on, as writes to other objects do.
    pub(crate) fn bookmark(&self) {
        let mut store = self.store();
        store.version += 1;
        let object = json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": store.version.to_string() } });
        store.tell("BOOKMARK", &object);
        self.changed.send_replace(());
    }

    /// Forgets the past: who watches from before must list again.
    pub(crate) fn compact(&self) {
        let mut store = self.store();
        store.compacted = store.version;
        store.log.clear();
    }

    /// Ends the running watches in order, as their time does.
    pub(crate) fn end_watches(&self) {
        self.store().ended[0] += 1;
        self.changed.send_replace(());
    }

    /// Ends the running watches with "410 Gone" on the stream.
    pub(crate) fn expire_watches(&self) {
        self.store().ended[1] += 1;
        self.changed.send_replace(());
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = Shared(self.store.clone(), self.changed.clone());
        let path = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices";
        let router = Router::new().route(path, get(slices)).with_state(shared);
        let tls = self.tls.clone();
        self.running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (router, tls) = (TowerToHyperService::new(router.clone()), tls.clone());
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    match tls {
                        None => drop(builder.serve_connection(TokioIo::new(stream), router).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(builder.serve_connection(TokioIo::new(stream), router).await);
                        }
                    }
                });
            }
        });
    }
}

impl Store {
    fn tell(&mut self, kind: &str, object: &Value) {
        self.log.push(Entry {
            number: self.n_told,
            version: self.version,
            event: json!({ "type": kind, "object": object }),
        });
        self.n_told += 1;
    }
}

fn status(code: StatusCode, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code.as_u16() })
}

async fn slices(
    State(Shared(store, changed)): State<Shared>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut known = store.lock().expect("no panic");
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    if known
        .token
        .as_ref()
        .is_some_and(|wanted| token != Some(&format!("Bearer {wanted}")))
    {
        let code = StatusCode::UNAUTHORIZED;
        return (code, axum::Json(status(code, "Unauthorized"))).into_response();
    }
    if namespace != "prod" {
        let code = StatusCode::FORBIDDEN;
        let message = "endpointslices.discovery.k8s.io is forbidden";
        return (code, axum::Json(status(code, message))).into_response();
    }
    let service = query["labelSelector"]
        .strip_prefix("kubernetes.io/service-name=")
        .expect("a selector");
    let service = service.to_owned();
    if !query.contains_key("watch") {
        known.n_lists += 1;
        let items: Vec<Value> = known
            .slices
            .values()
            .filter(|slice| is_of(slice, &service))
            .cloned()
            .collect();
        let version = known.version.to_string();
        let list = json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": version }, "items": items });
        return axum::Json(list).into_response();
    }
    let from: u64 = query["resourceVersion"].parse().expect("a version");
    if from < known.compacted {
        let code = StatusCode::GONE;
        return (code, axum::Json(status(code, "too old resource version"))).into_response();
    }
    known.n_watches += 1;
    let ended = known.ended;
    let next = known
        .log
        .iter()
        .find(|entry| entry.version > from)
        .map_or(known.n_told, |entry| entry.number);
    drop(known);
    let watching = Watching {
        store,
        changed: changed.subscribe(),
        service,
        next,
        ended,
    };
    let lines = futures::stream::unfold(Some(watching), async |watching| watching?.next().await);
    Body::from_stream(lines.map(Ok::<_, Infallible>)).into_response()
}

/// A watch that runs.
struct Watching {
    store: Arc<Mutex<Store>>,
    changed: watch::Receiver<()>,
    service: String,
    next: u64,
    ended: [u64; 2],
}

impl Watching {
    /// Returns the next line, and itself if more may come.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        loop {
            self.changed.mark_unchanged();
            {
                let store = self.store.lock().expect("no panic");
                let entry = store
                    .log
                    .iter()
                    .find(|entry| entry.number >= self.next && entry.is_for(&self.service));
                if let Some(entry) = entry {
                    self.next = entry.number + 1;
                    let line = line(&entry.event);
                    drop(store);
                    return Some((line, Some(self)));
                }
                if store.ended[0] != self.ended[0] {
                    return None;
                }
                if store.ended[1] != self.ended[1] {
                    let gone = status(StatusCode::GONE, "too old resource version");
                    return Some((line(&json!({ "type": "ERROR", "object": gone })), None));
                }
            }
            self.changed.changed().await.ok()?;
        }
    }
}

fn line(event: &Value) -> Bytes {
    format!("{event}\n").into()
}

fn is_of(object: &Value, service: &str) -> bool {
    object["metadata"]["labels"]["kubernetes.io/service-name"] == service
}
