//! What is found, and how it is laid out for an engine.

use mosaic::search::{Document, Field, IndexSchema, Removal};
use mosaic::{AccountId, Result};
use serde::{Deserialize, Serialize};

/// So much of a content is searched; at four bytes a character it fits the smallest text column.
const CONTENT_CHARS_MAX: usize = 16_000;

/// What an entry is of: each kind has an index of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    User,
    Item,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::User, Self::Item];

    /// Returns the name, as stored.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
        }
    }

    /// Returns the index of a generation: a rebuild makes the next one.
    pub(crate) fn schema(self, generation: i64) -> Result<IndexSchema> {
        let name = format!("{}s-{generation}", self.name());
        match self {
            Self::User => IndexSchema::new(
                &name,
                [Field::text("title").returned(), Field::number("biz_id").returned()],
            ),
            Self::Item => {
                let fields = [
                    Field::text("title").boosted(4.0).returned(),
                    Field::text("content").boosted(4.0),
                    Field::text("tags"),
                    Field::keyword("biz").returned(),
                    Field::number("biz_id").returned(),
                    Field::number("author_id"),
                ];
                IndexSchema::new(&name, fields)
            }
        }
    }
}

/// Names an entry, and its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryKey {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

impl EntryKey {
    pub(crate) fn user(account: AccountId) -> Self {
        Self {
            kind: Kind::User,
            id: account.to_string(),
        }
    }

    pub(crate) fn item(biz: &str, biz_id: i64) -> Self {
        Self {
            kind: Kind::Item,
            id: item_id(biz, biz_id),
        }
    }
}

/// Returns the id of an item's document.
pub(crate) fn item_id(biz: &str, biz_id: i64) -> String {
    format!("{biz}:{biz_id}")
}

/// A person or an item in a version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: EntryKey,
    /// Of an item; empty for a person.
    pub(crate) biz: String,
    /// The item, or the account.
    pub(crate) biz_id: i64,
    /// Of an item; the nickname of a person.
    pub(crate) title: String,
    pub(crate) content: String,
    pub(crate) tags: Vec<String>,
    pub(crate) author_id: i64,
    pub(crate) version: i64,
    pub(crate) is_removed: bool,
}

impl Entry {
    /// A person.
    pub(crate) fn user(account: AccountId, nickname: &str, version: i64) -> Self {
        Self {
            key: EntryKey::user(account),
            biz: String::new(),
            biz_id: account.get(),
            title: printable(nickname),
            content: String::new(),
            tags: Vec::new(),
            author_id: account.get(),
            version,
            is_removed: false,
        }
    }

    /// An item without its texts, which is not to be found.
    pub(crate) fn removed_item(biz: &str, biz_id: i64, version: i64) -> Self {
        Self {
            key: EntryKey::item(biz, biz_id),
            biz: biz.to_owned(),
            biz_id,
            title: String::new(),
            content: String::new(),
            tags: Vec::new(),
            author_id: 0,
            version,
            is_removed: true,
        }
    }

    /// Returns the entry of an item with its texts, as far as they are searched.
    pub(crate) fn saying(self, title: &str, content: &str, tags: &[String], author_id: i64) -> Self {
        let content: String = content.chars().take(CONTENT_CHARS_MAX).collect();
        Self {
            title: printable(title),
            content: printable(&content),
            tags: tags.iter().map(|tag| printable(tag)).collect(),
            author_id,
            is_removed: false,
            ..self
        }
    }

    /// Does it replace an entry of version `known`? One of the same version does: it may be a repetition that nobody finished.
    pub(crate) fn replaces(&self, known: i64) -> bool {
        self.version >= known
    }

    /// Returns what an engine is to do.
    pub(crate) fn change(self) -> Change {
        if self.is_removed {
            return Change::Remove(Removal::new(self.key.id, self.version));
        }
        let document = Document::new(self.key.id, self.version)
            .with("title", self.title)
            .with("biz_id", self.biz_id);
        Change::Put(match self.key.kind {
            Kind::User => document,
            Kind::Item => document
                .with("content", self.content)
                .with("tags", self.tags)
                .with("biz", self.biz)
                .with("author_id", self.author_id),
        })
    }
}

/// What an engine is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Document),
    Remove(Removal),
}

/// NUL is no text for some databases; it is no word for anybody.
fn printable(text: &str) -> String {
    text.replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(version: i64) -> Entry {
        Entry::removed_item("article", 7, version)
    }

    #[test]
    fn every_kind_has_a_schema_that_is_one() {
        for kind in Kind::ALL {
            let name = kind.schema(12).unwrap().name().to_string();
            assert_eq!(name, format!("{}s-12", kind.name()));
        }
    }

    #[test]
    fn an_entry_becomes_a_document_or_its_removal() {
        let said = item(3).saying("Title", "Content", &["tag".into()], 9);
        let document = Document::new("article:7", 3)
            .with("title", "Title")
            .with("content", "Content")
            .with("tags", vec!["tag".to_owned()])
            .with("biz", "article")
            .with("biz_id", 7)
            .with("author_id", 9);
        assert_eq!(said.change(), Change::Put(document));
        assert_eq!(item(3).change(), Change::Remove(Removal::new("article:7", 3)));
        let account = AccountId::try_from(5).unwrap();
        let user = Document::new("5", 2).with("title", "Ada").with("biz_id", 5);
        assert_eq!(Entry::user(account, "Ada", 2).change(), Change::Put(user));
    }

    #[test]
    fn only_an_older_version_is_late() {
        assert!(item(3).replaces(2) && item(3).replaces(3) && !item(3).replaces(4));
    }

    #[test]
    fn the_beginning_of_a_long_content_is_searched() {
        let said = item(1).saying("a\0b", &"文".repeat(20_000), &[], 1);
        assert_eq!((said.title.as_str(), said.content.chars().count()), ("a b", 16_000));
        assert!(said.content.len() < 65_535);
    }
}
