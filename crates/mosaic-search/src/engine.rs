//! The port of search engines, and the index as callers hold it.

use std::sync::Arc;

use async_trait::async_trait;
use mosaic_core::Result;

use crate::document::{check_documents, check_removals};
use crate::{Document, Hits, IndexName, IndexSchema, Query, Removal};

/// Keeps documents and finds them; see the module documentation for what must hold. Callers hold an [`Index`].
#[async_trait]
pub trait SearchEngine: Send + Sync + 'static {
    /// Opens the index as it was left; says `false` if there is none that can be used. Nothing is made or thrown away.
    async fn open(&self, schema: &IndexSchema) -> Result<bool>;

    /// Makes the index, empty, in place of one that cannot be used; opens one that can. The methods below expect that the index is
    /// open.
    async fn create(&self, schema: &IndexSchema) -> Result<()>;

    /// Keeps documents, each unless one of a later version, or its removal, is known. They survive a crash when this returns; they are
    /// found a moment later, see [`SearchEngine::refresh`].
    async fn put(&self, schema: &IndexSchema, documents: Vec<Document>) -> Result<()>;

    /// Removes documents, each unless one of a later version is known.
    async fn remove(&self, schema: &IndexSchema, removals: Vec<Removal>) -> Result<()>;

    /// Finds documents, best first; those that score alike in any order.
    async fn search(&self, schema: &IndexSchema, query: Query) -> Result<Hits>;

    /// Returns when everything that was put before is found.
    async fn refresh(&self, schema: &IndexSchema) -> Result<()>;

    /// Drops the index and all that is in it; one that is not there is dropped already.
    async fn drop_index(&self, schema: &IndexSchema) -> Result<()>;

    /// Does the engine answer?
    async fn ping(&self) -> Result<()>;
}

/// An index of an engine, by its schema; refuses what does not fit. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    engine: Arc<dyn SearchEngine>,
    schema: Arc<IndexSchema>,
}

impl Index {
    /// Opens the index as it was left; `None` if there is none that can be used. Whoever has the documents then writes down that they
    /// must be put again, and only then [creates](Index::create) the index: the other way round, a crash in between leaves an index
    /// that looks whole and is empty.
    ///
    /// # Errors
    /// `Unavailable` (`SEARCH_UNAVAILABLE`, `SEARCH_INDEX_LOCKED`), as for every method.
    pub async fn open(engine: Arc<dyn SearchEngine>, schema: IndexSchema) -> Result<Option<Self>> {
        let is_there = engine.open(&schema).await?;
        let schema = Arc::new(schema);
        Ok(is_there.then_some(Self { engine, schema }))
    }

    /// Makes the index, empty, unless one is there that can be used; opens it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn create(engine: Arc<dyn SearchEngine>, schema: IndexSchema) -> Result<Self> {
        engine.create(&schema).await?;
        let schema = Arc::new(schema);
        Ok(Self { engine, schema })
    }

    /// Returns the name of the index.
    pub fn name(&self) -> &IndexName {
        self.schema.name()
    }

    /// See [`SearchEngine::put`]; at most 1000 documents, of 8 MiB together.
    ///
    /// # Errors
    /// `InvalidArgument` (`SEARCH_DOCUMENT_INVALID`, `SEARCH_FIELD_UNKNOWN`); `Unavailable`.
    pub async fn put(&self, documents: Vec<Document>) -> Result<()> {
        check_documents(&self.schema, &documents)?;
        if documents.is_empty() {
            return Ok(());
        }
        self.engine.put(&self.schema, documents).await
    }

    /// See [`SearchEngine::remove`]; at most 1000.
    ///
    /// # Errors
    /// `InvalidArgument` (`SEARCH_DOCUMENT_INVALID`); `Unavailable`.
    pub async fn remove(&self, removals: Vec<Removal>) -> Result<()> {
        check_removals(&removals)?;
        if removals.is_empty() {
            return Ok(());
        }
        self.engine.remove(&self.schema, removals).await
    }

    /// See [`SearchEngine::search`].
    ///
    /// # Errors
    /// `InvalidArgument` (`SEARCH_QUERY_TOO_LONG`, `SEARCH_QUERY_INVALID`, `SEARCH_PAGE_INVALID`, `SEARCH_FIELD_UNKNOWN`);
    /// `Unavailable`.
    pub async fn search(&self, query: Query) -> Result<Hits> {
        let query = query.checked(&self.schema)?;
        self.engine.search(&self.schema, query).await
    }

    /// See [`SearchEngine::refresh`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn refresh(&self) -> Result<()> {
        self.engine.refresh(&self.schema).await
    }

    /// See [`SearchEngine::drop_index`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn drop_index(self) -> Result<()> {
        self.engine.drop_index(&self.schema).await
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("name", &self.schema.name().as_str())
            .finish_non_exhaustive()
    }
}
