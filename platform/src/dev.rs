//! What only development mode has: a look into the outbox of the embedded message provider.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mosaic::{Context, Runtime};
use mosaic_api::messaging::v1::{ListSentRequest, MessagingClient};
use serde::Deserialize;

#[derive(Clone)]
struct Outbox {
    runtime: Runtime,
    messaging: MessagingClient,
}

#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    to: String,
}

/// Returns `GET /dev/outbox?to=`: the messages sent, newest first.
pub(crate) fn router(runtime: Runtime, messaging: MessagingClient) -> Router {
    Router::new()
        .route("/dev/outbox", get(outbox))
        .with_state(Outbox { runtime, messaging })
}

async fn outbox(State(outbox): State<Outbox>, Query(filter): Query<Filter>) -> Response {
    let request = ListSentRequest {
        to: filter.to,
        limit: 0,
    };
    match outbox
        .messaging
        .list_sent(&Context::new(&outbox.runtime), request)
        .await
    {
        Ok(sent) => Json(sent.messages).into_response(),
        Err(error) => mosaic::edge::render_error(mosaic::Envelope::Plain, &error, ""),
    }
}
