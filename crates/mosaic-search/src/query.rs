//! What is asked of an index, and what it answers.
//!
//! The text of a query is words and nothing else. Its size is bounded before it is cut, so that the work an engine does for a query
//! is bounded by us and not by whoever asks.

use std::collections::BTreeMap;

use mosaic_core::{Error, Result};

use crate::document::ID_BYTES_MAX;
use crate::schema::is_boost;
use crate::words::searched_words;
use crate::{IndexSchema, Kind, Value};

const TEXT_BYTES_MAX: usize = 1024;
/// Distinct words; a text of 1024 bytes has hardly more.
const WORDS_MAX: usize = 512;
const LIMIT_MAX: usize = 100;
const OFFSET_MAX: usize = 5000;
const FILTERS_MAX: usize = 16;
const BOOSTED_IDS_MAX: usize = 4096;
const CHOICES_MAX: usize = 256;

/// A condition that hits fulfil; it does not change their score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// A keyword field has one of these values.
    AnyOf(String, Vec<String>),
    /// A number field is in this range, both ends included.
    Between(String, i64, i64),
}

impl Filter {
    /// A keyword field has this value.
    pub fn is(field: &str, value: impl Into<String>) -> Self {
        Self::AnyOf(field.to_owned(), vec![value.into()])
    }
}

/// Documents whose score is multiplied, if the text finds them.
#[derive(Debug, Clone, PartialEq)]
pub struct Boost {
    /// Their ids.
    pub ids: Vec<String>,
    /// By what; those of several boosts are multiplied.
    pub factor: f32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub(crate) text: String,
    pub(crate) fields: Vec<(String, f32)>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) boosts: Vec<Boost>,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

impl Query {
    /// Asks for documents with words of `text` in any text field, the best ten.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            fields: Vec::new(),
            filters: Vec::new(),
            boosts: Vec::new(),
            limit: 10,
            offset: 0,
        }
    }

    /// Looks in this field, and in no others that are not named so, too.
    #[must_use]
    pub fn field(mut self, name: &str, boost: f32) -> Self {
        self.fields.push((name.to_owned(), boost));
        self
    }

    /// Adds a condition.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Multiplies the score of documents.
    #[must_use]
    pub fn boost(mut self, ids: Vec<String>, factor: f32) -> Self {
        self.boosts.push(Boost { ids, factor });
        self
    }

    /// Asks for `limit` hits (at most 100) after the first `offset` (at most 5000).
    #[must_use]
    pub fn page(mut self, limit: usize, offset: usize) -> Self {
        (self.limit, self.offset) = (limit, offset);
        self
    }

    /// Refuses what does not fit the schema or the limits; names the fields that are searched.
    pub(crate) fn checked(mut self, schema: &IndexSchema) -> Result<Self> {
        let refuse = |reason: &'static str, why: &'static str| Err(Error::invalid_argument(reason, why));
        if self.text.len() > TEXT_BYTES_MAX {
            return refuse("SEARCH_QUERY_TOO_LONG", "a query is of at most 1024 bytes");
        }
        if searched_words(&self.text).len() > WORDS_MAX {
            return refuse("SEARCH_QUERY_TOO_LONG", "a query has at most 512 words");
        }
        if self.limit == 0 || self.limit > LIMIT_MAX || self.offset > OFFSET_MAX {
            return refuse(
                "SEARCH_PAGE_INVALID",
                "a page has 1 to 100 hits and begins at 5000 at most",
            );
        }
        if self.fields.is_empty() {
            self.fields = schema.texts().map(|field| (field.name.clone(), field.boost)).collect();
        }
        for (name, boost) in &self.fields {
            if schema.field(name)?.kind != Kind::Text || !is_boost(*boost) {
                return refuse(
                    "SEARCH_QUERY_INVALID",
                    "words are looked for in texts, with boosts above zero",
                );
            }
        }
        self.check_filters(schema)?;
        let n_ids: usize = self.boosts.iter().map(|boost| boost.ids.len()).sum();
        let ids = || self.boosts.iter().flat_map(|boost| &boost.ids);
        if n_ids > BOOSTED_IDS_MAX
            || ids().any(|id| id.len() > ID_BYTES_MAX)
            || !self.boosts.iter().all(|boost| is_boost(boost.factor))
        {
            return refuse(
                "SEARCH_QUERY_INVALID",
                "at most 4096 ids are boosted, by factors above zero",
            );
        }
        Ok(self)
    }

    fn check_filters(&self, schema: &IndexSchema) -> Result<()> {
        let mut fits = self.filters.len() <= FILTERS_MAX;
        for filter in &self.filters {
            fits &= match filter {
                Filter::AnyOf(name, values) => {
                    schema.field(name)?.kind == Kind::Keyword && (1..=CHOICES_MAX).contains(&values.len())
                }
                Filter::Between(name, from, to) => schema.field(name)?.kind == Kind::Number && from <= to,
            };
        }
        let invalid = || Error::invalid_argument("SEARCH_QUERY_INVALID", "a filter does not fit its field");
        fits.then_some(()).ok_or_else(invalid)
    }
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// Higher is better; comparable within one answer only.
    pub score: f32,
    /// Its fields that are [returned](crate::Field::returned).
    pub values: BTreeMap<String, Value>,
}

/// Hits, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hits {
    /// Those of the page.
    pub hits: Vec<Hit>,
}

impl Hits {
    /// Returns the ids, best first.
    pub fn ids(&self) -> Vec<&str> {
        self.hits.iter().map(|hit| hit.id.as_str()).collect()
    }
}
