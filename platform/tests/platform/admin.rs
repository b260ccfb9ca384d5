//! Health, readiness, metrics, documents.

use mosaic_testing::Shape;
use serde_json::json;

use crate::support::{content_user, start};

#[tokio::test]
async fn the_admin_port_answers() {
    let app = start(Shape::Together).await;
    content_user(&app, "a@b.com").await;
    assert_eq!(app.admin("/healthz").await.text, "ok\n");
    assert_eq!(
        app.admin("/readyz").await.parts(),
        (200, json!({"ready": true, "waitingFor": []}))
    );
    let metrics = app.admin("/metrics").await.text;
    for name in [
        "mosaic_calls_total{",
        "mosaic_http_request_seconds_bucket{",
        "route=\"/users/login\"",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics:.3000}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_document_and_its_page_are_there() {
    let app = start(Shape::Together).await;
    let document = app.anonymous().get("/openapi.json").await;
    assert_eq!((document.status, &document.json()["openapi"]), (200, &json!("3.1.0")));
    let page = app.anonymous().get("/docs").await;
    assert!(
        page.status == 200
            && page.text.contains("/openapi.json")
            && page.header("content-security-policy").contains("default-src 'none'")
    );
    app.stop().await;
}

/// The document is checked in, so that a change of the API is seen in a review. `BLESS=1` writes it anew.
#[tokio::test]
async fn the_document_is_the_one_that_is_checked_in() {
    let app = start(Shape::Together).await;
    let document = app.anonymous().get("/openapi.json").await.json();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let text = format!("{document:#}\n");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == text,
        "docs/openapi.json is not what the contracts say; run with BLESS=1 and look at the change"
    );
    app.stop().await;
}

#[tokio::test]
async fn only_listed_origins_may_call_with_credentials() {
    let app = start(Shape::Together).await;
    let preflight = async |origin: &str| {
        let caller = app.anonymous();
        let request = caller
            .request(reqwest::Method::OPTIONS, "/users/login")
            .header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        caller
            .send(request.header("access-control-request-headers", "content-type,authorization"))
            .await
    };
    let ours = preflight("http://localhost:3000").await;
    assert_eq!(ours.status, 200);
    assert_eq!(ours.header("access-control-allow-origin"), "http://localhost:3000");
    assert_eq!(ours.header("access-control-allow-credentials"), "true");
    assert_eq!(ours.header("access-control-max-age"), "43200");
    for header in ["content-type", "authorization"] {
        assert!(ours.header("access-control-allow-headers").contains(header));
    }
    for evil in ["http://evil.test", "http://localhost:3000.evil.test", "null"] {
        assert_eq!(
            preflight(evil).await.header("access-control-allow-origin"),
            "",
            "{evil}"
        );
    }
    let reply = app
        .anonymous()
        .with_header("origin", "http://localhost:3000")
        .get("/users/profile")
        .await;
    let exposed = reply.header("access-control-expose-headers").to_owned();
    assert!(
        exposed.contains("x-jwt-token") && exposed.contains("x-refresh-token"),
        "{exposed}"
    );
    app.stop().await;
}
