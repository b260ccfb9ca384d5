//! Accounts, credentials, sessions and tokens: one account system for all products.
//!
//! An account has any number of credentials; the unique constraint on `(kind, identifier)` decides every race, so two
//! first sign-ins of one phone give one account. A session is a family of refresh tokens of which one is good at a time;
//! one that was used and comes back ends the family. What processes need to verify tokens by themselves (keys,
//! revocations) they learn from [`Watch`](mosaic_api::identity::v1::Identity::watch), which [`follow`] keeps up.
//!
//! Promises: known and unknown users answer alike and in equal time; guessing gets slower with each failure; a code is
//! for one purpose and one phone, three tries, once; a sign-out holds at once here and within a second elsewhere.

mod attempts;
mod clean_up;
mod codes;
mod config;
mod follow;
mod keys;
mod model;
mod service;
mod sessions;
mod state;
mod store;
mod watch;
mod wechat;

use std::sync::Arc;

use mosaic::auth::Passwords;
use mosaic::{Mode, Module, Result};
use mosaic_api::identity::v1::IdentityServer;
use mosaic_api::messaging::v1::MessagingClient;

pub use config::IdentityConfig;
pub use follow::follow;

use attempts::Attempts;
use codes::Codes;
use keys::SigningKeys;
use service::Service;
use sessions::Sessions;
use state::StateTokens;
use store::Store;
use watch::Broadcast;
use wechat::Wechat;

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; keys or a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = Arc::new(m.config::<IdentityConfig>()?);
    m.database(store::MIGRATIONS).await?;
    let store = Store::new(m.transactions()?, m.cache());
    let policy = m.verifier().policy().clone();
    let keys = Arc::new(SigningKeys::open(m, &config, policy.clone())?);
    let broadcast = Arc::new(Broadcast::new(
        m.verifier().clone(),
        store.clone(),
        keys.clone(),
        m.runtime().clone(),
    ));
    let sessions = Sessions::new(store.clone(), keys.clone(), broadcast.clone(), config.clone());
    let codes = Codes::new(m.cache().clone(), m.client::<MessagingClient>(), config.clone());
    let wechat = wechat(m, &config)?;
    background(m, &keys, &broadcast);
    clean_up::install(m, &store, &config)?;
    m.serve(IdentityServer::new(Arc::new(Service {
        attempts: Attempts::new(m.cache().clone(), config.clone()),
        passwords: Passwords::new(m.runtime()),
        state_tokens: StateTokens::new(m.secret("identity wechat state")),
        config,
        store,
        sessions,
        codes,
        wechat,
        broadcast,
        keys,
    })));
    Ok(())
}

/// The simulator answers in development unless a real partner is configured; production has no simulator.
fn wechat(m: &Module, config: &IdentityConfig) -> Result<Option<Arc<dyn Wechat>>> {
    match (&config.wechat_app_secret, m.mode()) {
        (Some(secret), _) => Ok(Some(Arc::new(wechat::HttpWechat::new(config, secret.clone())?))),
        (None, Mode::Development) => Ok(Some(Arc::new(wechat::Simulator))),
        (None, Mode::Production) => Ok(None),
    }
}

fn background(m: &mut Module, keys: &Arc<SigningKeys>, broadcast: &Arc<Broadcast>) {
    let (rotated, keys) = (broadcast.clone(), keys.clone());
    m.every("signing key rotation", keys::ROTATION_CHECK_EVERY, move || {
        let (rotated, keys) = (rotated.clone(), keys.clone());
        async move {
            if keys.rotate()? {
                rotated.keys_changed();
            }
            Ok(())
        }
    });
    let polled = broadcast.clone();
    m.every("revocations of other instances", watch::POLL_EVERY, move || {
        let polled = polled.clone();
        async move { polled.poll().await }
    });
}
