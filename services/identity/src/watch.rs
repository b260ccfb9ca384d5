//! Tells every process what it needs to verify tokens by itself.
//!
//! A revocation is a row first (so that it survives), then applied in this process, then sent to whoever watches. Rows
//! that other instances wrote are found by asking the table twice a second for what is new; each process so learns of a
//! sign-out within a second. Applying twice is applying once, so a little overlap is the safe side.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use mosaic::auth::{PublicKeys, TokenVerifier};
use mosaic::rpc::Streaming;
use mosaic::{AccountId, Error, Result, Runtime, Timestamp};
use mosaic_api::identity::v1::{Knowledge, Revocation, revocation::Subject};
use tokio::sync::broadcast;

use crate::keys::SigningKeys;
use crate::store::Store;

pub(crate) const POLL_EVERY: Duration = Duration::from_millis(400);

/// How far back each look goes: clocks of instances differ, commits take time.
const OVERLAP: Duration = Duration::from_secs(10);

/// Changes that a slow watcher may lag behind; one that loses more starts anew.
const BACKLOG: usize = 1024;

pub(crate) struct Broadcast {
    verifier: Arc<TokenVerifier>,
    store: Store,
    keys: Arc<SigningKeys>,
    runtime: Runtime,
    changes: broadcast::Sender<Knowledge>,
}

impl Broadcast {
    pub(crate) fn new(verifier: Arc<TokenVerifier>, store: Store, keys: Arc<SigningKeys>, runtime: Runtime) -> Self {
        let broadcast = Self {
            verifier,
            store,
            keys,
            runtime,
            changes: broadcast::Sender::new(BACKLOG),
        };
        broadcast.keys_changed();
        broadcast
    }

    /// Tells of a revocation that has been committed.
    pub(crate) fn revoked(&self, revocation: Revocation) {
        apply(&self.verifier, &revocation);
        // Nobody may be watching.
        let _ = self.changes.send(Knowledge {
            jwks: None,
            revocations: vec![revocation],
        });
    }

    /// Tells of keys that have been made or forgotten.
    pub(crate) fn keys_changed(&self) {
        let jwks = self.keys.issuer().ring().jwks();
        if let Ok(keys) = PublicKeys::from_jwks(&jwks) {
            self.verifier.set_keys(keys);
        }
        let _ = self.changes.send(Knowledge {
            jwks: Some(jwks),
            revocations: Vec::new(),
        });
    }

    /// Tells of what other instances have revoked lately.
    pub(crate) async fn poll(&self) -> Result<()> {
        let revocations = self.store.revocations_since(self.runtime.now().minus(OVERLAP)).await?;
        if !revocations.is_empty() {
            revocations
                .iter()
                .for_each(|revocation| apply(&self.verifier, revocation));
            let _ = self.changes.send(Knowledge {
                jwks: None,
                revocations,
            });
        }
        Ok(())
    }

    /// Returns everything that matters now, then every change; ends when the watcher is too slow.
    pub(crate) async fn watch(&self) -> Result<Streaming<Knowledge>> {
        // First the subscription, then the look: a change between the two comes twice, never not at all.
        let changes = self.changes.subscribe();
        let since = self
            .runtime
            .now()
            .minus(self.verifier.policy().access_ttl + OVERLAP * 12);
        let revocations = self.store.revocations_since(since).await?;
        let first = Knowledge {
            jwks: Some(self.keys.issuer().ring().jwks()),
            revocations,
        };
        let rest = futures::stream::unfold(changes, |mut changes| async move {
            match changes.recv().await {
                Ok(change) => Some((Ok(change), changes)),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let error = Error::aborted("WATCH_LAGGED", "the watcher is too slow and must start anew");
                    Some((Err(error), changes))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        Ok(Box::pin(futures::stream::once(async { Ok(first) }).chain(rest)))
    }
}

/// Takes a revocation over into a verifier.
pub(crate) fn apply(verifier: &TokenVerifier, revocation: &Revocation) {
    let at = Timestamp::from_micros(revocation.at);
    match &revocation.subject {
        Some(Subject::SessionId(session)) => verifier.revocations().revoke_session(session, at),
        Some(Subject::AccountId(account)) => {
            if let Ok(account) = AccountId::try_from(*account) {
                verifier.revocations().revoke_account(account, at);
            }
        }
        None => {}
    }
}
