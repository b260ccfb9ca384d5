//! What a caller hears when a rule says no: which rule, its numbers, a stable reason, and when to come back.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use mosaic_core::{Code, Error};

/// Why a call was refused before it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many calls of this caller.
    Rate,
    /// Too many calls at a time.
    Bulkhead,
    /// More work than can be done.
    Shed,
    /// The callee does not answer.
    Breaker,
}

/// Reasons of refusals, as errors carry them.
pub const REFUSALS: [&str; 4] = ["RATE_LIMITED", "BULKHEAD_FULL", "OVERLOADED", "BREAKER_OPEN"];

impl Refusal {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bulkhead => "bulkhead",
            Self::Shed => "shed",
            Self::Breaker => "breaker",
        }
    }

    /// Makes the error: `what` happened, by which `rule`.
    pub(crate) fn error(self, what: &str, rule: impl Display, retry_after: Duration) -> Error {
        let (code, reason) = match self {
            Self::Rate => (Code::ResourceExhausted, REFUSALS[0]),
            Self::Bulkhead => (Code::Unavailable, REFUSALS[1]),
            Self::Shed => (Code::Unavailable, REFUSALS[2]),
            Self::Breaker => (Code::Unavailable, REFUSALS[3]),
        };
        let message: Cow<'static, str> = format!("{what} ({}: {rule})", self.label()).into();
        // Nothing is wrong with this process: the metric counts it, the log need not tell of each.
        Error::new(code, reason, message).with_retry_after(retry_after).logged()
    }
}
