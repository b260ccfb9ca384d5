//! What is put into an index.

use std::collections::BTreeMap;

use mosaic_core::{Error, Result};

use crate::{IndexSchema, Kind};

pub(crate) const ID_BYTES_MAX: usize = 256;
pub(crate) const BATCH_MAX: usize = 1000;
const KEYWORD_BYTES_MAX: usize = 1024;
const VALUES_MAX: usize = 256;
/// Of all texts of a batch: what a request to a remote engine may well be.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of texts and keywords: one, several or none.
    Texts(Vec<String>),
    /// Of numbers.
    Number(i64),
}

impl Value {
    /// Returns the first text, if there is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Texts(texts) => texts.first().map(String::as_str),
            Self::Number(_) => None,
        }
    }

    /// Returns the number, if it is one.
    pub fn as_number(&self) -> Option<i64> {
        match self {
            Self::Texts(_) => None,
            Self::Number(number) => Some(*number),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Texts(vec![text.to_owned()])
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Texts(vec![text])
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A document in a version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) values: BTreeMap<String, Value>,
}

impl Document {
    /// Makes a document without fields; versions are above zero and grow.
    pub fn new(id: impl Into<String>, version: i64) -> Self {
        Self {
            id: id.into(),
            version,
            values: BTreeMap::new(),
        }
    }

    /// Returns the document with the value of a field.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.values.insert(field.to_owned(), value.into());
        self
    }
}

/// That a document is not to be found any more, as of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub(crate) id: String,
    pub(crate) version: i64,
}

impl Removal {
    /// Removes the document `id` in `version` and earlier ones.
    pub fn new(id: impl Into<String>, version: i64) -> Self {
        Self { id: id.into(), version }
    }
}

/// Refuses documents that do not fit the schema or the limits.
pub(crate) fn check_documents(schema: &IndexSchema, documents: &[Document]) -> Result<()> {
    check_batch(
        documents
            .iter()
            .map(|document| (document.id.as_str(), document.version)),
    )?;
    let mut n_bytes = 0;
    for document in documents {
        for (name, value) in &document.values {
            let kind = schema.field(name)?.kind;
            let fits = match value {
                Value::Number(_) => kind == Kind::Number,
                Value::Texts(texts) => {
                    n_bytes += texts.iter().map(String::len).sum::<usize>();
                    kind != Kind::Number
                        && texts.len() <= VALUES_MAX
                        && (kind == Kind::Text || texts.iter().all(|text| text.len() <= KEYWORD_BYTES_MAX))
                }
            };
            if !fits {
                return Err(invalid(format!("the value of field {name:?} does not fit it")));
            }
        }
    }
    if n_bytes > BATCH_BYTES_MAX {
        return Err(invalid("the texts of a batch are more than 8 MiB"));
    }
    Ok(())
}

/// Refuses removals beyond the limits.
pub(crate) fn check_removals(removals: &[Removal]) -> Result<()> {
    check_batch(removals.iter().map(|removal| (removal.id.as_str(), removal.version)))
}

fn check_batch<'a>(batch: impl ExactSizeIterator<Item = (&'a str, i64)>) -> Result<()> {
    if batch.len() > BATCH_MAX {
        return Err(invalid("a batch is of at most 1000"));
    }
    for (id, version) in batch {
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains(char::is_control) {
            return Err(invalid("an id is of 1 to 256 bytes, without control characters"));
        }
        if version <= 0 {
            return Err(invalid("a version is above zero"));
        }
    }
    Ok(())
}

fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid_argument("SEARCH_DOCUMENT_INVALID", why)
}
