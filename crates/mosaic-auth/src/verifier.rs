//! Verification of access tokens in memory.
//!
//! An Ed25519 check costs tens of microseconds, a look-up a tenth of one: tokens that were good are remembered until they
//! end. Every look-up asks the revocations again. They are found by a hash that is quick rather than hard to collide with: only
//! tokens that we signed get into the table, and a hit is compared byte by byte.

use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use crossbeam_utils::sync::ShardedLock;
use hashbrown::{DefaultHashBuilder, HashTable};
use metrics::Counter;
use mosaic_core::{AccountId, Authenticator, Code, Error, Identity, Result, Runtime, Secret, Timestamp};

use crate::token::verify_access;
use crate::{PublicKeys, Revocations, TokenPolicy};

/// Tokens that are remembered; beyond it, ended ones are dropped, then all.
const REMEMBERED_MAX: usize = 50_000;

const N_SHARDS: usize = 16;

/// Verifies access tokens with keys and revocations that it is handed.
pub struct TokenVerifier {
    runtime: Runtime,
    policy: TokenPolicy,
    keys: ArcSwap<PublicKeys>,
    revocations: Arc<Revocations>,
    hasher: DefaultHashBuilder,
    remembered: [ShardedLock<HashTable<Known>>; N_SHARDS],
    hits: Counter,
    misses: Counter,
}

#[derive(Clone)]
struct Known {
    identity: Arc<Identity>,
    issued: Timestamp,
    expires: Timestamp,
}

impl Known {
    fn token(&self) -> &str {
        self.identity.token.expose()
    }

    fn is_of(&self, token: &str) -> bool {
        self.token() == token
    }
}

impl TokenVerifier {
    /// Makes a verifier without keys: until it is given some, every answer is `Unavailable`.
    pub fn new(runtime: &Runtime, policy: TokenPolicy) -> Self {
        Self {
            runtime: runtime.clone(),
            policy,
            keys: ArcSwap::default(),
            revocations: Arc::default(),
            hasher: DefaultHashBuilder::default(),
            remembered: Default::default(),
            hits: metrics::counter!("mosaic_token_cache_total", "outcome" => "hit"),
            misses: metrics::counter!("mosaic_token_cache_total", "outcome" => "miss"),
        }
    }

    /// Takes over the public keys of now; tokens of keys that are gone are void at once.
    pub fn set_keys(&self, keys: PublicKeys) {
        self.keys.store(Arc::new(keys));
        for shard in &self.remembered {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Are there keys yet?
    pub fn is_ready(&self) -> bool {
        !self.keys.load().is_empty()
    }

    /// Returns the revocations, to be fed.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Returns what was agreed on.
    pub const fn policy(&self) -> &TokenPolicy {
        &self.policy
    }

    fn known(&self, token: &str, now: Timestamp) -> Option<Known> {
        let (hash, shard) = self.shard_of(token);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        let known = shard.find(hash, |known| known.is_of(token));
        known.filter(|known| known.expires >= now).cloned()
    }

    /// Remembers what was verified by `keys`, if these are still ours.
    fn remember(&self, token: &str, known: Known, keys: &Arc<PublicKeys>, now: Timestamp) {
        let (hash, shard) = self.shard_of(token);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever sets others clears the shard after us.
        if !Arc::ptr_eq(&self.keys.load(), keys) {
            return;
        }
        if shard.len() >= REMEMBERED_MAX / N_SHARDS {
            shard.retain(|known| known.expires >= now);
            if shard.len() >= REMEMBERED_MAX / N_SHARDS {
                shard.clear();
            }
        }
        // Two who verified it at the same time remember it once.
        if shard.find(hash, |known| known.is_of(token)).is_none() {
            let hash_of = |known: &Known| self.hasher.hash_one(known.token());
            shard.insert_unique(hash, known, hash_of);
        }
    }

    fn shard_of(&self, token: &str) -> (u64, &ShardedLock<HashTable<Known>>) {
        let hash = self.hasher.hash_one(token);
        // The remainder is below the number of shards.
        (hash, &self.remembered[(hash % N_SHARDS as u64) as usize])
    }

    fn verify(&self, token: &str, keys: &PublicKeys, now: Timestamp) -> Result<Known> {
        if keys.is_empty() {
            return Err(Error::new(
                Code::Unavailable,
                "KEYS_UNKNOWN",
                "tokens cannot be verified yet",
            ));
        }
        let verified = verify_access(keys, &self.policy, token, now)?;
        let account: AccountId = verified.claims.sub.parse().map_err(|_| revoked())?;
        let identity = Identity {
            account,
            session: verified.claims.ssid,
            roles: verified.claims.roles,
            token: Secret::new(token.to_owned()),
        };
        Ok(Known {
            identity: Arc::new(identity),
            issued: verified.issued,
            expires: verified.expires,
        })
    }
}

fn revoked() -> Error {
    Error::unauthenticated("TOKEN_REVOKED", "the token is not valid any more")
}

impl Authenticator for TokenVerifier {
    fn authenticate(&self, token: &str) -> Result<Arc<Identity>> {
        let now = self.runtime.now();
        let known = match self.known(token, now) {
            Some(known) => {
                self.hits.increment(1);
                known
            }
            None => {
                self.misses.increment(1);
                let keys = self.keys.load_full();
                let known = self.verify(token, &keys, now)?;
                self.remember(token, known.clone(), &keys, now);
                known
            }
        };
        let Known { identity, issued, .. } = known;
        if self.revocations.is_revoked(identity.account, &identity.session, issued) {
            Err(revoked())
        } else {
            Ok(identity)
        }
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("keys", &self.keys.load())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
