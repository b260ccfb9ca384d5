//! Waiting for a state instead of sleeping for a time.

use std::future::Future;
use std::time::Duration;

/// Waits until `holds` does.
///
/// # Panics
/// If it does not within `timeout`.
#[track_caller]
pub fn until<F: Future<Output = bool>>(
    what: &'static str,
    timeout: Duration,
    mut holds: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + timeout;
        while !holds().await {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within {timeout:?}: {what} (at {caller})"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
