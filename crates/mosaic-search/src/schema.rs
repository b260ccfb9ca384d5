//! What an index is called and what its documents consist of.
//!
//! A schema belongs to the code, not to the engine: it is given each time an index is opened. Its [`IndexSchema::fingerprint`] tells
//! an index that was made with another one, which then begins anew instead of answering by rules that are not in the code any more.

use std::fmt;

use mosaic_core::{Error, Result};

/// Changed with the way in which engines lay an index out, and with [`crate::words`].
const LAYOUT: u32 = 1;
const FIELDS_MAX: usize = 32;

/// Name of an index: lower-case letters, digits and `-`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexName(String);

impl IndexName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for IndexName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_clean = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if is_clean && (1..=64).contains(&text.len()) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            let message = "the name of an index has lower-case letters, digits and -, at most 64";
            Err(Error::invalid_argument("SEARCH_INDEX_NAME_INVALID", message))
        }
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a field is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By its words.
    Text,
    /// As a whole, by filters.
    Keyword,
    /// By ranges.
    Number,
}

/// One field of the documents of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) boost: f32,
    pub(crate) is_returned: bool,
}

impl Field {
    /// A field that is found by its words.
    pub fn text(name: &str) -> Self {
        Self::new(name, Kind::Text)
    }

    /// A field for filters, one value or several.
    pub fn keyword(name: &str) -> Self {
        Self::new(name, Kind::Keyword)
    }

    /// A field for filters by range.
    pub fn number(name: &str) -> Self {
        Self::new(name, Kind::Number)
    }

    /// Multiplies what a word in this field counts for, where a query does not say otherwise.
    #[must_use]
    pub fn boosted(mut self, boost: f32) -> Self {
        self.boost = boost;
        self
    }

    /// Keeps the field as it was put, and returns it with each hit.
    #[must_use]
    pub fn returned(mut self) -> Self {
        self.is_returned = true;
        self
    }

    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            boost: 1.0,
            is_returned: false,
        }
    }
}

/// An index by name, and what its documents consist of.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSchema {
    name: IndexName,
    fields: Vec<Field>,
}

impl IndexSchema {
    /// Checks and makes a schema.
    ///
    /// # Errors
    /// `InvalidArgument` (`SEARCH_INDEX_NAME_INVALID`, `SEARCH_SCHEMA_INVALID`) for a name that is none, a field that is there twice,
    /// a boost that is not above zero, no text at all, or more than 32 fields.
    pub fn new(name: &str, fields: impl Into<Vec<Field>>) -> Result<Self> {
        let schema = Self {
            name: name.parse()?,
            fields: fields.into(),
        };
        let is_plain = |name: &str| {
            (1..=64).contains(&name.len())
                && !name.starts_with('_')
                && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        let names: std::collections::HashSet<_> = schema.fields.iter().map(|field| &field.name).collect();
        for (holds, why) in [
            (
                schema.fields.iter().all(|field| is_plain(&field.name)),
                "a field has a name that is none",
            ),
            (names.len() == schema.fields.len(), "two fields have one name"),
            (
                schema.fields.iter().all(|field| is_boost(field.boost)),
                "a boost is above zero, and at most 1000",
            ),
            (schema.texts().next().is_some(), "there is no text to search"),
            (schema.fields.len() <= FIELDS_MAX, "there are more than 32 fields"),
        ] {
            if !holds {
                return Err(Error::invalid_argument("SEARCH_SCHEMA_INVALID", why));
            }
        }
        Ok(schema)
    }

    /// Returns the same schema for an index of another name.
    #[must_use]
    pub fn named(&self, name: IndexName) -> Self {
        Self {
            name,
            fields: self.fields.clone(),
        }
    }

    /// Returns the name of the index.
    pub fn name(&self) -> &IndexName {
        &self.name
    }

    /// Returns the fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns the field `name`.
    ///
    /// # Errors
    /// `InvalidArgument` (`SEARCH_FIELD_UNKNOWN`).
    pub fn field(&self, name: &str) -> Result<&Field> {
        let found = self.fields.iter().find(|field| field.name == name);
        found.ok_or_else(|| Error::invalid_argument("SEARCH_FIELD_UNKNOWN", format!("there is no field {name:?}")))
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.kind == Kind::Text)
    }

    pub(crate) fn returned(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.is_returned)
    }

    /// Returns what is the same if, and only if, documents are laid out alike; boosts are no part of it.
    pub fn fingerprint(&self) -> String {
        let mut text = format!("{LAYOUT}");
        for field in &self.fields {
            text.push_str(&format!(";{} {:?} {}", field.name, field.kind, field.is_returned));
        }
        // FNV-1a: the same in every build, which the hashers of std do not promise.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

pub(crate) fn is_boost(boost: f32) -> bool {
    boost > 0.0 && boost <= 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(name: &str, fields: Vec<Field>) -> String {
        IndexSchema::new(name, fields).unwrap_err().reason().to_owned()
    }

    #[test]
    fn a_schema_that_no_engine_could_keep_is_refused() {
        assert_eq!(reason("Items", vec![Field::text("a")]), "SEARCH_INDEX_NAME_INVALID");
        assert_eq!(reason("../x", vec![Field::text("a")]), "SEARCH_INDEX_NAME_INVALID");
        for fields in [
            vec![],
            vec![Field::keyword("a")],
            vec![Field::text("a"), Field::number("a")],
            vec![Field::text("_id")],
            vec![Field::text("a b")],
            vec![Field::text("a").boosted(f32::NAN)],
            vec![Field::text("a").boosted(0.0)],
            (0..33).map(|n| Field::text(&format!("f{n}"))).collect(),
        ] {
            assert_eq!(reason("items", fields), "SEARCH_SCHEMA_INVALID");
        }
    }

    #[test]
    fn a_fingerprint_is_of_the_layout() {
        let print = |field: Field| IndexSchema::new("items", [field]).unwrap().fingerprint();
        let one = print(Field::text("title"));
        assert_eq!(one, print(Field::text("title").boosted(4.0)));
        assert_ne!(one, print(Field::text("titles")));
        assert_ne!(one, print(Field::text("title").returned()));
        assert_eq!(one, "7b713ad528cff987", "indexes of running platforms would begin anew");
    }
}
