//! An engine elsewhere that speaks Elasticsearch's HTTP: Elasticsearch 7 and 8, OpenSearch.
//!
//! We cut texts into words before they are sent and have them taken apart at spaces only, so that nothing depends on plugins or on
//! the analyzers of a release, and both engines find the same; what is returned with hits is kept beside, unsearched. Versions are the
//! server's external ones. It forgets a removal, and with it the version, after [`body::REMOVALS_KEPT`]: far longer than anybody
//! repeats an old change.
//!
//! Answers are bounded in time and size, redirects are not followed; every failure but a refusal of what we said is `Unavailable`.

mod address;
mod answer;
mod body;

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Secret};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::Value as Json;

use crate::{Document, Hits, IndexSchema, Options, Query, Removal, SearchEngine, unavailable};
use address::Address;

/// Of 100 hits with what is returned of them, or of what became of 1000 changes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A batch takes longer than a question.
const CHANGES_TIMEOUT_FACTOR: u32 = 5;

/// See the module documentation.
pub struct Elasticsearch {
    client: reqwest::Client,
    base: String,
    authorization: Option<Secret<String>>,
    prefix: String,
    timeout: Duration,
}

impl Elasticsearch {
    /// Makes a client of the server of `url`: `elasticsearch://[user:password@]host[:9200][/prefix]`, or `https+elasticsearch://` for
    /// TLS. With the user `apikey` the password is an API key. Names of indexes begin with the prefix.
    ///
    /// # Errors
    /// `InvalidArgument` (`SEARCH_URL_INVALID`); internal if the HTTP client cannot be made.
    pub fn open(url: &str, options: &Options) -> Result<Self> {
        let address: Address = url.parse()?;
        // The one cryptography of the process; whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.timeout)
            .build()
            .map_err(Error::internal)?;
        Ok(Self {
            client,
            base: address.base,
            authorization: address.authorization,
            prefix: address.prefix,
            timeout: options.timeout,
        })
    }

    /// Returns the name of the index at the server: a schema has an index of its own.
    fn index(&self, schema: &IndexSchema) -> String {
        format!("{}{}-{}", self.prefix, schema.name(), schema.fingerprint())
    }

    async fn change(&self, schema: &IndexSchema, body: String) -> Result<()> {
        let path = format!("/{}/_bulk", self.index(schema));
        let timeout = self.timeout * CHANGES_TIMEOUT_FACTOR;
        let request = (Method::POST, path.as_str(), Some(("application/x-ndjson", body)));
        answer::check_changes(self.ask(request, timeout).await?.expect_success()?)
    }

    async fn ask(&self, request: (Method, &str, Option<(&str, String)>), timeout: Duration) -> Result<Answer> {
        let (method, path, body) = request;
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .timeout(timeout);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.expose());
        }
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let mut response = request.send().await.map_err(|error| unavailable(error.without_url()))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unavailable(error.without_url()))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(unavailable("the answer is too large"));
            }
        }
        let body = serde_json::from_slice(&bytes).map_err(|error| unavailable(format!("HTTP {status}: {error}")))?;
        Ok(Answer { status, body })
    }
}

/// What a server has said.
struct Answer {
    status: StatusCode,
    body: Json,
}

impl Answer {
    /// Returns the body of an answer that says that it was done.
    fn expect_success(self) -> Result<Json> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let cause = format!("HTTP {}, {}", self.status, self.failure());
        match self.status {
            // It has understood us, and we are wrong: the same again has the same end.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Err(Error::internal(cause)),
            _ => Err(unavailable(cause)),
        }
    }

    /// Returns what kind of failure it is; the reason of a failure may quote what people have written.
    fn failure(&self) -> &str {
        self.body["error"]["type"].as_str().unwrap_or("no reason")
    }
}

#[async_trait]
impl SearchEngine for Elasticsearch {
    async fn open(&self, schema: &IndexSchema) -> Result<bool> {
        let path = format!("/{}", self.index(schema));
        let answer = self.ask((Method::GET, &path, None), self.timeout).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        answer.expect_success().map(|_| true)
    }

    async fn create(&self, schema: &IndexSchema) -> Result<()> {
        let path = format!("/{}", self.index(schema));
        let body = body::index(schema);
        let timeout = self.timeout * CHANGES_TIMEOUT_FACTOR;
        let answer = self.ask((Method::PUT, &path, Some(json(&body))), timeout).await?;
        if answer.status == StatusCode::BAD_REQUEST && answer.failure() == "resource_already_exists_exception" {
            return Ok(());
        }
        answer.expect_success().map(drop)
    }

    async fn put(&self, schema: &IndexSchema, documents: Vec<Document>) -> Result<()> {
        self.change(schema, body::puts(schema, &documents)).await
    }

    async fn remove(&self, schema: &IndexSchema, removals: Vec<Removal>) -> Result<()> {
        self.change(schema, body::removals(&removals)).await
    }

    async fn search(&self, schema: &IndexSchema, query: Query) -> Result<Hits> {
        let Some(body) = body::search(&query) else {
            return Ok(Hits::default());
        };
        let path = format!("/{}/_search", self.index(schema));
        let request = (Method::POST, path.as_str(), Some(json(&body)));
        answer::hits(schema, self.ask(request, self.timeout).await?.expect_success()?)
    }

    async fn refresh(&self, schema: &IndexSchema) -> Result<()> {
        let path = format!("/{}/_refresh", self.index(schema));
        let answer = self.ask((Method::POST, &path, None), self.timeout * CHANGES_TIMEOUT_FACTOR);
        answer.await?.expect_success().map(drop)
    }

    async fn drop_index(&self, schema: &IndexSchema) -> Result<()> {
        let path = format!("/{}", self.index(schema));
        let answer = self
            .ask((Method::DELETE, &path, None), self.timeout * CHANGES_TIMEOUT_FACTOR)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        answer.expect_success().map(drop)
    }

    async fn ping(&self) -> Result<()> {
        self.ask((Method::GET, "/", None), self.timeout)
            .await?
            .expect_success()
            .map(drop)
    }
}

fn json(body: &Json) -> (&'static str, String) {
    ("application/json", body.to_string())
}

impl std::fmt::Debug for Elasticsearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elasticsearch")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}
