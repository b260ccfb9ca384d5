//! The indexes in the engine: which are open, which is searched, which are written.
//!
//! Which generation is in use is a row that is read each time, since another process may have changed it. An index that is not there
//! is created, and filled by a task that was enqueued before: whoever gives up or crashes halfway leaves no index that looks whole and
//! is empty. One that fails is opened anew next time: so an engine that was away or that lost its indexes is met again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mosaic::search::{Hits, Index, Query, SearchEngine};
use mosaic::{Context, Result, Runtime, lock};

use crate::model::{Change, Entry, Kind};
use crate::store::Store;
use crate::tasks::{Fill, patient};

type Place = (Kind, i64);

/// See the module documentation.
pub(crate) struct Indexes {
    engine: Arc<dyn SearchEngine>,
    store: Store,
    runtime: Runtime,
    open: Mutex<HashMap<Place, Index>>,
}

impl Indexes {
    pub(crate) fn new(engine: Arc<dyn SearchEngine>, store: Store, runtime: &Runtime) -> Self {
        Self {
            engine,
            store,
            runtime: runtime.clone(),
            open: Mutex::default(),
        }
    }

    /// Searches the generation in use.
    pub(crate) async fn search(&self, kind: Kind, query: Query) -> Result<Hits> {
        let place = (kind, self.store.generations(kind).await?.in_use);
        let outcome = self.index(place).await?.search(query).await;
        self.watched(place, outcome)
    }

    /// Brings entries of one kind to the generation in use, and to the one that is to follow it.
    pub(crate) async fn write(&self, kind: Kind, entries: Vec<Entry>) -> Result<()> {
        let generations = self.store.generations(kind).await?;
        if let Some(next) = generations.being_built {
            self.write_to((kind, next), entries.clone()).await?;
        }
        self.write_to((kind, generations.in_use), entries).await
    }

    /// Brings entries to one generation.
    pub(crate) async fn write_to(&self, place: Place, entries: Vec<Entry>) -> Result<()> {
        let (mut documents, mut removals) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry.change() {
                Change::Put(document) => documents.push(document),
                Change::Remove(removal) => removals.push(removal),
            }
        }
        let index = self.index(place).await?;
        let put = index.put(documents).await;
        self.watched(place, put)?;
        let removed = index.remove(removals).await;
        self.watched(place, removed)
    }

    /// Returns when everything that was brought to a generation is found.
    pub(crate) async fn refresh(&self, place: Place) -> Result<()> {
        let outcome = self.index(place).await?.refresh().await;
        self.watched(place, outcome)
    }

    /// Drops a generation.
    pub(crate) async fn drop_index(&self, place: Place) -> Result<()> {
        lock(&self.open).remove(&place);
        self.engine.drop_index(&place.0.schema(place.1)?).await
    }

    async fn index(&self, place: Place) -> Result<Index> {
        let found = lock(&self.open).get(&place).cloned();
        if let Some(index) = found {
            return Ok(index);
        }
        let schema = place.0.schema(place.1)?;
        let index = match Index::open(self.engine.clone(), schema.clone()).await? {
            Some(index) => index,
            None => {
                self.enqueue_fill(place).await?;
                Index::create(self.engine.clone(), schema).await?
            }
        };
        lock(&self.open).insert(place, index.clone());
        Ok(index)
    }

    /// Has an index filled that is about to be created.
    async fn enqueue_fill(&self, (kind, generation): Place) -> Result<()> {
        let (cx, fill) = (Context::new(&self.runtime), Fill { kind, generation });
        let transactions = self.store.transactions();
        transactions
            .run(async |tx| tx.enqueue_with(&cx, &fill, patient()).await)
            .await?;
        tracing::info!(
            kind = kind.name(),
            generation,
            "an index is not there and will be filled"
        );
        Ok(())
    }

    /// Forgets an index that does not answer.
    fn watched<T>(&self, place: Place, outcome: Result<T>) -> Result<T> {
        if outcome.as_ref().is_err_and(mosaic::Error::is_retryable) {
            lock(&self.open).remove(&place);
        }
        outcome
    }
}
