//! The one place where an [`Error`] becomes a gRPC status, and back.
//!
//! Reason, business number, field violations and retry advice travel as the standard details of `google.rpc`
//! (AIP-193), so that clients without Mosaic read them too. The cause chain does not travel.

use std::collections::HashMap;

use mosaic_core::{Code, Error, Violation};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

const DOMAIN: &str = "mosaic";
const NUMBER: &str = "number";
const HTTP_STATUS: &str = "http_status";
const RETRIED: &str = "retried";

/// Returns what the wire may know of `error`.
pub fn status_from_error(error: &Error) -> Status {
    let mut facts = HashMap::new();
    if let Some(number) = error.number() {
        facts.insert(NUMBER.to_owned(), number.to_string());
    }
    if let Some(status) = error.http_status_override() {
        facts.insert(HTTP_STATUS.to_owned(), status.to_string());
    }
    if mosaic_guard::was_retried(error) {
        facts.insert(RETRIED.to_owned(), "1".to_owned());
    }
    let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, facts);
    for violation in error.field_violations() {
        details.add_bad_request_violation(violation.field.as_str(), violation.description.as_ref());
    }
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(tonic::Code::from_i32(error.code() as i32), error.message(), details)
}

/// Returns the error that `status` stands for.
///
/// A failure of another process of ours is in the log of that process, with its causes, and in no other.
/// A status without our details (a proxy, another stack, the transport) gets the name of its code as its reason, and
/// its text becomes the private cause: strangers' texts are not shown to strangers.
pub fn error_from_status(status: &Status) -> Error {
    let code = Code::try_from(i32::from(status.code())).unwrap_or(Code::Unknown);
    let details = status.get_error_details();
    let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
        return foreign(code, status);
    };
    let mut error = Error::new(code, info.reason.clone(), status.message().to_owned()).logged();
    if let Some(number) = info.metadata.get(NUMBER).and_then(|text| text.parse().ok()) {
        error = error.numbered(number);
    }
    if let Some(http_status) = info.metadata.get(HTTP_STATUS).and_then(|text| text.parse().ok()) {
        error = error.with_http_status(http_status);
    }
    if let Some(after) = details.retry_info().and_then(|info| info.retry_delay) {
        error = error.with_retry_after(after);
    }
    if let Some(request) = details.bad_request() {
        let violation = |found: &tonic_types::FieldViolation| Violation {
            field: found.field.clone(),
            description: found.description.clone().into(),
        };
        error = error.with_violations(request.field_violations.iter().map(violation).collect());
    }
    if info.metadata.contains_key(RETRIED) {
        error = mosaic_guard::mark_retried(error);
    }
    error
}

fn foreign(code: Code, status: &Status) -> Error {
    // Timers of tonic, here and in servers elsewhere, call the end of `grpc-timeout` a cancellation.
    let code = match code {
        Code::Cancelled if status.message() == tonic::TimeoutExpired(()).to_string() => Code::DeadlineExceeded,
        Code::Unknown | Code::Internal if is_broken_connection(status) => Code::Unavailable,
        code => code,
    };
    let message = match code {
        Code::Unavailable => "the service cannot be reached",
        Code::DeadlineExceeded => "the request took too long",
        Code::Unknown | Code::Internal | Code::DataLoss => "internal error",
        _ => "the request was refused",
    };
    let mut cause = format!("status from another server: {}", status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        cause = format!("{cause}: {error}");
        source = error.source();
    }
    Error::new(code, code.name(), message).caused_by(cause)
}

/// Did the connection break before the answer was whole? Statuses that a server has sent have no source.
fn is_broken_connection(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<hyper::Error>() || error.is::<h2::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_survives_the_wire_without_its_cause() {
        for code in Code::ALL {
            let error = Error::new(code, "SOME_REASON", "public text")
                .numbered(401_001)
                .with_http_status(422)
                .with_retry_after(Duration::from_secs(3))
                .with_violations(vec![Violation {
                    field: "a[1].b".into(),
                    description: "is bad".into(),
                }])
                .caused_by("secret cause");
            let status = status_from_error(&error);
            assert!(!format!("{status:?}").contains("secret cause"));
            let back = error_from_status(&status);
            assert_eq!(
                (back.code(), back.reason(), back.message()),
                (code, "SOME_REASON", "public text")
            );
            assert_eq!((back.number(), back.http_status()), (Some(401_001), 422));
            assert_eq!(back.retry_after(), Some(Duration::from_secs(3)));
            assert_eq!(back.field_violations(), error.field_violations());
            assert!(!back.is_to_be_logged(), "it was, where it arose");
        }
    }

    #[test]
    fn a_foreign_status_keeps_its_text_private() {
        let error = error_from_status(&Status::internal("pq: relation users does not exist"));
        assert_eq!((error.code(), error.message()), (Code::Internal, "internal error"));
        assert!(error.cause_chain().contains("relation users") && error.is_to_be_logged());
    }
}
