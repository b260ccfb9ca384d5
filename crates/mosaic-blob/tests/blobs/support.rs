//! Engines, keys that no other run has, and requests as a client without credentials makes them.

use std::future::IntoFuture as _;
use std::sync::Arc;

use mosaic_blob::{BlobKey, Blobs, ContentType, OpenOptions, Presigned, open};
use mosaic_core::{Runtime, Secret};
use mosaic_testing::engine_url;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An engine, with what keeps it alive.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) directory: TempDir,
    space: String,
    _server: JoinSet<()>,
}

impl Engine {
    /// Returns a key that this run alone has.
    pub(crate) fn key(&self, rest: &str) -> BlobKey {
        format!("{}/{rest}", self.space).parse().expect("a clean key")
    }

    /// Returns what all keys of this run begin with.
    pub(crate) fn space(&self) -> &str {
        &self.space
    }
}

pub(crate) fn options(directory: &TempDir, public_url: String) -> OpenOptions {
    OpenOptions {
        data: directory.path().to_owned(),
        signing_key: Secret::new(vec![7; 32]),
        public_url,
        credentials: None,
    }
}

/// Files, with a server for their URLs.
pub(crate) async fn files() -> Engine {
    files_of(&Runtime::system()).await
}

pub(crate) async fn files_of(runtime: &Runtime) -> Engine {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let public_url = format!("http://{}", listener.local_addr().expect("a bound socket"));
    let opened = open("file:", options(&directory, public_url), runtime).expect("an engine");
    let mut server = JoinSet::new();
    let router = opened.router().expect("files have a router");
    server.spawn(async move { axum::serve(listener, router).into_future().await.expect("a server") });
    Engine {
        name: "file",
        blobs: opened.blobs(),
        directory,
        space: "run".to_owned(),
        _server: server,
    }
}

/// A real S3, if there is one.
pub(crate) fn s3() -> Option<Engine> {
    let url = engine_url("MOSAIC_TEST_S3")?;
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(&url, options(&directory, String::new()), &Runtime::system()).expect("an engine");
    Some(Engine {
        name: "s3",
        blobs: opened.blobs(),
        directory,
        space: format!("run-{}", Runtime::system().random_hex::<6>()),
        _server: JoinSet::new(),
    })
}

pub(crate) fn text() -> ContentType {
    "text/plain".parse().expect("a type")
}

/// Makes the request that was allowed, with what else a test wants of it.
pub(crate) fn request(presigned: &Presigned) -> reqwest::RequestBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let method = presigned.method.parse().expect("a method");
    let request = reqwest::Client::new().request(method, &presigned.url);
    let headers = presigned.headers.iter().filter(|(name, _)| *name != "content-length");
    headers.fold(request, |request, (name, value)| request.header(*name, value))
}
