//! Sessions: opened, prolonged, ended.

use std::sync::Arc;

use mosaic::auth::{AccessClaims, RefreshClaims, TokenIssuer};
use mosaic::{AccountId, Context, Error, Result, hex};
use mosaic_api::identity::v1::Tokens;
use sha2::{Digest as _, Sha256};

use crate::IdentityConfig;
use crate::keys::SigningKeys;
use crate::store::{Session, Store};
use crate::watch::Broadcast;

pub(crate) struct Sessions {
    store: Store,
    keys: Arc<SigningKeys>,
    broadcast: Arc<Broadcast>,
    config: Arc<IdentityConfig>,
}

impl Sessions {
    pub(crate) const fn new(
        store: Store,
        keys: Arc<SigningKeys>,
        broadcast: Arc<Broadcast>,
        config: Arc<IdentityConfig>,
    ) -> Self {
        Self {
            store,
            keys,
            broadcast,
            config,
        }
    }

    /// Opens a session; its id is new, whatever the client brought along.
    pub(crate) async fn open(&self, cx: &Context, account: AccountId, is_new_account: bool) -> Result<Tokens> {
        let issuer = self.keys.issuer();
        let now = cx.runtime().now();
        let session = Session {
            id: cx.runtime().random_hex::<16>(),
            account,
            generation: 0,
            agent_hash: agent_hash(cx),
            rotated: now,
            is_revoked: false,
        };
        let expires = now.plus(issuer.policy().refresh_ttl);
        self.store.insert_session(&session, now, expires).await?;
        Ok(Tokens {
            is_new_account,
            ..tokens(&issuer, account, &session.id, 0)?
        })
    }

    /// Changes a refresh token for the next pair.
    ///
    /// # Errors
    /// `Unauthenticated` (`REFRESH_INVALID`), whatever is wrong with it. A genuine one that was used before also ends the
    /// session: one of its two holders is a thief.
    pub(crate) async fn refresh(&self, cx: &Context, refresh_token: &str) -> Result<Tokens> {
        let issuer = self.keys.issuer();
        let claims = issuer.verify_refresh(refresh_token).map_err(|_| invalid())?;
        let session = self
            .store
            .session(&claims.ssid)
            .await?
            .filter(|session| !session.is_revoked)
            .ok_or_else(invalid)?;
        if session.account.to_string() != claims.sub {
            return Err(invalid());
        }
        if self.config.bind_user_agent && session.agent_hash != agent_hash(cx) {
            metrics::counter!("mosaic_refresh_refused_total", "cause" => "user_agent").increment(1);
            return Err(invalid());
        }
        let now = cx.runtime().now();
        let expires = now.plus(issuer.policy().refresh_ttl);
        let is_current = claims.generation == session.generation;
        if is_current && self.store.advance(&session.id, claims.generation, now, expires).await? {
            return tokens(&issuer, session.account, &session.id, claims.generation + 1);
        }
        // Used already. Two tabs that refresh together are no theft: the one that lost just loses.
        let lost_the_race = is_current
            || claims.generation + 1 == session.generation && now.since(session.rotated) <= self.config.reuse_grace;
        if !lost_the_race {
            metrics::counter!("mosaic_refresh_refused_total", "cause" => "reuse").increment(1);
            tracing::warn!(account.id = %session.account, "a used refresh token came back; its session is ended");
            self.end(cx, &session.id).await?;
        }
        Err(invalid())
    }

    /// Ends a session everywhere.
    pub(crate) async fn end(&self, cx: &Context, session_id: &str) -> Result<()> {
        let revocation = self.store.revoke_session(cx.runtime(), session_id).await?;
        self.broadcast.revoked(revocation);
        Ok(())
    }
}

fn tokens(issuer: &TokenIssuer, account: AccountId, session_id: &str, generation: i64) -> Result<Tokens> {
    let (sub, ssid) = (account.to_string(), session_id.to_owned());
    let (access_token, access_expires) = issuer.access(AccessClaims {
        sub: sub.clone(),
        ssid: ssid.clone(),
        roles: Vec::new(),
    })?;
    let (refresh_token, refresh_expires) = issuer.refresh(RefreshClaims { sub, ssid, generation })?;
    Ok(Tokens {
        account_id: account.get(),
        access_token,
        access_expires_at: access_expires.as_secs(),
        refresh_token,
        refresh_expires_at: refresh_expires.as_secs(),
        is_new_account: false,
    })
}

fn agent_hash(cx: &Context) -> String {
    let agent = cx.origin().user_agent.as_deref().unwrap_or_default();
    hex(Sha256::digest(agent.as_bytes()))
}

fn invalid() -> Error {
    Error::unauthenticated("REFRESH_INVALID", "the refresh token is not valid")
}
