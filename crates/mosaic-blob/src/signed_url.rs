//! Presigned URLs of files, signed with a key that the processes of the platform share.
//!
//! What is signed is the method, the key and the rest of the query *as it is written*: nothing is normalised, so there is
//! nothing on which signer and verifier could differ. The signature is last, is compared in constant time, and is looked
//! at before anything in the query is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use mosaic_core::{Error, Result, Secret, Timestamp};
use sha2::Sha256;

use crate::{BlobKey, ContentType};

/// What stands before the signature.
const SIGNATURE: &str = "&sig=";

/// What a URL allows beside its method and key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Grant {
    pub(crate) expires_s: i64,
    pub(crate) content_type: Option<ContentType>,
    pub(crate) disposition: Option<String>,
    pub(crate) size_bytes: Option<u64>,
}

impl Grant {
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("expires", &self.expires_s.to_string());
        if let Some(content_type) = &self.content_type {
            query.append_pair("type", content_type.as_str());
        }
        if let Some(disposition) = &self.disposition {
            query.append_pair("disposition", disposition);
        }
        if let Some(size_bytes) = self.size_bytes {
            query.append_pair("size", &size_bytes.to_string());
        }
        query.finish()
    }

    /// Reads what we have signed; `None` cannot happen but between versions.
    fn parse(query: &str) -> Option<Self> {
        let mut grant = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "expires" => grant.expires_s = value.parse().ok()?,
                "type" => grant.content_type = Some(value.parse().ok()?),
                "disposition" => grant.disposition = Some(value.into_owned()),
                "size" => grant.size_bytes = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(grant)
    }
}

/// Signs and verifies.
#[derive(Debug)]
pub(crate) struct UrlSigner(Secret<Vec<u8>>);

impl UrlSigner {
    pub(crate) const fn new(key: Secret<Vec<u8>>) -> Self {
        Self(key)
    }

    /// Returns the query of a URL that allows `method` on `key`.
    pub(crate) fn sign(&self, method: &str, key: &BlobKey, grant: &Grant) -> String {
        let query = grant.query();
        let signature = self.mac(method, key, &query).finalize().into_bytes();
        format!("{query}{SIGNATURE}{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns what `query` allows at `now`.
    ///
    /// # Errors
    /// `BLOB_URL_INVALID`, whatever is wrong; `BLOB_URL_EXPIRED` if only the time is.
    pub(crate) fn verify(&self, method: &str, key: &BlobKey, query: &str, now: Timestamp) -> Result<Grant> {
        let invalid = || Error::permission_denied("BLOB_URL_INVALID", "the signature is not valid");
        let (signed, signature) = query.rsplit_once(SIGNATURE).ok_or_else(invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid())?;
        let outcome = self.mac(method, key, signed).verify_slice(&signature);
        outcome.map_err(|_| invalid())?;
        let grant = Grant::parse(signed).ok_or_else(invalid)?;
        if now.as_secs() < grant.expires_s {
            Ok(grant)
        } else {
            Err(Error::permission_denied("BLOB_URL_EXPIRED", "the link has expired"))
        }
    }

    fn mac(&self, method: &str, key: &BlobKey, query: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        // None of the first three has a line feed in it.
        mac.update(format!("mosaic-blob-1\n{method}\n{key}\n{query}").as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> UrlSigner {
        UrlSigner::new(Secret::new(vec![7; 32]))
    }

    fn grant() -> Grant {
        Grant {
            expires_s: 1000,
            content_type: Some("image/png".parse().unwrap()),
            disposition: Some("attachment; filename=\"a&sig=b\"".to_owned()),
            size_bytes: Some(12),
        }
    }

    #[test]
    fn what_was_signed_is_allowed_until_it_expires() {
        let key = "a/b".parse().unwrap();
        let query = signer().sign("PUT", &key, &grant());
        let verify = |secs| signer().verify("PUT", &key, &query, Timestamp::from_secs(secs));
        assert_eq!(verify(999).unwrap(), grant());
        assert_eq!(verify(1000).unwrap_err().reason(), "BLOB_URL_EXPIRED");
    }

    #[test]
    fn nothing_else_is_allowed() {
        let key: BlobKey = "a/b".parse().unwrap();
        let query = signer().sign("PUT", &key, &grant());
        let now = Timestamp::from_secs(0);
        let refused = |signer: UrlSigner, method: &str, key: &str, query: &str| {
            let error = signer
                .verify(method, &key.parse().unwrap(), query, now)
                .expect_err(query);
            assert_eq!(error.reason(), "BLOB_URL_INVALID", "{method} {key} {query}");
        };
        refused(signer(), "GET", "a/b", &query);
        refused(signer(), "PUT", "a/c", &query);
        refused(UrlSigner::new(Secret::new(vec![8; 32])), "PUT", "a/b", &query);
        // Any one byte of it changed, or any end of it missing.
        for (at, byte) in query.bytes().enumerate() {
            let other = if byte == b'A' { b'B' } else { b'A' };
            let mut changed = query.clone().into_bytes();
            changed[at] = other;
            let changed = String::from_utf8(changed).unwrap();
            if URL_SAFE_NO_PAD.decode(changed.rsplit('=').next().unwrap()).is_ok() || at < query.len() - 1 {
                refused(signer(), "PUT", "a/b", &changed);
            }
            refused(signer(), "PUT", "a/b", &query[..at]);
        }
        refused(signer(), "PUT", "a/b", &format!("expires=9999999&{query}"));
        refused(signer(), "PUT", "a/b", &format!("{query}&size=99"));
        refused(signer(), "PUT", "a/b", &query.replace("expires=1000", "expires=2000"));
    }
}
