//! Who speaks: the signature of answers and notifications, and whether they are fresh.

use std::time::Duration;

use http::HeaderMap;
use mosaic::Timestamp;

use super::client::Credentials;
use super::crypto::answer_text;

/// What was signed longer ago, or will be signed, is a recording.
const FRESH_FOR: Duration = Duration::from_secs(5 * 60);

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forged {
    #[error("a header of the signature is missing or there twice")]
    Unsigned,
    #[error("signed by a key that is not the provider's")]
    OtherKey,
    #[error("signed too long ago, or in the future")]
    Stale,
    #[error("the signature is not that of the message")]
    Signature,
}

/// Returns the one value of a header.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Forged> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Forged::Unsigned),
        _ => Err(Forged::Unsigned),
    }
}

/// Believes `body` if its headers have a fresh signature of the provider's.
pub(crate) fn verify(keys: &Credentials, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Forged> {
    let timestamp = only(headers, "wechatpay-timestamp")?;
    let nonce = only(headers, "wechatpay-nonce")?;
    let signature = only(headers, "wechatpay-signature")?;
    if only(headers, "wechatpay-serial")? != keys.platform_serial {
        return Err(Forged::OtherKey);
    }
    let signed: i64 = timestamp.parse().map_err(|_| Forged::Stale)?;
    let apart = now.as_secs().checked_sub(signed).map(i64::unsigned_abs);
    if apart.is_none_or(|apart| apart > FRESH_FOR.as_secs()) {
        return Err(Forged::Stale);
    }
    if keys
        .platform_key
        .is_valid(&answer_text(timestamp, nonce, body), signature)
    {
        Ok(())
    } else {
        Err(Forged::Signature)
    }
}
