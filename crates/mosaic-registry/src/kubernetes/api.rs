//! Two requests to the API server: list and watch the EndpointSlices of a service.
//!
//! Token and certificate are read from their files again and again: Kubernetes replaces the token of a pod every hour.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::slices::Metadata;
use crate::ServiceName;
use crate::tls::Tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// After this time the API server ends a watch, which is then begun anew where it stood.
const WATCH_SECS: u64 = 240;
/// The server is late by so much: the connection must be dead.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// A dead connection is noticed within 25 s although nothing is sent on it.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// A slice has at most a thousand endpoints.
const LINE_MAX: usize = 8 << 20;

/// Where the API server is, and who we are to it.
#[derive(Debug, Clone)]
pub(super) struct Api {
    /// `https://host[:port]`.
    pub(super) server: String,
    pub(super) token_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) namespace: Namespace,
}

/// Where the services are.
#[derive(Debug, Clone)]
pub(super) enum Namespace {
    Named(String),
    /// Our own, which this file says.
    OfFile(PathBuf),
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// What we would go on from is forgotten (410): list again.
    Gone,
    Other(String),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The address of the request says nothing, the cause does.
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Self::Other(format!("{error}{}", cause.unwrap_or_default()))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct List {
    pub(super) metadata: Metadata,
    pub(super) items: Option<Vec<Value>>,
}

/// One connection to the API server.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    url: String,
    token_file: Option<PathBuf>,
}

impl Api {
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        let unreadable = |error: std::io::Error| Failure::Other(format!("the certificate of the API server: {error}"));
        let mut client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_PROBES)
            .redirect(reqwest::redirect::Policy::none());
        // Without TLS as well: the library wants to be told which there is.
        let tls = Tls {
            ca: self.ca_file.clone(),
            identity: None,
        };
        client = client.tls_backend_preconfigured(tls.config().await.map_err(unreadable)?);
        let namespace = match &self.namespace {
            Namespace::Named(name) => name.clone(),
            Namespace::OfFile(file) => read(file).await?,
        };
        Ok(Session {
            client: client.build()?,
            url: format!(
                "{}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
                self.server
            ),
            token_file: self.token_file.clone(),
        })
    }
}

async fn read(file: &PathBuf) -> Result<String, Failure> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

impl Session {
    /// Returns all slices of a service.
    pub(super) async fn list(&self, service: &ServiceName) -> Result<List, Failure> {
        let response = self.get(service, &[], Some(LIST_TIMEOUT)).await?;
        Ok(response.json().await?)
    }

    /// Returns the changes after `version`, a line each.
    pub(super) async fn watch(&self, service: &ServiceName, version: &str) -> Result<Lines, Failure> {
        let secs = WATCH_SECS.to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", secs.as_str()),
        ];
        let begun = tokio::time::timeout(LIST_TIMEOUT, self.get(service, &query, None)).await;
        let late = |_| Failure::Other("the API server did not begin the watch in time".to_owned());
        Ok(Lines {
            response: begun.map_err(late)??,
            buffer: Vec::new(),
            n_scanned: 0,
        })
    }

    async fn get(
        &self,
        service: &ServiceName,
        query: &[(&str, &str)],
        timeout: Option<Duration>,
    ) -> Result<Response, Failure> {
        let selector = format!("kubernetes.io/service-name={service}");
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("labelSelector", &selector)
            .extend_pairs(query)
            .finish();
        let mut request = self.client.get(format!("{}?{query}", self.url));
        if let Some(file) = &self.token_file {
            request = request.bearer_auth(read(file).await?);
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let response = request.header("accept", "application/json").send().await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::GONE => Err(Failure::Gone),
            status => Err(refused(status, response).await),
        }
    }
}

/// Says why, in the words of the API server; a refusal is most often a missing role.
async fn refused(status: StatusCode, response: Response) -> Failure {
    let answer: Option<Value> = response.json().await.ok();
    let message = answer.as_ref().and_then(|answer| answer["message"].as_str());
    Failure::Other(format!(
        "the API server says {status}: {}",
        message.unwrap_or("no more")
    ))
}

/// The lines of an answer that goes on.
#[derive(Debug)]
pub(super) struct Lines {
    response: Response,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have no line end in them.
    n_scanned: usize,
}

impl Lines {
    /// Returns the next line; `None` after the last. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(position) = self.buffer[self.n_scanned..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.n_scanned + position + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.n_scanned = 0;
                return Ok(Some(line));
            }
            self.n_scanned = self.buffer.len();
            if self.n_scanned > LINE_MAX {
                return Err(Failure::Other("the API server sends a line without an end".to_owned()));
            }
            match self.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let longest = Duration::from_secs(WATCH_SECS) + WATCH_GRACE;
        match tokio::time::timeout(longest, self.response.chunk()).await {
            Ok(chunk) => Ok(chunk?),
            Err(_) => Err(Failure::Other("the API server is silent".to_owned())),
        }
    }
}
