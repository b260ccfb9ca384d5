//! What a comment is, where it may be put, and when one is the repetition of another.

use mosaic::{AccountId, Error, Timestamp, hex};
use sha2::{Digest as _, Sha256};

mosaic::id_type! {
    /// Identifies a comment; of two under one item the newer one has the greater.
    pub(crate) struct CommentId;
}

/// What is commented on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) biz: String,
    pub(crate) biz_id: i64,
}

/// Where a comment hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the item itself.
    Root,
    /// Somewhere below `root`.
    Reply { root: CommentId, parent: CommentId },
}

impl Place {
    /// Returns the place of a reply to the comment `parent`, which hangs at this one.
    pub(crate) const fn of_reply_to(self, parent: CommentId) -> Self {
        match self {
            Self::Root => Self::Reply { root: parent, parent },
            Self::Reply { root, .. } => Self::Reply { root, parent },
        }
    }

    /// Returns the root that counts what hangs here.
    pub(crate) const fn root(self) -> Option<CommentId> {
        match self {
            Self::Root => None,
            Self::Reply { root, .. } => Some(root),
        }
    }

    /// Returns what is replied to.
    pub(crate) const fn parent(self) -> Option<CommentId> {
        match self {
            Self::Root => None,
            Self::Reply { parent, .. } => Some(parent),
        }
    }
}

/// A comment that was written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) id: CommentId,
    pub(crate) account: AccountId,
    pub(crate) place: Place,
    pub(crate) content: String,
    pub(crate) created: Timestamp,
    /// How many hang below it; only roots count.
    pub(crate) n_replies: i64,
}

/// A root as a list shows it.
pub(crate) struct Thread {
    pub(crate) root: Comment,
    /// Newest first.
    pub(crate) newest_replies: Vec<Comment>,
}

/// A comment that somebody wants to write.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) item: Item,
    pub(crate) account: AccountId,
    pub(crate) parent: Option<CommentId>,
    pub(crate) content: String,
    pub(crate) key: Option<Key>,
}

impl Draft {
    /// Is `written`, which has the same key and hangs under the same item, this one?
    pub(crate) fn is_repeated(&self, written: &Comment) -> Result<(), CommentError> {
        if written.place.parent() == self.parent && written.content == self.content {
            Ok(())
        } else {
            Err(CommentError::KeyReused)
        }
    }
}

/// What is kept of an idempotency key: of equal length whatever the caller sends, and alike in every collation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(key: &str) -> Self {
        Self(hex(Sha256::digest(key.as_bytes())))
    }

    /// Returns the 64 digits that are stored.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a comment is not written or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommentError {
    /// It is not there, not under this item, or not his.
    NotFound,
    ItemGone,
    KeyReused,
}

impl From<CommentError> for Error {
    fn from(error: CommentError) -> Self {
        match error {
            CommentError::NotFound => Self::not_found("COMMENT_NOT_FOUND", "no such comment"),
            CommentError::ItemGone => Self::failed_precondition("ITEM_GONE", "what was commented on is gone"),
            CommentError::KeyReused => {
                Self::failed_precondition("IDEMPOTENCY_KEY_REUSED", "the key was used for another comment")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: i64) -> CommentId {
        CommentId::try_from(id).unwrap()
    }

    #[test]
    fn a_reply_stays_under_the_root_of_what_it_replies_to() {
        let reply = Place::Root.of_reply_to(id(1));
        let deeper = reply.of_reply_to(id(2));
        let of = |place: Place| (place.root().map(CommentId::get), place.parent().map(CommentId::get));
        assert_eq!(of(Place::Root), (None, None));
        assert_eq!(of(reply), (Some(1), Some(1)));
        assert_eq!(of(deeper), (Some(1), Some(2)));
    }

    #[test]
    fn a_repetition_says_the_same_at_the_same_place() {
        let account = AccountId::try_from(7).unwrap();
        let written = Comment {
            id: id(3),
            account,
            place: Place::Root.of_reply_to(id(1)),
            content: "hi".to_owned(),
            created: Timestamp::from_secs(0),
            n_replies: 0,
        };
        for (parent, content, want) in [
            (Some(1), "hi", Ok(())),
            (Some(2), "hi", Err(CommentError::KeyReused)),
            (None, "hi", Err(CommentError::KeyReused)),
            (Some(1), "ho", Err(CommentError::KeyReused)),
        ] {
            let biz = "article".to_owned();
            let draft = Draft {
                item: Item { biz, biz_id: 1 },
                account,
                parent: parent.map(id),
                content: content.to_owned(),
                key: None,
            };
            assert_eq!(draft.is_repeated(&written), want, "{parent:?} {content}");
        }
    }
}
