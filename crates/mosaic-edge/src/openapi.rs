//! The API as a document and as a page to read and try it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use mosaic_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::Edge;

/// Returns `/openapi.json` and the page at `/docs`.
pub(crate) fn routes() -> Router<Arc<Edge>> {
    Router::new()
        .route("/openapi.json", get(document))
        .route("/docs", get(page))
}

async fn document(State(edge): State<Arc<Edge>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], edge.openapi().to_owned()).into_response()
}

/// The page is one file without foreign scripts: what it may do is said in its policy.
async fn page() -> Response {
    let mut response = Html(include_str!("docs.html")).into_response();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// Makes one OpenAPI 3.1 document of the documents of several services.
///
/// # Errors
/// `Internal` if one is no JSON object, which no generated document is.
pub(crate) fn merge(documents: &[&str]) -> Result<String> {
    let mut merged = json!({
        "openapi": "3.1.0",
        "info": {"title": "Mosaic platform", "version": env!("CARGO_PKG_VERSION")},
        "tags": [], "paths": {}, "components": {},
    });
    for text in documents.iter().filter(|text| !text.is_empty()) {
        let document: Value = serde_json::from_str(text).map_err(Error::internal)?;
        if let (Some(tags), Some(more)) = (merged["tags"].as_array_mut(), document["tags"].as_array()) {
            tags.extend(more.iter().cloned());
        }
        for section in ["paths", "components"] {
            if let (Value::Object(into), Value::Object(from)) = (&mut merged[section], &document[section]) {
                unite(into, from);
            }
        }
    }
    Ok(merged.to_string())
}

/// Adds what `from` has; where both have an object, their fields are united.
fn unite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => unite(into, from),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_united() {
        let a = r#"{"paths":{"/a":{"get":1}},"components":{"schemas":{"A":1}},"tags":[{"name":"a"}]}"#;
        let b = r#"{"paths":{"/a":{"post":2},"/b":{}},"components":{"schemas":{"B":2}},"tags":[{"name":"b"}]}"#;
        let merged: Value = serde_json::from_str(&merge(&[a, "", b]).unwrap()).unwrap();
        assert_eq!(merged["paths"], json!({"/a": {"get": 1, "post": 2}, "/b": {}}));
        assert_eq!(merged["components"]["schemas"], json!({"A": 1, "B": 2}));
        assert_eq!(merged["tags"].as_array().unwrap().len(), 2);
    }
}
