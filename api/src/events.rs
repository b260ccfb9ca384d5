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

/// What an item of a product is: articles and videos are liked, commented on, ranked and found alike.
///
/// `biz` names the kind, `biz_id` the one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct Item {
    /// The kind, such as `article`.
    pub biz: String,
    /// The one.
    pub biz_id: i64,
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.biz, self.biz_id)
    }
}

/// Everybody can read an item now, or can read its new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct ItemPublished {
    /// Which one.
    pub item: Item,
    /// Who wrote it.
    pub author: AccountId,
    /// When it was first published, in microseconds since 1970; a new version keeps it.
    pub published_at_us: i64,
}

impl Event for ItemPublished {
    const TOPIC: &'static str = "items";
    const NAME: &'static str = "item.published";

    fn key(&self) -> String {
        self.item.to_string()
    }
}

/// Only its author can read an item now, or nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct ItemWithdrawn {
    /// Which one.
    pub item: Item,
    /// Who wrote it.
    pub author: AccountId,
}

impl Event for ItemWithdrawn {
    const TOPIC: &'static str = "items";
    const NAME: &'static str = "item.withdrawn";

    fn key(&self) -> String {
        self.item.to_string()
    }
}

/// The likes of an item have changed.
///
/// Says how many there are, not how many more, so that one that comes twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct LikesChanged {
    /// Whose.
    pub item: Item,
    /// How many like it.
    pub likes: i64,
}

impl Event for LikesChanged {
    const TOPIC: &'static str = "interactions";
    const NAME: &'static str = "likes.changed";

    fn key(&self) -> String {
        self.item.to_string()
    }
}

/// Somebody has read a published article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct ArticleRead {
    /// Which one.
    pub article_id: i64,
    /// Who, if known.
    pub reader: Option<AccountId>,
    /// When, in microseconds since 1970.
    pub at_us: i64,
}

impl Event for ArticleRead {
    const TOPIC: &'static str = "article_read";
    const NAME: &'static str = "article.read";

    fn key(&self) -> String {
        self.article_id.to_string()
    }
}

/// Somebody follows somebody, or does not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct FollowChanged {
    /// Who follows.
    pub follower: AccountId,
    /// Who is followed.
    pub followee: AccountId,
    /// Does he now?
    pub is_following: bool,
}

impl Event for FollowChanged {
    const TOPIC: &'static str = "relations";
    const NAME: &'static str = "follow.changed";

    fn key(&self) -> String {
        self.follower.to_string()
    }
}

/// Somebody has changed what he says of himself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct ProfileChanged {
    /// Who.
    pub account: AccountId,
    /// `updated_at_us` of the profile with this change: whoever asks and gets an earlier one asks again.
    #[serde(default)]
    pub updated_at_us: i64,
}

impl Event for ProfileChanged {
    const TOPIC: &'static str = "users";
    const NAME: &'static str = "profile.changed";

    fn key(&self) -> String {
        self.account.to_string()
    }
}

/// How a payment has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde", rename_all = "snake_case")]
pub enum PaymentOutcome {
    /// The money is ours.
    Paid,
    /// It will not come.
    Failed,
    /// It went back.
    Refunded,
}

/// A payment has ended, or was refunded after it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "mosaic::serde")]
pub struct PaymentSettled {
    /// What was paid for: the kind, such as `reward`.
    pub biz: String,
    /// And the one: the merchant's number of the trade.
    pub trade_no: String,
    /// How it ended.
    pub outcome: PaymentOutcome,
    /// Fen that were paid.
    pub amount_fen: i64,
}

impl Event for PaymentSettled {
    const TOPIC: &'static str = "payments";
    const NAME: &'static str = "payment.settled";

    fn key(&self) -> String {
        self.trade_no.clone()
    }
}
