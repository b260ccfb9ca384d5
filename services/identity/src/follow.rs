//! Keeps a process able to verify tokens, wherever identity is served.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use mosaic::auth::{PublicKeys, TokenVerifier};
use mosaic::{Context, Error, Module, Result, Runtime, StopSignal};
use mosaic_api::identity::v1::{IdentityClient, Knowledge};

use crate::watch::apply;

/// Pause before a broken watch is begun again.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Runs in every process: feeds its verifier with keys and revocations. What is known stays known while identity is
/// away; new revocations are then late, which the life of access tokens bounds.
///
/// # Errors
/// None; identity need not be there yet.
pub async fn follow(m: &mut Module) -> Result<()> {
    let follower = Follower {
        identity: m.client::<IdentityClient>(),
        verifier: m.verifier().clone(),
        runtime: m.runtime().clone(),
        stop: m.background().stop_signal(),
    };
    let tasks = m.background().clone();
    tasks.spawn("identity watch", follower.run());
    Ok(())
}

struct Follower {
    identity: IdentityClient,
    verifier: Arc<TokenVerifier>,
    runtime: Runtime,
    stop: StopSignal,
}

impl Follower {
    async fn run(mut self) {
        let mut pause = RETRY;
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                outcome = self.watch_once(&mut pause) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, cause = error.cause_chain(), "identity cannot be watched");
                    }
                }
                () = stop.stopped() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
                () = stop.stopped() => return,
            }
        }
    }

    async fn watch_once(&mut self, pause: &mut Duration) -> Result<()> {
        let mut changes = self.identity.watch(&Context::new(&self.runtime), ()).await?;
        while let Some(change) = changes.next().await {
            *pause = RETRY;
            self.learn(change?)?;
        }
        Ok(())
    }

    fn learn(&self, change: Knowledge) -> Result<()> {
        if let Some(jwks) = change.jwks {
            self.verifier
                .set_keys(PublicKeys::from_jwks(&jwks).map_err(Error::internal)?);
        }
        change
            .revocations
            .iter()
            .for_each(|revocation| apply(&self.verifier, revocation));
        Ok(())
    }
}
