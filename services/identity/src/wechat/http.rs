//! WeChat over its own protocol.
//!
//! Answers are bounded in time and size, redirects are not followed, and what is no answer of WeChat's (HTML, a gateway's
//! page) is a failure of WeChat's, never of the user's.

use std::time::Duration;

use mosaic::{Context, Error, Result, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{MiniSession, Person, Wechat, refused};
use crate::IdentityConfig;

const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Codes that say that the user's code is not good: invalid, used, expired, blocked.
const CODE_REFUSED: [i64; 4] = [40_029, 40_163, 42_003, 40_226];

/// App id and secret of one application at WeChat.
struct Credentials {
    app_id: String,
    secret: Secret<String>,
}

pub(crate) struct HttpWechat {
    client: reqwest::Client,
    api: String,
    scan: Credentials,
    mini: Credentials,
}

impl HttpWechat {
    /// Makes a client with `secret`; the mini-program may have an id and a secret of its own.
    ///
    /// # Errors
    /// `Internal` if the HTTP client cannot be made.
    pub(crate) fn new(config: &IdentityConfig, secret: Secret<String>) -> Result<Self> {
        let client = mosaic::partner_client(TIMEOUT)?;
        let mini = Credentials {
            app_id: config
                .wechat_mini_app_id
                .clone()
                .unwrap_or_else(|| config.wechat_app_id.clone()),
            secret: config.wechat_mini_app_secret.clone().unwrap_or_else(|| secret.clone()),
        };
        let scan = Credentials {
            app_id: config.wechat_app_id.clone(),
            secret,
        };
        Ok(Self {
            client,
            api: config.wechat_api.trim_end_matches('/').to_owned(),
            scan,
            mini,
        })
    }

    async fn get<T: DeserializeOwned>(&self, cx: &Context, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let mut request = self.client.get(format!("{}{path}?{query}", self.api));
        if let Some(remaining) = cx.remaining() {
            request = request.timeout(remaining.min(TIMEOUT));
        }
        // The URL holds our secret: errors must not.
        let mut response = request.send().await.map_err(|error| unanswered(error.without_url()))?;
        if !response.status().is_success() {
            return Err(unanswered(format!("HTTP {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unanswered(error.without_url()))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(unanswered("the answer is too large"));
            }
        }
        let failure: Failure = serde_json::from_slice(&body).map_err(unanswered)?;
        match failure.errcode {
            0 => serde_json::from_slice(&body).map_err(unanswered),
            code if CODE_REFUSED.contains(&code) => Err(refused(format!("errcode {code}"))),
            code => Err(unanswered(format!("errcode {code}"))),
        }
    }
}

fn unanswered(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("WECHAT_UNAVAILABLE", "WeChat does not answer").caused_by(cause)
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    errcode: i64,
}

#[mosaic::async_trait]
impl Wechat for HttpWechat {
    async fn exchange_code(&self, cx: &Context, code: &str) -> Result<Person> {
        #[derive(Deserialize)]
        struct Answer {
            openid: String,
            unionid: Option<String>,
        }
        let Credentials { app_id, secret } = &self.scan;
        let query = [
            ("appid", app_id.as_str()),
            ("secret", secret.expose()),
            ("code", code),
            ("grant_type", "authorization_code"),
        ];
        let answer: Answer = self.get(cx, "/sns/oauth2/access_token", &query).await?;
        Ok(Person {
            open_id: answer.openid,
            union_id: answer.unionid,
        })
    }

    async fn code_to_session(&self, cx: &Context, code: &str) -> Result<MiniSession> {
        #[derive(Deserialize)]
        struct Answer {
            openid: String,
            session_key: String,
            unionid: Option<String>,
        }
        let Credentials { app_id, secret } = &self.mini;
        let query = [
            ("appid", app_id.as_str()),
            ("secret", secret.expose()),
            ("js_code", code),
            ("grant_type", "authorization_code"),
        ];
        let answer: Answer = self.get(cx, "/sns/jscode2session", &query).await?;
        let session_key = Secret::new(answer.session_key);
        Ok(MiniSession {
            open_id: answer.openid,
            union_id: answer.unionid,
            session_key,
        })
    }
}
