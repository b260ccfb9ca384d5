//! The port through which borders learn who calls.

use std::sync::Arc;

use crate::{Identity, Result};

/// Verifies access tokens in memory: no network, no lock held for long.
pub trait Authenticator: Send + Sync + 'static {
    /// Returns what `token` says of its holder.
    ///
    /// # Errors
    /// `Unauthenticated` for every token that is not ours, not valid now, or revoked; `Unavailable` while no keys are
    /// known yet.
    fn authenticate(&self, token: &str) -> Result<Arc<Identity>>;
}
