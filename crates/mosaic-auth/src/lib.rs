//! Who somebody is: passwords, signing keys, tokens, and their verification without a network hop.
//!
//! The issuing side ([`KeyRing`], [`TokenIssuer`]) lives where identity is served; every process verifies by itself
//! ([`TokenVerifier`]) with public keys and a list of revocations that are handed to it, so that a request costs neither
//! a call nor, mostly, a signature check: verified tokens are remembered until they end or are revoked.

mod keys;
mod password;
mod revocation;
mod token;
mod verifier;

pub use keys::{KeyError, KeyRing, PublicKeys};
pub use password::{PasswordCheck, Passwords};
pub use revocation::Revocations;
pub use token::{AccessClaims, RefreshClaims, TokenIssuer, TokenPolicy};
pub use verifier::TokenVerifier;
