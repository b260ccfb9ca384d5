//! What modules tell each other.
//!
//! JSON, so that consumers of another release, and people at night, can read it: fields may be added, none may change its meaning.
//! An event says what happened to whom; who needs more (an address, a name) asks, so that no personal data lie on a bus.

use mosaic::AccountId;
use mosaic::events::Event;
use mosaic::serde::{Deserialize, Serialize};

/// Somebody has got an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct UserRegistered {
    /// The account.
    pub account: AccountId,
}

impl Event for UserRegistered {
    const TOPIC: &'static str = "users";
    const NAME: &'static str = "user.registered";

    fn key(&self) -> String {
        self.account.to_string()
    }
}
