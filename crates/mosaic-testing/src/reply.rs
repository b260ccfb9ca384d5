//! What callers send and get.

use http::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// An HTTP answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as text.
    pub text: String,
}

impl Reply {
    /// Returns the body as JSON, `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// Returns the header `name` as text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Returns status and JSON, for one comparison.
    pub fn parts(&self) -> (u16, Value) {
        (self.status, self.json())
    }
}

/// Somebody who calls: with or without a token, all with the same methods.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) client: reqwest::Client,
    pub(crate) base: String,
    pub(crate) headers: HeaderMap,
}

impl Caller {
    /// Returns this caller with a bearer token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// Returns this caller with a header on each request.
    ///
    /// # Panics
    /// If name or value cannot stand in a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().expect("a header value"));
        self
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.post_text(path, "application/json", body.to_string()).await
    }

    /// Posts whatever text.
    pub async fn post_text(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(
            self.request(Method::POST, path)
                .header("content-type", content_type)
                .body(body),
        )
        .await
    }

    /// Gets.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    /// Makes a request of any method to be sent with [`Caller::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base))
            .headers(self.headers.clone())
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply {
            status,
            headers,
            text: response.text().await.expect("a body that is text"),
        }
    }
}
