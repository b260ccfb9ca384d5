//! What is reached from outside, for the public port: routes on the client, so that a process with them needs no payments.
//!
//! Bodies go on byte for byte, because signatures cover bytes.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::{HeaderMap, Method, StatusCode};
use mosaic::{Context, Runtime};
use mosaic_api::payments::v1::{HttpAnswer, HttpRequest, PaymentsClient};

use crate::{embedded, exchange};

/// Largest body that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone)]
struct Door {
    runtime: Runtime,
    payments: PaymentsClient,
}

/// Returns `POST /payments/wechat/notify`, where the provider says how payments went.
pub fn router(runtime: Runtime, payments: PaymentsClient) -> Router {
    Router::new()
        .route("/payments/wechat/notify", post(notify))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Door { runtime, payments })
}

/// Returns `/dev/wechat` with all below it: the embedded provider and the page on which its trades are paid.
///
/// For development only: who reaches it pays whatever he likes without money.
pub fn dev_router(runtime: Runtime, payments: PaymentsClient) -> Router {
    Router::new()
        .route(embedded::PATH, any(simulate))
        .route(&format!("{}/{{*rest}}", embedded::PATH), any(simulate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Door { runtime, payments })
}

async fn notify(State(door): State<Door>, target: OriginalUri, headers: HeaderMap, body: Bytes) -> Response {
    let request = carried(&Method::POST, &target, &headers, &body);
    let cx = Context::new(&door.runtime);
    answered(door.payments.notify(&cx, request).await)
}

async fn simulate(
    State(door): State<Door>,
    method: Method,
    target: OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = carried(&method, &target, &headers, &body);
    let cx = Context::new(&door.runtime);
    answered(door.payments.simulate(&cx, request).await)
}

fn carried(method: &Method, target: &OriginalUri, headers: &HeaderMap, body: &Bytes) -> HttpRequest {
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    HttpRequest {
        method: method.as_str().to_owned(),
        target: target.to_owned(),
        headers: exchange::headers(headers),
        body: body.to_vec(),
    }
}

fn answered(answer: mosaic::Result<HttpAnswer>) -> Response {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return mosaic::edge::render_error(mosaic::Envelope::Plain, &error, ""),
    };
    let status = u16::try_from(answer.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = answer.body.into_response();
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for header in answer.headers {
        if let (Ok(name), Ok(value)) = (header.name.parse::<http::HeaderName>(), header.value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
