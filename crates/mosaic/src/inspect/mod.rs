//! The admin port's view of tasks, events and what modules add: what people see of them and may do to them.
//!
//! JSON over HTTP, so that the commands of the program, a console and `curl` use the same door and every engine looks the same,
//! those in memory included. What changes something must carry the header `x-mosaic-admin`, which no page of another site can
//! send without asking first.

mod events;
mod modules;
mod tasks;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::Method;
use mosaic_core::{Envelope, Error};
use serde_json::Value;

use crate::work::Inspection;

/// The header that every change carries, whatever its value.
pub(crate) const ADMIN_HEADER: &str = "x-mosaic-admin";

/// What is inspected: nothing until the process has started its work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handle(Arc<OnceLock<Inspection>>);

impl Handle {
    /// Sets what is inspected, once.
    pub(crate) fn set(&self, inspection: Inspection) {
        let earlier = self.0.set(inspection);
        debug_assert!(earlier.is_ok(), "a process starts its work once");
    }

    fn get(&self) -> Result<&Inspection, Failed> {
        let starting = || Error::unavailable("STARTING", "the process is starting");
        Ok(self.0.get().ok_or_else(starting)?)
    }
}

/// Returns the routes below `/tasks`, `/events` and `/modules`.
pub(crate) fn router(handle: Handle) -> Router {
    Router::new()
        .merge(tasks::router())
        .merge(events::router())
        .merge(modules::router())
        .layer(middleware::from_fn(guarded))
        .with_state(handle)
}

async fn guarded(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && !request.headers().contains_key(ADMIN_HEADER) {
        let error = Error::permission_denied("ADMIN_HEADER_MISSING", "changes carry the header x-mosaic-admin");
        return Failed(error).into_response();
    }
    next.run(request).await
}

/// An error as the admin port tells it: a problem of RFC 9457, which the commands of the program can read.
#[derive(Debug)]
pub struct Failed(Error);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        mosaic_edge::render_error(Envelope::Plain, &self.0, "")
    }
}

type Answer = Result<axum::Json<Value>, Failed>;

/// Bytes as people read them: JSON where it is JSON, else text with what is none replaced.
fn shown(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}
