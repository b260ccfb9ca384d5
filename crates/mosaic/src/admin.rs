//! Health, readiness and metrics, on a port of their own that nobody outside reaches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use mosaic_auth::TokenVerifier;
use mosaic_sql::Database;
use mosaic_telemetry::Metrics;
use serde_json::json;

/// How long a dependency may take to answer the question whether it is there.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Starting,
    Running,
    Stopping,
}

/// What the admin port knows. Shared with the process.
pub(crate) struct Health {
    phase: AtomicU8,
    pub(crate) metrics: Metrics,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) databases: Box<dyn Fn() -> Vec<(String, Database)> + Send + Sync>,
}

impl Health {
    pub(crate) fn new(
        metrics: Metrics,
        verifier: Arc<TokenVerifier>,
        databases: impl Fn() -> Vec<(String, Database)> + Send + Sync + 'static,
    ) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            metrics,
            verifier,
            databases: Box::new(databases),
        }
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Returns what keeps the process from being ready.
    pub(crate) async fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => obstacles.push("starting".to_owned()),
            phase if phase == Phase::Stopping as u8 => obstacles.push("stopping".to_owned()),
            _ => {}
        }
        if !self.verifier.is_ready() {
            obstacles.push("no keys to verify tokens yet".to_owned());
        }
        for (module, database) in (self.databases)() {
            if !matches!(tokio::time::timeout(PING_TIMEOUT, database.ping()).await, Ok(Ok(()))) {
                obstacles.push(format!("the database of {module} does not answer"));
            }
        }
        obstacles
    }
}

/// Returns the routes of the admin port.
pub(crate) fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let obstacles = health.obstacles().await;
    let status = if obstacles.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({"ready": obstacles.is_empty(), "waitingFor": obstacles})),
    )
        .into_response()
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        health.metrics.render(),
    )
        .into_response()
}
