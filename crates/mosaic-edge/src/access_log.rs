//! The one place that writes a line about a request.
//!
//! A failure of ours is an error line with its causes (unless another process has it in its log), everything else one
//! line of information. Route patterns, never
//! paths: paths hold ids and worse. No address, no token, no body unless asked for, and then without its secrets.

use std::time::Duration;

use axum::response::Response;
use http::Method;
use mosaic_core::Error;
use serde_json::Value;

use crate::EdgeConfig;
use crate::layers::Failure;

/// Longest text from outside that a log line holds.
const TEXT_MAX: usize = 1024;

/// A request body as the log may show it; attached to the response by the route.
#[derive(Debug, Clone)]
pub(crate) struct LoggedBody(pub(crate) String);

/// What is known of a request when it is over, beside its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) trace_id: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) route: &'a str,
    pub(crate) elapsed: Duration,
}

/// Writes the line.
///
/// Outside the request's span, with the trace id as a field of its own: the JSON of a span is parsed anew for each line
/// within it, which would cost each request more than its line.
pub(crate) fn write(config: &EdgeConfig, line: &Line<'_>, response: &Response) {
    let Line {
        trace_id,
        method,
        route,
        elapsed,
    } = *line;
    let status = response.status().as_u16();
    let elapsed_ms = elapsed.as_secs_f64() * 1000.0;
    let failure = response.extensions().get::<Failure>().map(|failure| &*failure.0);
    let body = response
        .extensions()
        .get::<LoggedBody>()
        .map_or("", |body| body.0.as_str());
    if let Some(error) = failure.filter(|error| error.is_to_be_logged()) {
        let (code, reason, cause) = (error.code().name(), error.reason(), clean(&error.cause_chain()));
        tracing::error!(trace_id, http.method = %method, http.route = route, status, elapsed_ms, code, reason, cause, body, "request failed");
    } else if config.access_log.copied() {
        let reason = failure.map_or("", |error| error.reason());
        tracing::info!(trace_id, http.method = %method, http.route = route, status, elapsed_ms, reason, body, "request");
    }
}

/// Writes the line of an answer that began well and broke off.
pub(crate) fn broken_off(route: &str, error: &Error) {
    let (code, reason) = (error.code().name(), error.reason());
    if error.is_to_be_logged() {
        let cause = clean(&error.cause_chain());
        tracing::error!(http.route = route, code, reason, cause, "the answer broke off");
    } else {
        tracing::debug!(http.route = route, code, reason, "the answer broke off");
    }
}

/// Returns a body as the log may show it: values of `sensitive` fields masked, one line, cut at a kibibyte.
pub(crate) fn masked(body: &[u8], sensitive: &[&str]) -> LoggedBody {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            mask(&mut value, sensitive);
            value.to_string()
        }
        Err(_) if body.is_empty() => String::new(),
        Err(_) => format!("({} bytes that are no JSON)", body.len()),
    };
    LoggedBody(clean(&text))
}

fn mask(value: &mut Value, sensitive: &[&str]) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if sensitive.contains(&name.as_str()) {
                    *field = Value::from("***");
                } else {
                    mask(field, sensitive);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, sensitive)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns `text` as one line without control characters, cut at a kibibyte.
fn clean(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= TEXT_MAX {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_at_any_depth() {
        let body = br#"{"user":{"password":"hunter2","name":"a"},"list":[{"password":{"x":"hunter2"}}]}"#;
        let shown = masked(body, &["password"]).0;
        assert!(
            !shown.contains("hunter2") && shown.contains("\"name\":\"a\""),
            "{shown}"
        );
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(clean("a\r\nb\u{1b}[31m"), "a\\r\\nb\\u{1b}[31m");
        assert!(clean(&"x".repeat(1 << 20)).len() < 2 * TEXT_MAX);
        assert_eq!(masked(b"\xff\xfe", &[]).0, "(2 bytes that are no JSON)");
    }
}
