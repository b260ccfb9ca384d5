//! The one error a service may answer with.
//!
//! Rules return small error enums of their own; [`Error`] is the only way out of a service, so that one place can turn
//! it into gRPC, one into HTTP and one can log it. `code` is the canonical meaning (the gRPC codes), `reason` is the
//! stable name a program may match on and is never renamed, `message` is for people outside, and the cause chain
//! stays in the process: it is logged once at the border and never sent.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of every service method.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Canonical meaning of a failure; the numbers are those of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// The caller gave up.
    Cancelled = 1,
    /// A failure whose meaning another system did not say.
    Unknown = 2,
    /// The request is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// The deadline passed before an answer was there.
    DeadlineExceeded = 4,
    /// No such thing, or none that the caller may know of.
    NotFound = 5,
    /// The thing to create is there already.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A limit is reached; see `retry_after`.
    ResourceExhausted = 8,
    /// The state of the system does not allow it; a retry without a change is useless.
    FailedPrecondition = 9,
    /// Lost a race; a retry of the whole operation may succeed.
    Aborted = 10,
    /// Past the valid range.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// A defect of ours.
    Internal = 13,
    /// Not now; a retry may succeed.
    Unavailable = 14,
    /// Data are lost or damaged.
    DataLoss = 15,
    /// Who calls is not established.
    Unauthenticated = 16,
}

impl Code {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Returns the name in `SCREAMING_SNAKE_CASE`, as gRPC documents it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// Returns the HTTP status that a plain (not enveloped) answer carries.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::OutOfRange => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::FailedPrecondition | Self::Aborted => 409,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// Is this a failure of ours (to be logged as an error and counted by a breaker), not of the caller?
    pub const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Unknown | Self::DeadlineExceeded | Self::Internal | Self::Unavailable | Self::DataLoss
        )
    }
}

impl TryFrom<i32> for Code {
    type Error = i32;
    fn try_from(number: i32) -> std::result::Result<Self, i32> {
        Self::ALL.into_iter().find(|code| *code as i32 == number).ok_or(number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One field of a request that breaks a rule of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as JSON spells it, e.g. `items[2].phone`.
    pub field: String,
    /// What is wrong: lower case, no full stop, without the offending value.
    pub description: Cow<'static, str>,
}

/// Why a service did not do what it was asked to; see the module documentation.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    reason: Cow<'static, str>,
    message: Cow<'static, str>,
    number: Option<i32>,
    http_status: Option<u16>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    is_logged: bool,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $code:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])*
            pub fn $name(reason: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
                Self::new(Code::$code, reason, message)
            })*
        }
    };
}

constructors! {
    /// The request is wrong whatever the state of the system.
    invalid_argument => InvalidArgument,
    /// The deadline passed.
    deadline_exceeded => DeadlineExceeded,
    /// No such thing, or none the caller may know of.
    not_found => NotFound,
    /// The thing to create is there already.
    already_exists => AlreadyExists,
    /// The caller is known and may not do this.
    permission_denied => PermissionDenied,
    /// A limit is reached.
    resource_exhausted => ResourceExhausted,
    /// The state does not allow it.
    failed_precondition => FailedPrecondition,
    /// Lost a race.
    aborted => Aborted,
    /// No such method.
    unimplemented => Unimplemented,
    /// Not now; a retry may succeed.
    unavailable => Unavailable,
    /// Who calls is not established.
    unauthenticated => Unauthenticated,
}

impl Error {
    /// Makes an error of `code` with a stable `reason` (`SCREAMING_SNAKE_CASE`) and a public `message`.
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            reason: reason.into(),
            message: message.into(),
            number: None,
            http_status: None,
            violations: Vec::new(),
            retry_after: None,
            cause: None,
            is_logged: false,
        }))
    }

    /// A defect of ours: strangers read "internal error", the log reads `cause`.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "INTERNAL", "internal error").caused_by(cause)
    }

    /// A request with fields that break the rules of its contract.
    ///
    /// The message names the first violation; all of them travel with the error.
    pub fn violations(violations: Vec<Violation>) -> Self {
        let message = match violations.first() {
            Some(first) if first.field.is_empty() => first.description.to_string(),
            Some(first) => format!("{}: {}", first.field, first.description),
            None => "invalid request".to_owned(),
        };
        let mut error = Self::invalid_argument("INVALID_REQUEST", message);
        error.0.violations = violations;
        error
    }

    /// Adds the private cause; it is logged and never sent.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds the number that an enveloped API shows as its business code.
    #[must_use]
    pub fn numbered(mut self, number: i32) -> Self {
        self.0.number = Some(number);
        self
    }

    /// Overrides the HTTP status where the canonical code is too coarse (413, 415, 422 ...).
    #[must_use]
    pub fn with_http_status(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    /// Says when a retry makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Marks the error as one that no border need log as a failure: another process has, or nothing is wrong.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.0.is_logged = true;
        self
    }

    /// Replaces the violations, keeping everything else; used where an error is read from the wire.
    #[must_use]
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.violations = violations;
        self
    }

    /// Returns the canonical code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the stable reason.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Returns the public message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the business number, where one was given.
    pub fn number(&self) -> Option<i32> {
        self.0.number
    }

    /// Returns the HTTP status of a plain answer.
    pub fn http_status(&self) -> u16 {
        self.0.http_status.unwrap_or_else(|| self.0.code.http_status())
    }

    /// Returns the HTTP status only where it differs from that of the code.
    pub fn http_status_override(&self) -> Option<u16> {
        self.0.http_status
    }

    /// Returns the fields that broke a rule.
    pub fn field_violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Returns when a retry makes sense, if it was said.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Is this a failure of ours that no log has yet?
    pub fn is_to_be_logged(&self) -> bool {
        self.0.code.is_fault() && !self.0.is_logged
    }

    /// May the very same call succeed later? Says nothing about whether it is safe to repeat.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.code, Code::Unavailable | Code::Aborted | Code::ResourceExhausted)
    }

    /// Returns the private cause.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// Returns the private causes, outermost first, as one line for the log.
    pub fn cause_chain(&self) -> String {
        let mut text = String::new();
        let mut next = self.0.cause.as_deref().map(|cause| cause as &dyn StdError);
        while let Some(cause) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("number", &self.0.number)
            .field("cause", &self.cause_chain())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.code, self.0.reason, self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &dyn StdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_number() {
        for code in Code::ALL {
            assert_eq!(Code::try_from(code as i32), Ok(code));
        }
        assert_eq!(Code::try_from(0), Err(0));
        assert_eq!(Code::try_from(17), Err(17));
    }

    #[test]
    fn the_cause_is_in_the_chain_and_not_in_the_message() {
        let inner = std::io::Error::other("disk on fire");
        let error = Error::internal(inner);
        assert_eq!(error.cause_chain(), "disk on fire");
        assert_eq!(error.message(), "internal error");
        assert_eq!(error.to_string(), "INTERNAL INTERNAL: internal error");
    }

    #[test]
    fn violations_name_the_first_field() {
        let error = Error::violations(vec![
            Violation {
                field: "phone".into(),
                description: "must not be empty".into(),
            },
            Violation {
                field: "code".into(),
                description: "must be 6 digits".into(),
            },
        ]);
        assert_eq!(error.message(), "phone: must not be empty");
        assert_eq!(error.field_violations().len(), 2);
        assert_eq!(error.http_status(), 400);
    }
}
