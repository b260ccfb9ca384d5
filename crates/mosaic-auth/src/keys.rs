//! Signing keys and their public halves.
//!
//! A key is published before it signs and stays published until what it signed has ended, so a rotation signs nobody
//! out and no verifier meets a key that it has not had time to fetch. Ed25519 (RFC 8037) for keys that we make; RSA keys
//! from elsewhere sign RS256, and RS512 is accepted.

use std::collections::HashMap;
use std::time::Duration;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes};
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use mosaic_core::{Runtime, Secret, Timestamp};

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither an Ed25519 nor an RSA private key in PEM.
    #[error("the key {0} is neither an Ed25519 nor an RSA private key in PEM")]
    NotAKey(String),
    /// A ring without a key cannot sign.
    #[error("there is no signing key")]
    NoKey,
    /// The text is no JWKS with keys that we know how to use.
    #[error("the JWKS is not valid: {0}")]
    BadJwks(String),
}

/// Private keys, oldest first.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<PrivateKey>,
    lead: Duration,
}

#[derive(Clone)]
struct PrivateKey {
    kid: String,
    created: Timestamp,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Jwk,
}

impl KeyRing {
    /// Makes an empty ring whose keys are published `lead` before they sign.
    pub const fn new(lead: Duration) -> Self {
        Self { keys: Vec::new(), lead }
    }

    /// Returns a new Ed25519 private key in PEM (PKCS #8).
    pub fn generate(runtime: &Runtime) -> Secret<String> {
        // Without its public half, as OpenSSL writes it: readers of version 1 of the format know no other form.
        let key = KeypairBytes {
            secret_key: runtime.random_bytes(),
            public_key: None,
        };
        let pem = key
            .to_pkcs8_pem(LineEnding::LF)
            .expect("an Ed25519 key of 32 bytes has a PEM form");
        Secret::new(pem.to_string())
    }

    /// Adds a private key; its public half is known by `kid`.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn add(&mut self, kid: &str, created: Timestamp, pem: &Secret<String>) -> Result<(), KeyError> {
        let not_a_key = || KeyError::NotAKey(kid.to_owned());
        let bytes = pem.expose().as_bytes();
        let (algorithm, key) = match EncodingKey::from_ed_pem(bytes) {
            Ok(key) => (Algorithm::EdDSA, key),
            Err(_) => (
                Algorithm::RS256,
                EncodingKey::from_rsa_pem(bytes).map_err(|_| not_a_key())?,
            ),
        };
        let mut public = Jwk::from_encoding_key(&key, algorithm).map_err(|_| not_a_key())?;
        public.common.key_id = Some(kid.to_owned());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        self.keys.push(PrivateKey {
            kid: kid.to_owned(),
            created,
            algorithm,
            key,
            public,
        });
        self.keys.sort_by_key(|key| key.created);
        Ok(())
    }

    /// Forgets keys that were replaced more than `lifetime` before `now`: nothing that they signed is still good.
    pub fn prune(&mut self, now: Timestamp, lifetime: Duration) -> Vec<String> {
        let mut pruned = Vec::new();
        while let [old, next, ..] = self.keys.as_slice()
            && next.created.plus(self.lead).plus(lifetime) < now
        {
            pruned.push(old.kid.clone());
            self.keys.remove(0);
        }
        pruned
    }

    /// Returns when the newest key was made.
    pub fn newest(&self) -> Option<Timestamp> {
        self.keys.last().map(|key| key.created)
    }

    /// Returns the public keys as a JWKS (RFC 7517), to be published.
    pub fn jwks(&self) -> String {
        let keys = self.keys.iter().map(|key| key.public.clone()).collect();
        serde_json::to_string(&JwkSet { keys }).expect("a JWKS of our own keys is JSON")
    }

    /// Returns the key that signs at `now`: the newest that has been published for long enough.
    pub(crate) fn signing(&self, now: Timestamp) -> Result<(&str, Algorithm, &EncodingKey), KeyError> {
        let published = self.keys.iter().rev().find(|key| key.created.plus(self.lead) <= now);
        let key = published.or_else(|| self.keys.first()).ok_or(KeyError::NoKey)?;
        Ok((&key.kid, key.algorithm, &key.key))
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| (&key.kid, key.created)))
            .finish()
    }
}

/// Public keys by their `kid`.
#[derive(Clone, Default)]
pub struct PublicKeys {
    keys: HashMap<String, (Vec<Algorithm>, DecodingKey)>,
}

impl PublicKeys {
    /// Reads a JWKS; keys for other purposes are left out.
    ///
    /// # Errors
    /// [`KeyError::BadJwks`] if the text is no JWKS or no key in it is of use.
    pub fn from_jwks(text: &str) -> Result<Self, KeyError> {
        let bad = |what: String| KeyError::BadJwks(what);
        let set: JwkSet = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let Some(kid) = jwk.common.key_id.clone() else { continue };
            let algorithms = match jwk.common.key_algorithm {
                Some(KeyAlgorithm::EdDSA) => vec![Algorithm::EdDSA],
                Some(KeyAlgorithm::RS256 | KeyAlgorithm::RS512) => vec![Algorithm::RS256, Algorithm::RS512],
                _ => continue,
            };
            let key = DecodingKey::from_jwk(jwk).map_err(|error| bad(format!("key {kid}: {error}")))?;
            keys.insert(kid, (algorithms, key));
        }
        if keys.is_empty() {
            Err(bad("no key of use".to_owned()))
        } else {
            Ok(Self { keys })
        }
    }

    /// Returns the key of that name and what it may verify.
    pub(crate) fn get(&self, kid: &str) -> Option<(&[Algorithm], &DecodingKey)> {
        self.keys.get(kid).map(|(algorithms, key)| (algorithms.as_slice(), key))
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl std::fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Duration = Duration::from_secs(600);

    #[test]
    fn a_new_key_is_published_before_it_signs_and_the_old_one_stays() {
        let runtime = Runtime::system();
        let day = |n: i64| Timestamp::from_secs(n * 86_400);
        let mut ring = KeyRing::new(LEAD);
        assert!(ring.signing(day(1)).is_err());
        ring.add("a", day(1), &KeyRing::generate(&runtime)).unwrap();
        ring.add("b", day(30), &KeyRing::generate(&runtime)).unwrap();
        assert_eq!(ring.signing(day(1)).unwrap().0, "a");
        assert_eq!(ring.signing(day(30)).unwrap().0, "a");
        assert_eq!(ring.signing(day(30).plus(LEAD)).unwrap().0, "b");
        let public = PublicKeys::from_jwks(&ring.jwks()).unwrap();
        assert!(public.get("a").is_some() && public.get("b").is_some());
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(ring.prune(day(37), week), Vec::<String>::new());
        assert_eq!(ring.prune(day(38), week), ["a"]);
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let mut ring = KeyRing::new(LEAD);
        let error = ring
            .add("k1", Timestamp::EPOCH, &Secret::new("secret text".to_owned()))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the key k1 is neither an Ed25519 nor an RSA private key in PEM"
        );
        assert!(PublicKeys::from_jwks("{}").is_err());
        assert!(PublicKeys::from_jwks(r#"{"keys":[]}"#).is_err());
    }

    #[test]
    fn a_jwks_holds_no_private_half() {
        let mut ring = KeyRing::new(LEAD);
        ring.add("a", Timestamp::EPOCH, &KeyRing::generate(&Runtime::system()))
            .unwrap();
        assert!(!ring.jwks().contains("\"d\""), "{}", ring.jwks());
    }
}
