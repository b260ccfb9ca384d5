//! HTTP as the contract carries it, and what a notification is answered.
//!
//! The provider repeats a notification until it reads 200, so 200 means: it is in the database, or it was there already, or a
//! human looks at it. 401 is for who is not the provider, 404 for a trade that is not there (yet: our commit may be on its
//! way), 503 and 500 for what is our fault.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use mosaic::{Code, Context, Error, Result};
use mosaic_api::payments::v1::{HttpAnswer, HttpHeader, HttpRequest};

use crate::settle::{Fact, Settlement};
use crate::wechat::wire::RefusalBody;
use crate::wechat::{Notice, Refusal, WechatPay};

/// Reads a request as the contract carries it.
///
/// # Errors
/// `InvalidArgument` for what is no HTTP.
pub(crate) fn request(request: HttpRequest) -> Result<Request<Bytes>> {
    let invalid = || Error::invalid_argument("HTTP_INVALID", "no HTTP request");
    let mut read = Request::new(Bytes::from(request.body));
    *read.method_mut() = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid())?;
    *read.uri_mut() = request.target.parse::<Uri>().map_err(|_| invalid())?;
    for HttpHeader { name, value } in request.headers {
        let name: HeaderName = name.parse().map_err(|_| invalid())?;
        let value: HeaderValue = value.parse().map_err(|_| invalid())?;
        read.headers_mut().append(name, value);
    }
    Ok(read)
}

/// Writes an answer as the contract carries it.
pub(crate) fn answer(answer: Response<Bytes>) -> HttpAnswer {
    HttpAnswer {
        status: answer.status().as_u16().into(),
        headers: headers(answer.headers()),
        body: answer.into_body().to_vec(),
    }
}

/// Writes headers as the contract carries them, without those that are no text.
pub(crate) fn headers(headers: &HeaderMap) -> Vec<HttpHeader> {
    let written = headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?.to_owned();
        let name = name.as_str().to_owned();
        Some(HttpHeader { name, value })
    });
    written.collect()
}

/// Takes a notification and says what is answered.
pub(crate) async fn notified(
    cx: &Context,
    wechat: &WechatPay,
    settlement: &Settlement,
    request: &Request<Bytes>,
) -> Response<Bytes> {
    let (status, what) = match take(cx, wechat, settlement, request).await {
        Ok(()) => (StatusCode::OK, "taken"),
        Err(NotTaken::Refused(refusal)) => refused(&refusal),
        Err(NotTaken::Failed(error)) => failed(&error),
    };
    metrics::counter!("payments_notices_total", "answer" => what).increment(1);
    let body = RefusalBody {
        code: if status.is_success() { "SUCCESS" } else { "FAIL" }.to_owned(),
        message: what.to_owned(),
    };
    let mut response = Response::new(serde_json::to_vec(&body).unwrap_or_default().into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

enum NotTaken {
    Refused(Refusal),
    Failed(Error),
}

async fn take(
    cx: &Context,
    wechat: &WechatPay,
    settlement: &Settlement,
    request: &Request<Bytes>,
) -> Result<(), NotTaken> {
    let notice = wechat.notice(request.headers(), request.body(), cx.runtime().now());
    let fact = match notice.map_err(NotTaken::Refused)? {
        Notice::Trade(fact) => Fact::Trade(fact),
        Notice::Refund(fact) => Fact::Refund(fact),
    };
    settlement.apply(cx, &fact).await.map(drop).map_err(NotTaken::Failed)
}

fn refused(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::Forged(forged) => {
            tracing::warn!(%forged, "a payment notification is not believed");
            (StatusCode::UNAUTHORIZED, "not_believed")
        }
        Refusal::Unreadable(_) => {
            tracing::error!(%refusal, "a payment notification cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, "unreadable")
        }
    }
}

fn failed(error: &Error) -> (StatusCode, &'static str) {
    if error.code() == Code::NotFound {
        return (StatusCode::NOT_FOUND, "unknown_trade");
    }
    tracing::error!(%error, cause = error.cause_chain(), "a payment notification could not be stored");
    (StatusCode::SERVICE_UNAVAILABLE, "failed")
}
