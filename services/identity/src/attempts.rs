//! What makes guessing passwords slow.
//!
//! Failures in a row of a credential close it for a growing time (whether it exists or not, so that closing tells
//! nothing), failures of an address close the address. While closed, a right password is refused like a wrong one:
//! otherwise the answer would still tell. Counted in the cache engine, so that all instances count together; while that
//! is down, the hash itself (bounded by the cores) is the only brake.

use std::sync::Arc;
use std::time::Duration;

use mosaic::cache::{Cache, CacheKey};
use mosaic::{Context, Error, Result};

use crate::IdentityConfig;
use crate::model::wait_after;
use crate::store::CredentialKey;

/// Failures are forgotten after a day without one.
const REMEMBERED: Duration = Duration::from_secs(86_400);
const IP_WINDOW: Duration = Duration::from_secs(600);

pub(crate) struct Attempts {
    cache: Cache,
    config: Arc<IdentityConfig>,
}

impl Attempts {
    pub(crate) const fn new(cache: Cache, config: Arc<IdentityConfig>) -> Self {
        Self { cache, config }
    }

    /// Decides whether a sign-in may be tried now.
    ///
    /// # Errors
    /// `ResourceExhausted` (`ATTEMPTS_EXHAUSTED`) with the time to wait.
    pub(crate) async fn admit(&self, cx: &Context, credential: &CredentialKey) -> Result<()> {
        if let Ok(Some(closed)) = self.cache.counter(&closed_key(credential)).await {
            return Err(exhausted(closed.remaining));
        }
        if let Some(key) = ip_key(cx)
            && let Ok(Some(failures)) = self.cache.counter(&key).await
            && u64::try_from(failures.value).unwrap_or(0) >= self.config.failures_per_ip
        {
            return Err(exhausted(failures.remaining));
        }
        Ok(())
    }

    /// Records a failure.
    pub(crate) async fn failed(&self, cx: &Context, credential: &CredentialKey) {
        if let Some(key) = ip_key(cx) {
            note(self.cache.increment(&key, 1, IP_WINDOW).await.map(drop));
        }
        let outcome = self.cache.increment(&failures_key(credential), 1, REMEMBERED).await;
        let failures = outcome
            .as_ref()
            .map_or(0, |count| u64::try_from(count.value).unwrap_or(0));
        note(outcome.map(drop));
        let wait = wait_after(failures, self.config.free_failures);
        if !wait.is_zero() {
            metrics::counter!("mosaic_sign_in_closed_total").increment(1);
            note(self.cache.increment(&closed_key(credential), 1, wait).await.map(drop));
        }
    }

    /// Forgets the failures of a credential that was signed in with.
    pub(crate) async fn succeeded(&self, credential: &CredentialKey) {
        note(self.cache.remove(&failures_key(credential)).await);
    }
}

fn failures_key(credential: &CredentialKey) -> CacheKey {
    CacheKey::new("sign_in_failures")
        .part(credential.kind)
        .part(&credential.identifier)
}

fn closed_key(credential: &CredentialKey) -> CacheKey {
    CacheKey::new("sign_in_closed")
        .part(credential.kind)
        .part(&credential.identifier)
}

fn ip_key(cx: &Context) -> Option<CacheKey> {
    cx.origin()
        .ip
        .map(|ip| CacheKey::new("sign_in_failures_by_ip").part(ip))
}

fn exhausted(wait: Duration) -> Error {
    Error::resource_exhausted("ATTEMPTS_EXHAUSTED", "too many failed attempts, try again later").with_retry_after(wait)
}

fn note(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(cause = error.cause_chain(), "failed sign-ins cannot be counted");
    }
}
