//! The engine in the process: tantivy, a directory of files.
//!
//! Each index is a directory named after it and the fingerprint of its schema. One task writes it ([`writer`]); searches read the last
//! commit on threads of their own, so many at once as there is an [`Opened::turns`] for. The directory belongs to one process, which a lock in
//! it makes sure of: processes that share an index need an engine elsewhere. Files that are damaged are thrown away when the index
//! is opened, for they are nobody's only copy.

mod files;
mod search;
mod words;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tantivy::IndexReader;
use async_trait::async_trait;
use mosaic_core::{Result, TaskGroup};
use tokio::sync::{Mutex, Semaphore};

use crate::{Document, Hits, IndexName, IndexSchema, Options, Query, Removal, SearchEngine, unavailable};
use files::Layout;
use writer::{Change, Writer};

/// Searches that read at once.
const TURNS: usize = 8;

/// See the module documentation.
pub struct Tantivy {
    directory: PathBuf,
    options: Options,
    background: TaskGroup,
    indexes: Mutex<HashMap<IndexName, Arc<Opened>>>,
}

/// An index that is open.
struct Opened {
    layout: Layout,
    reader: IndexReader,
    writer: Writer,
    turns: Arc<Semaphore>,
    path: PathBuf,
}

impl Tantivy {
    /// Makes an engine of the indexes beneath `directory`; its writers run in `background`.
    pub fn new(directory: &Path, options: Options, background: &TaskGroup) -> Self {
        Self {
            directory: directory.to_owned(),
            options,
            background: background.clone(),
            indexes: Mutex::default(),
        }
    }

    async fn opened(&self, schema: &IndexSchema) -> Result<Arc<Opened>> {
        let found = self.indexes.lock().await.get(schema.name()).cloned();
        found.ok_or_else(|| unavailable("the index is not open"))
    }

    /// Opens an index that is there; `indexes` is locked over all of it, so that two that open one index get one writer.
    async fn open_in(&self, indexes: &mut HashMap<IndexName, Arc<Opened>>, schema: &IndexSchema) -> Result<bool> {
        if indexes.contains_key(schema.name()) {
            return Ok(true);
        }
        let Some(index) = files::open(&self.path(schema), schema).await? else {
            return Ok(false);
        };
        let opened = self.start(index, schema).await?;
        indexes.insert(schema.name().clone(), opened);
        Ok(true)
    }

    async fn start(&self, index: ::tantivy::Index, schema: &IndexSchema) -> Result<Arc<Opened>> {
        let layout = Layout::of(&index, schema)?;
        let reader = files::reader(&index)?;
        let writer = Writer::start(&index, &reader, &layout, &self.options, &self.background).await?;
        Ok(Arc::new(Opened {
            layout,
            reader,
            writer,
            turns: Arc::new(Semaphore::new(TURNS)),
            path: self.path(schema),
        }))
    }

    fn path(&self, schema: &IndexSchema) -> PathBuf {
        self.directory
            .join(format!("{}-{}", schema.name(), schema.fingerprint()))
    }
}

#[async_trait]
impl SearchEngine for Tantivy {
    async fn open(&self, schema: &IndexSchema) -> Result<bool> {
        let mut indexes = self.indexes.lock().await;
        self.open_in(&mut indexes, schema).await
    }

    async fn create(&self, schema: &IndexSchema) -> Result<()> {
        let mut indexes = self.indexes.lock().await;
        if self.open_in(&mut indexes, schema).await? {
            return Ok(());
        }
        let index = files::create(&self.path(schema), schema).await?;
        let opened = self.start(index, schema).await?;
        indexes.insert(schema.name().clone(), opened);
        Ok(())
    }

    async fn put(&self, schema: &IndexSchema, documents: Vec<Document>) -> Result<()> {
        let changes = documents.into_iter().map(Change::Put).collect();
        self.opened(schema).await?.writer.write(changes).await
    }

    async fn remove(&self, schema: &IndexSchema, removals: Vec<Removal>) -> Result<()> {
        let changes = removals.into_iter().map(Change::Remove).collect();
        self.opened(schema).await?.writer.write(changes).await
    }

    async fn search(&self, schema: &IndexSchema, query: Query) -> Result<Hits> {
        let opened = self.opened(schema).await?;
        let turn = opened.turns.clone().acquire_owned().await.map_err(unavailable)?;
        let (searcher, layout) = (opened.reader.searcher(), opened.layout.clone());
        blocking(move || {
            let _turn = turn;
            search::search(&searcher, &layout, &query)
        })
        .await
    }

    async fn refresh(&self, schema: &IndexSchema) -> Result<()> {
        // Written after what came before, and written is found.
        self.opened(schema).await?.writer.write(Vec::new()).await
    }

    async fn drop_index(&self, schema: &IndexSchema) -> Result<()> {
        let mut indexes = self.indexes.lock().await;
        let path = match indexes.remove(schema.name()) {
            Some(opened) => {
                opened.writer.stop().await;
                opened.path.clone()
            }
            None => self.path(schema),
        };
        blocking(move || files::remove(&path)).await
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Tantivy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tantivy")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Runs `work` where it may block; a panic in it (tantivy's answer to damaged files) is a failure of the engine.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(unavailable)?
}
