//! The platform's public API, as its clients see it.
//!
//! When the platform asks to wait (429, 503) it is waited for, as long as it says; what is not answered, or failed for a reason
//! of the platform's own, is asked again a few times. All that is repeated may be repeated, but a comment and a new article: if
//! an answer is lost, there may be two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

use crate::console::Console;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts of a request that nobody answers.
const ATTEMPTS: u32 = 5;
/// Longest time that one request waits because it was asked to.
const PATIENCE: Duration = Duration::from_secs(900);
/// Wait when nobody says how long, and between attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// The envelope's number for a success.
pub(crate) const OK: i64 = 0;
/// The envelope's numbers for failures of the platform's own: that a database is too busy is one of them, and passes.
const ITS_OWN: [i64; 3] = [5, 501_001, 502_001];

/// Why the site cannot be filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "nobody listens at {0}. Start the platform in another terminal: ./dev up   (elsewhere: --url http://host:port)"
    )]
    NobodyListens(String),
    #[error("{0} is no public port of this platform: {1}")]
    Strange(String, String),
    #[error(
        "the platform does not answer {path} any more ({cause}). When it is back, the same command goes on where it was"
    )]
    Lost { path: String, cause: String },
    #[error("the platform still asks to wait with {path} after a quarter of an hour ({status})")]
    Impatient { path: String, status: u16 },
    #[error("{path} was refused: HTTP {status}, code {code}, {message}")]
    Refused {
        path: String,
        status: u16,
        code: i64,
        message: String,
    },
    #[error("{0} has another password here: name it with --password, or take another --seed")]
    Password(String),
}

/// A successful answer, or one that says in its envelope what is wrong.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Value,
    /// `x-jwt-token`
    pub(crate) token: String,
}

impl Reply {
    /// Turns what the envelope says is wrong into a failure.
    pub(crate) fn ok(self, path: &str) -> Result<Value, Failure> {
        if self.status == 200 && self.code == OK {
            return Ok(self.data);
        }
        Err(Failure::Refused {
            path: path.to_owned(),
            status: self.status,
            code: self.code,
            message: self.message,
        })
    }
}

/// See the module documentation.
pub(crate) struct Api {
    client: Client,
    base: String,
    console: Arc<Console>,
    n_waits: AtomicU64,
}

impl Api {
    /// Makes a client of the platform at `base`, and looks whether it is there.
    pub(crate) async fn connect(base: &str, console: Arc<Console>) -> Result<Self, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = base.trim_end_matches('/').to_owned();
        let strange = |what: &dyn std::fmt::Display| Failure::Strange(base.clone(), what.to_string());
        let client = Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| strange(&error))?;
        let hot = client.get(format!("{base}/articles/ranking/hot")).send().await;
        let answer = hot.map_err(|error| {
            if error.is_connect() {
                Failure::NobodyListens(base.clone())
            } else {
                strange(&error)
            }
        })?;
        let status = answer.status();
        let is_ours = status == StatusCode::SERVICE_UNAVAILABLE
            || answer.json::<Value>().await.is_ok_and(|body| body["code"].is_i64());
        if !is_ours {
            return Err(strange(&format!("HTTP {status} for /articles/ranking/hot")));
        }
        Ok(Self {
            client,
            base,
            console,
            n_waits: AtomicU64::new(0),
        })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns how often the platform asked to wait.
    pub(crate) fn n_waits(&self) -> u64 {
        self.n_waits.load(Ordering::Relaxed)
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Result<Reply, Failure> {
        self.call(Method::GET, path, token, None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Result<Reply, Failure> {
        self.call(Method::POST, path, token, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let (mut n_lost, mut waited) = (0, Duration::ZERO);
        loop {
            let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
            if !token.is_empty() {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = match request.send().await {
                Ok(answer) => match wait_wanted(&answer) {
                    Some(wait) if waited < PATIENCE => {
                        self.say_waiting(answer.status(), path);
                        waited += wait;
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                    Some(_) => {
                        let (path, status) = (path.to_owned(), answer.status().as_u16());
                        return Err(Failure::Impatient { path, status });
                    }
                    None => read(answer).await,
                },
                Err(error) => Err(error),
            };
            match answer {
                Ok(reply) if n_lost + 1 == ATTEMPTS || !ITS_OWN.contains(&reply.code) => return Ok(reply),
                Err(cause) if n_lost + 1 == ATTEMPTS => {
                    let (path, cause) = (path.to_owned(), root(&cause));
                    return Err(Failure::Lost { path, cause });
                }
                Ok(_) | Err(_) => n_lost += 1,
            }
            tokio::time::sleep(PAUSE * n_lost).await;
        }
    }

    /// Tells the first time what it is and what would lift it.
    fn say_waiting(&self, status: StatusCode, path: &str) {
        if self.n_waits.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        let remedy = if status == StatusCode::TOO_MANY_REQUESTS {
            "a limit of an address or of a caller; edge.rate_per_ip=0 and guard.rate=off lift them"
        } else {
            "it is busy; --parallel asks for less at a time"
        };
        let status = status.as_u16();
        self.console.say(&format!(
            "the platform asks to wait with {path}, HTTP {status}: {remedy}. Waiting, and going on"
        ));
    }
}

/// Returns how long the platform wants us to wait, if it does.
fn wait_wanted(answer: &Response) -> Option<Duration> {
    if !matches!(
        answer.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    let after = answer.headers().get(reqwest::header::RETRY_AFTER);
    let secs = after.and_then(|after| after.to_str().ok()?.parse().ok());
    Some(secs.map_or(PAUSE, Duration::from_secs))
}

async fn read(answer: Response) -> reqwest::Result<Reply> {
    let status = answer.status().as_u16();
    let token = answer.headers().get("x-jwt-token");
    let token = token
        .and_then(|token| token.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = answer.bytes().await?;
    // A 401 has no body.
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Reply {
        status,
        code: body["code"].as_i64().unwrap_or(-1),
        message: body["msg"].as_str().unwrap_or_default().to_owned(),
        data: body["data"].clone(),
        token,
    })
}

/// Returns the innermost cause, which is what a person understands.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
