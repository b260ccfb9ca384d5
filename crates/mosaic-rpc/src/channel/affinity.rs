//! What keeps the calls of one caller at one instance.

use mosaic_core::Context;
use mosaic_core::config::{Raw, Value};

use crate::balance::hash_text;

/// What a call is hashed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Affinity {
    /// Nothing: any instance is as good as another.
    #[default]
    None,
    /// The account that calls.
    Account,
    /// The session that calls.
    Session,
    /// The address of the client.
    Ip,
    /// The idempotency key.
    IdempotencyKey,
}

impl Affinity {
    /// Returns the key of a call; `None` where it has none, and then any instance takes it.
    ///
    /// The same in every process and version, so that all callers of one account find the same instance.
    pub(super) fn key(self, cx: &Context) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Account => Some(hash_text(&cx.identity()?.account.to_string())),
            Self::Session => Some(hash_text(&cx.identity()?.session)),
            Self::Ip => Some(hash_text(&cx.origin().ip?.to_string())),
            Self::IdempotencyKey => Some(hash_text(cx.idempotency_key()?)),
        }
    }
}

impl Value for Affinity {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match String::parse(raw)?.as_str() {
            "none" => Ok(Self::None),
            "account" => Ok(Self::Account),
            "session" => Ok(Self::Session),
            "ip" => Ok(Self::Ip),
            "idempotency-key" => Ok(Self::IdempotencyKey),
            _ => Err("must be none, account, session, ip or idempotency-key".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::None => "none",
            Self::Account => "account",
            Self::Session => "session",
            Self::Ip => "ip",
            Self::IdempotencyKey => "idempotency-key",
        }
        .to_owned()
    }
}
