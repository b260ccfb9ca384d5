//! Access and refresh tokens: JWTs (RFC 7519) signed with a key of the ring.
//!
//! The two kinds differ in `typ` (RFC 9068 names `at+jwt`), so that neither passes for the other. Times are checked
//! against our clock, with a leeway of a minute for the clocks of others.

use std::time::Duration;

use jsonwebtoken::{Algorithm, Header, Validation};
use mosaic_core::{Error, Result, Runtime, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{KeyRing, PublicKeys};

/// Clocks may differ by this much.
const LEEWAY: Duration = Duration::from_secs(60);

/// Longer texts are not looked at.
const TOKEN_BYTES_MAX: usize = 4096;

const ACCESS: &str = "at+jwt";
const REFRESH: &str = "rt+jwt";

/// What tokens say besides who: agreed between the one who issues and those who verify.
#[derive(Debug, Clone)]
pub struct TokenPolicy {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// How long an access token is good for.
    pub access_ttl: Duration,
    /// How long a refresh token is good for.
    pub refresh_ttl: Duration,
}

/// What an access token says.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct AccessClaims {
    /// Account id, as text.
    pub sub: String,
    /// Session id.
    pub ssid: String,
    /// Roles granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// What a refresh token says.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct RefreshClaims {
    /// Account id, as text.
    pub sub: String,
    /// Session id: the family of refresh tokens.
    pub ssid: String,
    /// How many refreshes the session has seen when this token was made.
    pub generation: i64,
}

#[derive(Serialize, Deserialize)]
struct Claims<T> {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(flatten)]
    own: T,
}

/// A token that was verified.
#[derive(Debug)]
pub(crate) struct Verified<T> {
    pub(crate) claims: T,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

/// Signs tokens. Cheap enough to make anew when the ring changes.
#[derive(Debug, Clone)]
pub struct TokenIssuer {
    ring: KeyRing,
    policy: TokenPolicy,
    runtime: Runtime,
}

impl TokenIssuer {
    /// Makes an issuer that signs with `ring`.
    pub const fn new(ring: KeyRing, policy: TokenPolicy, runtime: Runtime) -> Self {
        Self { ring, policy, runtime }
    }

    /// Returns what was agreed on.
    pub const fn policy(&self) -> &TokenPolicy {
        &self.policy
    }

    /// Returns the keys.
    pub const fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Signs an access token; returns it and when it ends.
    ///
    /// # Errors
    /// `Internal` if there is no key.
    pub fn access(&self, claims: AccessClaims) -> Result<(String, Timestamp)> {
        self.sign(ACCESS, self.policy.access_ttl, claims)
    }

    /// Signs a refresh token; returns it and when it ends.
    ///
    /// # Errors
    /// `Internal` if there is no key.
    pub fn refresh(&self, claims: RefreshClaims) -> Result<(String, Timestamp)> {
        self.sign(REFRESH, self.policy.refresh_ttl, claims)
    }

    /// Verifies a refresh token of ours.
    ///
    /// # Errors
    /// `Unauthenticated` (`TOKEN_INVALID`, `TOKEN_EXPIRED`).
    pub fn verify_refresh(&self, token: &str) -> Result<RefreshClaims> {
        let keys = PublicKeys::from_jwks(&self.ring.jwks()).map_err(Error::internal)?;
        verify(&keys, &self.policy, REFRESH, token, self.runtime.now()).map(|verified| verified.claims)
    }

    fn sign<T: Serialize>(&self, kind: &str, ttl: Duration, own: T) -> Result<(String, Timestamp)> {
        let now = self.runtime.now();
        let (kid, algorithm, key) = self.ring.signing(now).map_err(Error::internal)?;
        let mut header = Header::new(algorithm);
        header.typ = Some(kind.to_owned());
        header.kid = Some(kid.to_owned());
        let expires = now.plus(ttl);
        let claims = Claims {
            iss: self.policy.issuer.clone(),
            aud: self.policy.audience.clone(),
            iat: now.as_secs(),
            exp: expires.as_secs(),
            nbf: None,
            own,
        };
        let token = jsonwebtoken::encode(&header, &claims, key).map_err(Error::internal)?;
        Ok((token, expires))
    }
}

/// Verifies an access token.
pub(crate) fn verify_access(
    keys: &PublicKeys,
    policy: &TokenPolicy,
    token: &str,
    now: Timestamp,
) -> Result<Verified<AccessClaims>> {
    verify(keys, policy, ACCESS, token, now)
}

fn verify<T: DeserializeOwned>(
    keys: &PublicKeys,
    policy: &TokenPolicy,
    kind: &str,
    token: &str,
    now: Timestamp,
) -> Result<Verified<T>> {
    let invalid = || Error::unauthenticated("TOKEN_INVALID", "the token is not valid");
    if token.len() > TOKEN_BYTES_MAX {
        return Err(invalid());
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
    if header.typ.as_deref() != Some(kind) {
        return Err(invalid());
    }
    // The key says which algorithms it verifies; the token only picks among them (RFC 8725 3.1).
    let (algorithms, key) = header
        .kid
        .as_deref()
        .and_then(|kid| keys.get(kid))
        .ok_or_else(invalid)?;
    if !algorithms.contains(&header.alg) {
        return Err(invalid());
    }
    let claims = decode::<Claims<T>>(token, key, header.alg).map_err(|_| invalid())?;
    if claims.iss != policy.issuer || claims.aud != policy.audience {
        return Err(invalid());
    }
    let (issued, expires) = (Timestamp::from_secs(claims.iat), Timestamp::from_secs(claims.exp));
    let not_before = claims.nbf.map_or(issued, |nbf| issued.max(Timestamp::from_secs(nbf)));
    if not_before > now.plus(LEEWAY) {
        return Err(invalid());
    }
    if expires.plus(LEEWAY) < now {
        return Err(Error::unauthenticated("TOKEN_EXPIRED", "the token has expired"));
    }
    Ok(Verified {
        claims: claims.own,
        issued,
        expires: expires.plus(LEEWAY),
    })
}

fn decode<T: DeserializeOwned>(
    token: &str,
    key: &jsonwebtoken::DecodingKey,
    algorithm: Algorithm,
) -> jsonwebtoken::errors::Result<T> {
    let mut validation = Validation::new(algorithm);
    // Issuer, audience and times are checked above, against our clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<T>(token, key, &validation).map(|data| data.claims)
}
