//! How answers look from outside, in each envelope style.
//!
//! One place renders successes and one renders errors; nothing else writes a body. The styles are contracts with
//! clients that exist, which is why they differ in what an HTTP status means.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use mosaic_core::{Code, Envelope, Error};
use serde_json::json;

use crate::Output;

/// Renders a success of a method with the envelope `style`; `ok_message` replaces the style's own, if not empty.
pub fn render_ok(style: Envelope, ok_message: &str, mut output: Output) -> Response {
    let number = match style {
        Envelope::Plain => None,
        Envelope::Content => Some("0"),
        Envelope::Homestay => Some("200"),
    };
    let message = if ok_message.is_empty() { "OK" } else { ok_message };
    let headers = std::mem::take(&mut output.headers);
    let body = match number {
        None => output.into_body(),
        Some(number) => output.into_wrapped(|out| {
            write!(out, "{{\"code\":{number},\"msg\":")?;
            serde_json::to_writer(&mut *out, message)?;
            out.write_all(b",\"data\":")
        }),
    };
    let mut response = Response::new(Body::from(body));
    let into = response.headers_mut();
    into.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        into.append(name, value);
    }
    response
}

/// Renders `error` in the envelope `style`; `request_id` is what people quote to us.
pub fn render_error(style: Envelope, error: &Error, request_id: &str) -> Response {
    let (status, body) = match style {
        Envelope::Plain => problem(error, request_id),
        Envelope::Content => content(error),
        Envelope::Homestay => homestay(error),
    };
    let content_type = if style == Envelope::Plain {
        "application/problem+json"
    } else {
        "application/json"
    };
    let mut response = Response::new(Body::from(body.as_ref().map(ToString::to_string).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if error.code() == Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = error.retry_after() {
        // Rounded up: one who comes back early is refused again.
        let secs = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(secs.max(1)));
    }
    response
}

type Rendered = (u16, Option<serde_json::Value>);

/// RFC 9457, with our reason and the fields that are wrong.
fn problem(error: &Error, request_id: &str) -> Rendered {
    let status = error.http_status();
    let mut body = json!({
        "type": "about:blank",
        "title": error.code().name(),
        "status": status,
        "detail": error.message(),
        "reason": error.reason(),
        "requestId": request_id,
    });
    if !error.field_violations().is_empty() {
        let violation =
            |found: &mosaic_core::Violation| json!({"field": found.field, "description": found.description});
        body["violations"] = error.field_violations().iter().map(violation).collect();
    }
    (status, Some(body))
}

/// `{code, msg, data}`: HTTP 200 for whatever the business says, HTTP errors for what never reached it.
fn content(error: &Error) -> Rendered {
    const USER: i32 = 4;
    const SYSTEM: i32 = 5;
    let body = |number: i32, message: &str| Some(json!({"code": number, "msg": message, "data": null}));
    match (error.number(), error.code(), error.http_status_override()) {
        (Some(number), ..) => (200, body(number, error.message())),
        (None, Code::Unauthenticated, _) => (401, None),
        // A body that does not parse is 400, whichever way it does not.
        (None, Code::InvalidArgument, Some(422)) => (400, body(USER, error.message())),
        (None, _, Some(status)) => (status, body(USER, error.message())),
        (None, Code::InvalidArgument, None) => (200, body(USER, error.message())),
        (None, Code::ResourceExhausted, None) => (429, body(USER, error.message())),
        (None, Code::Unavailable, None) => (503, body(SYSTEM, "系统错误")),
        (None, ..) => (200, body(SYSTEM, "系统错误")),
    }
}

/// `{code, msg}` with HTTP 400 for every failure but those that a proxy must see.
fn homestay(error: &Error) -> Rendered {
    const GENERAL: (i32, &str) = (100_001, "服务器开小差啦,稍后再来试一试");
    let body = |(number, message): (i32, &str)| Some(json!({"code": number, "msg": message}));
    match (error.number(), error.code()) {
        (Some(number), _) => (400, body((number, error.message()))),
        (None, Code::Unauthenticated) => (401, body((100_003, "token失效，请重新登陆"))),
        (None, Code::InvalidArgument) => {
            let status = error
                .http_status_override()
                .filter(|status| matches!(status, 413 | 415))
                .unwrap_or(400);
            (status, body((100_002, &format!("参数错误 ,{}", error.message()))))
        }
        (None, Code::ResourceExhausted) => (429, body((GENERAL.0, error.message()))),
        (None, Code::Unavailable) => (503, body(GENERAL)),
        (None, Code::NotFound | Code::Unimplemented) if error.http_status_override().is_some() => {
            (error.http_status(), body((GENERAL.0, error.message())))
        }
        (None, _) => (400, body(GENERAL)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn successes_in_every_style() {
        #[track_caller]
        fn output() -> Output {
            Output::json(&json!({"id": 1})).unwrap()
        }
        assert_eq!(text(render_ok(Envelope::Plain, "", output())).await, r#"{"id":1}"#);
        assert_eq!(
            text(render_ok(Envelope::Content, "", output())).await,
            r#"{"code":0,"msg":"OK","data":{"id":1}}"#
        );
        assert_eq!(
            text(render_ok(Envelope::Homestay, "", output())).await,
            r#"{"code":200,"msg":"OK","data":{"id":1}}"#
        );
        let nothing = Output::json(&json!({})).unwrap();
        assert_eq!(
            text(render_ok(Envelope::Content, "发送\"成功", nothing)).await,
            r#"{"code":0,"msg":"发送\"成功","data":null}"#
        );
        // Around the length of the room that answers leave for an envelope.
        for len in 0..100 {
            let message = "m".repeat(len);
            let said = if message.is_empty() { "OK" } else { &message };
            assert_eq!(
                text(render_ok(Envelope::Content, &message, output())).await,
                format!(r#"{{"code":0,"msg":"{said}","data":{{"id":1}}}}"#)
            );
        }
    }

    #[tokio::test]
    async fn errors_in_every_style() {
        struct Case(Error, (u16, &'static str), (u16, &'static str), u16);
        let general = r#"{"code":100001,"msg":"服务器开小差啦,稍后再来试一试"}"#;
        let cases = [
            Case(
                Error::not_found("USER_NOT_FOUND", "用户不存在").numbered(100_001),
                (200, r#"{"code":100001,"data":null,"msg":"用户不存在"}"#),
                (400, r#"{"code":100001,"msg":"用户不存在"}"#),
                404,
            ),
            Case(
                Error::internal("secret"),
                (200, r#"{"code":5,"data":null,"msg":"系统错误"}"#),
                (400, general),
                500,
            ),
            Case(
                Error::unauthenticated("TOKEN_INVALID", "no"),
                (401, ""),
                (401, r#"{"code":100003,"msg":"token失效，请重新登陆"}"#),
                401,
            ),
            Case(
                Error::invalid_argument("JSON_INVALID", "bad").with_http_status(422),
                (400, r#"{"code":4,"data":null,"msg":"bad"}"#),
                (400, r#"{"code":100002,"msg":"参数错误 ,bad"}"#),
                422,
            ),
            Case(
                Error::unavailable("DOWN", "down").caused_by("secret"),
                (503, r#"{"code":5,"data":null,"msg":"系统错误"}"#),
                (503, general),
                503,
            ),
        ];
        for Case(error, content, homestay, plain) in cases {
            for (style, (status, body)) in [(Envelope::Content, content), (Envelope::Homestay, homestay)] {
                let response = render_error(style, &error, "r");
                assert_eq!(response.status(), status, "{style:?} {error}");
                assert_eq!(text(response).await, body, "{style:?} {error}");
            }
            let response = render_error(Envelope::Plain, &error, "r");
            assert_eq!(response.status(), plain);
            assert!(!text(response).await.contains("secret"));
        }
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let error = Error::resource_exhausted("X", "x").with_retry_after(Duration::from_millis(1200));
        assert_eq!(
            render_error(Envelope::Plain, &error, "r").headers()[header::RETRY_AFTER],
            "2"
        );
    }
}
