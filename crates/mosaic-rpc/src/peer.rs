//! Proof that a call comes from a service of this platform.
//!
//! Every process of a platform holds one key; a caller sends `name.expiry.mac` with an HMAC-SHA-256 over the first two
//! (RFC 2104). The name is what access rules and logs see. Tokens live a minute, so that one that leaks is soon dead,
//! and are made again at half of that.
//!
//! Over mutual TLS the certificate is the proof, and all that a caller sends is which of its names it calls in
//! ([`PeerNames`]); a key that all share says nothing there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http::HeaderValue;
use mosaic_core::{Error, Result, Runtime, Secret, Timestamp};
use rustls::pki_types::CertificateDer;
use sha2::Sha256;

use crate::{Tls, tls_verify};

const LIFETIME: Duration = Duration::from_secs(60);

/// The key that services of one platform share. Cheap to clone.
#[derive(Clone)]
pub struct PeerKey {
    key: Arc<Secret<Vec<u8>>>,
    known: Arc<RwLock<HashMap<String, Known>>>,
    certificate: Option<Tls>,
}

/// What a token that was verified says. A caller sends the same one for half a minute.
#[derive(Clone)]
struct Known {
    name: Arc<str>,
    expiry: i64,
}

/// Tokens that are remembered; beyond it, all are forgotten.
const KNOWN_MAX: usize = 1024;

impl PeerKey {
    /// Makes the key from its bytes.
    ///
    /// # Errors
    /// `InvalidArgument` if there are fewer than 32 bytes.
    pub fn new(key: Vec<u8>) -> Result<Self> {
        if key.len() < 32 {
            return Err(Error::invalid_argument(
                "PEER_KEY_SHORT",
                "the key between services needs at least 32 bytes",
            ));
        }
        Ok(Self {
            key: Arc::new(Secret::new(key)),
            known: Arc::default(),
            certificate: None,
        })
    }

    /// Has callers of this process proved by its certificate, in the place of tokens.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Tls) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Returns a secret of 32 bytes for `purpose`, the same in every process of the platform.
    pub fn derive(&self, purpose: &str) -> Secret<Vec<u8>> {
        Secret::new(self.mac(&format!("derive.{purpose}")).finalize().into_bytes().to_vec())
    }

    /// Returns the token with which the service `name` calls at `now`.
    pub fn issue(&self, name: &str, now: Timestamp) -> String {
        let claim = format!("{name}.{}", now.plus(LIFETIME).as_secs());
        format!(
            "{claim}.{}",
            URL_SAFE_NO_PAD.encode(self.mac(&claim).finalize().into_bytes())
        )
    }

    /// Returns the name of the service that `token` proves.
    ///
    /// # Errors
    /// `Unauthenticated` (`PEER_INVALID`) for every other text.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<str>> {
        if let Some(known) = self.known(token)
            && now.as_secs() <= known.expiry
        {
            return Ok(known.name);
        }
        let (claim, mac) = token.rsplit_once('.').ok_or_else(not_established)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| not_established())?;
        self.mac(claim).verify_slice(&mac).map_err(|_| not_established())?;
        let (name, expiry) = claim.rsplit_once('.').ok_or_else(not_established)?;
        let expiry: i64 = expiry.parse().map_err(|_| not_established())?;
        if now.as_secs() > expiry {
            return Err(not_established());
        }
        let name: Arc<str> = name.into();
        self.remember(token, name.clone(), expiry);
        Ok(name)
    }

    fn known(&self, token: &str) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(token).cloned()
    }

    fn remember(&self, token: &str, name: Arc<str>, expiry: i64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(token.to_owned(), Known { name, expiry });
    }

    fn mac(&self, claim: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).expect("HMAC takes keys of every length");
        mac.update(claim.as_bytes());
        mac
    }
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn not_established() -> Error {
    Error::unauthenticated("PEER_INVALID", "the calling service is not established")
}

/// The services that the other end of a connection has proved to be, by its certificate. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PeerNames(Arc<[Arc<str>]>);

impl PeerNames {
    /// Reads the first certificate of a chain that was verified.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        Some(Self(tls_verify::services(chain.first()?)))
    }

    /// Returns the service that calls: of its names the one that it claims, or the only one; `None` if it is not said
    /// which.
    ///
    /// # Errors
    /// `Unauthenticated` (`PEER_INVALID`) for a claim that is none of the names.
    pub(crate) fn claimed(&self, claim: Option<&str>) -> Result<Option<Arc<str>>> {
        let Some(claim) = claim else {
            return Ok(match &*self.0 {
                [only] => Some(only.clone()),
                _ => None,
            });
        };
        // A token of a caller that does not know what it speaks is a claim like any other.
        let in_token = claim.rsplitn(3, '.').last();
        let name = self
            .0
            .iter()
            .find(|name| ***name == *claim || Some(&***name) == in_token);
        name.cloned().map(Some).ok_or_else(not_established)
    }
}

/// Makes the token of one calling service, and makes it again before it ends.
#[derive(Debug)]
pub(crate) struct PeerToken {
    key: PeerKey,
    name: Arc<str>,
    current: Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl PeerToken {
    pub(crate) fn new(key: PeerKey, name: Arc<str>) -> Self {
        Self {
            key,
            name,
            current: Mutex::default(),
        }
    }

    /// Returns a token that is good for at least half a minute, or the name alone where the certificate is the proof;
    /// `None` if the name cannot stand in a header.
    pub(crate) fn get(&self, runtime: &Runtime) -> Option<HeaderValue> {
        if let Some(certificate) = &self.key.certificate {
            // What runs in every process is in no certificate: it calls in the first name of its process.
            let names = certificate.names();
            let name = names.iter().find(|name| **name == self.name).or(names.first())?;
            return HeaderValue::try_from(&**name).ok();
        }
        let now = runtime.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, renew_at)) = &*current
            && now < *renew_at
            && now.plus(LIFETIME) >= *renew_at
        {
            return Some(token.clone());
        }
        let token: HeaderValue = HeaderValue::try_from(self.key.issue(&self.name, now)).ok()?;
        *current = Some((token.clone(), now.plus(LIFETIME / 2)));
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PeerKey {
        PeerKey::new(vec![byte; 32]).unwrap()
    }

    #[test]
    fn a_token_proves_its_service_for_a_minute() {
        let now = Timestamp::from_secs(1_800_000_000);
        let token = key(1).issue("order", now);
        assert_eq!(&*key(1).verify(&token, now.plus(LIFETIME)).unwrap(), "order");
        assert!(
            key(1)
                .verify(&token, now.plus(LIFETIME + Duration::from_secs(1)))
                .is_err()
        );
        assert!(key(2).verify(&token, now).is_err());
    }

    #[test]
    fn a_token_that_is_remembered_ends_all_the_same() {
        let (key, now) = (key(1), Timestamp::from_secs(1_800_000_000));
        let token = key.issue("order", now);
        for _ in 0..2 {
            assert_eq!(&*key.verify(&token, now).unwrap(), "order");
        }
        assert!(key.verify(&token, now.plus(LIFETIME + Duration::from_secs(1))).is_err());
    }

    #[test]
    fn the_memory_of_tokens_has_an_end() {
        let (key, now) = (key(1), Timestamp::from_secs(1_800_000_000));
        for position in 0..=KNOWN_MAX {
            let name = format!("order{position}");
            assert_eq!(&*key.verify(&key.issue(&name, now), now).unwrap(), name);
        }
        assert!(key.known.read().unwrap().len() <= KNOWN_MAX);
    }

    #[test]
    fn a_caller_is_one_of_the_names_in_its_certificate() {
        #[track_caller]
        fn check(names: &[&str], claim: Option<&str>, want: Result<Option<&str>, ()>) {
            let names = PeerNames(names.iter().map(|name| Arc::from(*name)).collect());
            let claimed = names
                .claimed(claim)
                .map_err(|error| assert_eq!(error.reason(), "PEER_INVALID"));
            assert_eq!(
                claimed.as_ref().map(Option::as_deref),
                want.as_ref().map(|want| *want),
                "{claim:?}"
            );
        }
        check(&["users"], None, Ok(Some("users")));
        check(&["users"], Some("users"), Ok(Some("users")));
        check(&["users"], Some("order"), Err(()));
        check(&["users"], Some(""), Err(()));
        check(&["users", "order"], None, Ok(None));
        check(&["users", "order"], Some("order"), Ok(Some("order")));
        let now = Timestamp::from_secs(1_800_000_000);
        check(&["users"], Some(&key(1).issue("users", now)), Ok(Some("users")));
        check(&["users"], Some(&key(1).issue("order", now)), Err(()));
    }

    #[test]
    fn no_flipped_byte_passes() {
        let now = Timestamp::from_secs(1_800_000_000);
        let token = key(1).issue("order", now);
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] ^= 1;
            if let Ok(forged) = String::from_utf8(bytes) {
                assert!(key(1).verify(&forged, now).is_err(), "{forged}");
            }
        }
        for junk in ["", ".", "..", "order", "order.99999999999", "order.99999999999."] {
            assert!(key(1).verify(junk, now).is_err(), "{junk}");
        }
    }

    #[test]
    fn short_keys_are_refused() {
        assert!(PeerKey::new(vec![1; 31]).is_err());
    }
}
