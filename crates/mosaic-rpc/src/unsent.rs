//! Calls that failed before anybody began to work on them.
//!
//! Such a call may be made again, at the same instance or another, whatever the method: nothing has happened yet. What the
//! transport guarantees is in RFC 9113: a server that goes away names the last stream that it takes (6.8), and a refused
//! stream was not looked at (8.7). Everything else (a reset, a broken pipe) may have happened after the effect.

use std::error::Error;

/// Why nobody has the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// There is no connection.
    NotConnected,
    /// There was a connection, and it took no more requests.
    NotTaken,
}

/// Returns why the call that ended with `status` is known not to have begun; `None` if it may have.
pub(crate) fn why(status: &tonic::Status) -> Option<Unsent> {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return Some(Unsent::NotConnected);
        }
        let is_canceled = error.downcast_ref().is_some_and(hyper::Error::is_canceled);
        if is_canceled || error.downcast_ref().is_some_and(is_not_taken) {
            return Some(Unsent::NotTaken);
        }
        source = error.source();
    }
    None
}

fn is_not_taken(error: &h2::Error) -> bool {
    let went_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (went_away || refused)
}
