//! How a request gets to the provider and its answer back: bounded in time and size, whoever answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use mosaic::{Context, Error, Result};

/// Carries requests to a provider.
#[mosaic::async_trait]
pub(crate) trait Transport: Send + Sync + 'static {
    /// Sends `request` and returns the answer, whatever its status; of its body at most `bytes_max`.
    ///
    /// # Errors
    /// `Unavailable` if there is no answer in time, or a larger one.
    async fn send(&self, cx: &Context, request: Request<Bytes>, bytes_max: u64) -> Result<Response<Bytes>>;
}

/// The provider over HTTP.
pub(crate) struct HttpTransport {
    client: reqwest::Client,
    timeout: Duration,
}

impl HttpTransport {
    /// Makes a transport whose answers take at most `timeout`.
    ///
    /// # Errors
    /// `Internal` if the HTTP client cannot be made.
    pub(crate) fn new(timeout: Duration) -> Result<Self> {
        Ok(Self {
            client: mosaic::partner_client(timeout)?,
            timeout,
        })
    }
}

#[mosaic::async_trait]
impl Transport for HttpTransport {
    async fn send(&self, cx: &Context, request: Request<Bytes>, bytes_max: u64) -> Result<Response<Bytes>> {
        let (head, body) = request.into_parts();
        let timeout = cx.remaining().map_or(self.timeout, |left| left.min(self.timeout));
        let request = self.client.request(head.method, head.uri.to_string());
        let sent = request.headers(head.headers).body(body).timeout(timeout).send().await;
        let mut answer = sent.map_err(|error| unavailable(error.without_url()))?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unavailable(error.without_url()))? {
            if (body.len() + chunk.len()) as u64 > bytes_max {
                return Err(unavailable("the answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// The provider's failure, never the user's.
pub(crate) fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("PAYMENT_PROVIDER_UNAVAILABLE", "the payment provider does not answer").caused_by(cause)
}
