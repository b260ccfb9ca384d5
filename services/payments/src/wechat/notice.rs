//! Notifications: believed if signed, then opened, then read.

use http::HeaderMap;
use mosaic::Timestamp;

use super::client::Credentials;
use super::gate::{Forged, verify};
use super::wire::{NoticeBody, RefundWire, Trade};
use crate::model::{RefundFact, TradeFact};

/// What a notification says.
#[derive(Debug)]
pub(crate) enum Notice {
    Trade(TradeFact),
    Refund(RefundFact),
}

/// Why a notification is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Forged(#[from] Forged),
    /// Genuine, yet it cannot be read: a wrong API v3 key, or a newer protocol. It is to be repeated.
    #[error("a genuine notification cannot be read: {0}")]
    Unreadable(&'static str),
}

/// Reads a notification.
pub(crate) fn read(keys: &Credentials, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Notice, Refusal> {
    verify(keys, headers, body, now)?;
    let notice: NoticeBody = serde_json::from_slice(body).map_err(|_| Refusal::Unreadable("body"))?;
    let resource = &notice.resource;
    if resource.algorithm != "AEAD_AES_256_GCM" {
        return Err(Refusal::Unreadable("algorithm"));
    }
    let plain = keys
        .api_key
        .open(&resource.nonce, &resource.associated_data, &resource.ciphertext)
        .ok_or(Refusal::Unreadable("seal"))?;
    match resource.original_type.as_str() {
        "transaction" => {
            let trade: Trade = serde_json::from_slice(&plain).map_err(|_| Refusal::Unreadable("trade"))?;
            let fact = trade.into_fact().ok_or(Refusal::Unreadable("trade state"))?;
            Ok(Notice::Trade(fact))
        }
        "refund" => {
            let refund: RefundWire = serde_json::from_slice(&plain).map_err(|_| Refusal::Unreadable("refund"))?;
            let fact = refund.into_fact().ok_or(Refusal::Unreadable("refund state"))?;
            Ok(Notice::Refund(fact))
        }
        _ => Err(Refusal::Unreadable("type")),
    }
}
