//! Rows of one type, read through the cache.
//!
//! However many ask for a row that is not cached, one of them loads it and the others wait for what it finds (single
//! flight); if it fails, panics or gives up, the next one loads. Absence is remembered as well, for a shorter time, so
//! that asking for what does not exist is cheap. Ends are spread by 5% either way, or rows stored together would all end
//! together.
//!
//! A load that was under way when its row was invalidated stores nothing, in whichever process it runs: it may have read
//! the old row. Before it loads it puts a claim where the row will be, and it stores only in the claim's place; to
//! invalidate removes row and claim alike. A load that takes longer than the claim lives is not stored either.

use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use mosaic_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::doubtful::Doubtful;
use crate::{Cache, CacheKey, Row};

mod doubtful;

/// Absence is remembered for this part of a row's time.
const ABSENCE_SHARE: u32 = 60;

/// What is stored where there is no row; no JSON text is empty.
const ABSENT: Bytes = Bytes::new();

/// First byte of a claim; no JSON text begins with it.
const CLAIM: u8 = 0;
/// How long a claim lives: the time for a load, and after a crash the time until somebody else's row is stored.
const CLAIM_TTL: Duration = Duration::from_secs(5);

/// See the module documentation. Cheap to clone: clones share their flights.
pub struct ReadThrough<T> {
    cache: Cache,
    ttl: Duration,
    flights: Arc<Mutex<HashMap<String, Flight<T>>>>,
    doubtful: Arc<Doubtful>,
    hits: Arc<OnceLock<(String, Counter)>>,
    of: PhantomData<fn() -> T>,
}

/// A load that is under way.
struct Flight<T> {
    id: u64,
    landed: watch::Receiver<Option<Landed<T>>>,
}

/// What a load found.
type Landed<T> = Result<Option<Arc<T>>, Arc<Error>>;

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> ReadThrough<T> {
    /// Makes a cache of rows that are kept for `ttl`.
    pub fn new(cache: &Cache, ttl: Duration) -> Self {
        Self {
            cache: cache.clone(),
            ttl,
            flights: Arc::default(),
            doubtful: Arc::default(),
            hits: Arc::default(),
            of: PhantomData,
        }
    }

    /// Returns the row of `key`, from the cache or from `load`; `None` if there is no such row. Where the cache is in this process, all
    /// who ask share the row.
    ///
    /// # Errors
    /// Those of `load`, for everybody who waited for it; a cache that fails is not an error.
    pub async fn get_or_load<F>(&self, key: &CacheKey, load: impl FnOnce() -> F + Send) -> Result<Option<Arc<T>>>
    where
        F: Future<Output = Result<Option<T>>> + Send,
    {
        let engine = self.read(key).await;
        if let Engine::Row(row) = engine {
            return Ok(row);
        }
        // A load is a large future (a query is kilobytes): it is made, and boxed, only where it is needed.
        Box::pin(self.load_once(key, load, &engine)).await
    }

    /// Returns what `look` sees in the row of `key`, which is found as by [`get_or_load`](Self::get_or_load); for rows that everybody reads:
    /// who only looks at one that is in this process does not count himself as having it. `look` may hold up who changes the row, and
    /// asks no cache.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn look_or_load<F, R>(
        &self,
        key: &CacheKey,
        load: impl FnOnce() -> F + Send,
        look: impl Fn(&T) -> R + Send,
    ) -> Result<Option<R>>
    where
        F: Future<Output = Result<Option<T>>> + Send,
    {
        let mut seen = None;
        if !self.doubtful.has(key) {
            self.cache.peek(key, &mut |row| seen = row.show(&look));
        }
        if seen.is_some() {
            self.count_hit(key);
            return Ok(seen);
        }
        Ok(self.get_or_load(key, load).await?.as_deref().map(look))
    }

    async fn read(&self, key: &CacheKey) -> Engine<T> {
        if !self.doubtful.is_settled(&self.cache, key).await {
            count(key, "bypass");
            return Engine::Away;
        }
        match self.cache.get(key).await {
            Ok(Some(row)) if !is_claim(row.bytes()) => match decode(&row) {
                Some(row) => {
                    self.count_hit(key);
                    return Engine::Row(row);
                }
                // Another release wrote it; the claim needs the place.
                None => {
                    count(key, "unreadable");
                    if self.cache.remove(key).await.is_err() {
                        return Engine::Away;
                    }
                }
            },
            Ok(_) => count(key, "miss"),
            Err(_) => {
                count(key, "bypass");
                return Engine::Away;
            }
        }
        Engine::Empty
    }

    /// Forgets the row of `key`; to be called after the change is committed.
    ///
    /// A cache that fails is only logged: this process then leaves the row out of the cache until the engine could be
    /// told (also where this future is dropped), other processes may see the old row until its end.
    pub async fn invalidate(&self, key: &CacheKey) {
        // Its load may have read the old row: nobody joins it any more.
        self.flights().remove(key.as_str());
        let ttl_max = self.ttl * 2;
        self.doubtful.add(key, self.cache.runtime().now(), ttl_max);
        if let Err(error) = self.doubtful.settle(&self.cache, key).await {
            tracing::warn!(
                name = key.name(),
                cause = error.cause_chain(),
                "a changed row could not be removed from the cache"
            );
        }
    }

    async fn load_once<F>(
        &self,
        key: &CacheKey,
        load: impl FnOnce() -> F + Send,
        engine: &Engine<T>,
    ) -> Result<Option<Arc<T>>>
    where
        F: Future<Output = Result<Option<T>>> + Send,
    {
        let mut load = Some(load);
        loop {
            let mut landed = match self.board(key) {
                Boarded::Pilot(takeoff) => {
                    let Some(load) = load.take() else {
                        return Err(Error::internal("a load is used once"));
                    };
                    return self.fly(key, takeoff, load(), engine).await;
                }
                Boarded::Passenger(landed) => landed,
            };
            // An error means that the pilot is gone without landing: somebody else must fly.
            let outcome = landed
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|outcome| outcome.clone());
            match outcome {
                Some(Ok(row)) => return Ok(row),
                Some(Err(error)) => return Err(share(&error)),
                None => {}
            }
        }
    }

    /// Joins the flight of `key`, or starts one.
    fn board(&self, key: &CacheKey) -> Boarded<T> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(key.as_str()) {
            return Boarded::Passenger(flight.landed.clone());
        }
        let (sender, landed) = watch::channel(None);
        let id = self.cache.runtime().random_u64();
        flights.insert(key.as_str().to_owned(), Flight { id, landed });
        Boarded::Pilot(Takeoff {
            rows: self.clone(),
            key: key.as_str().to_owned(),
            id,
            sender,
        })
    }

    async fn fly(
        &self,
        key: &CacheKey,
        takeoff: Takeoff<T>,
        load: impl Future<Output = Result<Option<T>>> + Send,
        engine: &Engine<T>,
    ) -> Result<Option<Arc<T>>> {
        let claim = match engine {
            Engine::Away => None,
            Engine::Empty | Engine::Row(_) => match self.claim(key, takeoff.id).await {
                Claimed::Ours(claim) => Some(claim),
                Claimed::Theirs => None,
                Claimed::Late(row) => {
                    takeoff.land(Ok(row.clone()));
                    return Ok(row);
                }
            },
        };
        let row = match load.await {
            Ok(row) => row,
            Err(error) => {
                if claim.is_some() {
                    // The next load need not wait for the claim's end. At worst this removes a fresh row.
                    let _ = self.cache.remove(key).await;
                }
                let error = Arc::new(error);
                takeoff.land(Err(error.clone()));
                return Err(share(&error));
            }
        };
        let (bytes, ttl) = match &row {
            Some(row) => (Bytes::from(serde_json::to_vec(row).map_err(Error::internal)?), self.ttl),
            None => (ABSENT, (self.ttl / ABSENCE_SHARE).max(Duration::from_secs(1))),
        };
        // An engine that could not be told of a change still holds the claim: hence the look at the flight.
        if let Some(claim) = claim.filter(|_| takeoff.is_current()) {
            let _ = self.cache.replace(key, &claim, bytes, self.spread(ttl)).await;
        }
        let row = row.map(Arc::new);
        takeoff.land(Ok(row.clone()));
        Ok(row)
    }

    /// Claims the place of a row that is about to be loaded.
    async fn claim(&self, key: &CacheKey, id: u64) -> Claimed<T> {
        let mut claim = vec![CLAIM];
        claim.extend_from_slice(&id.to_le_bytes());
        let claim = Bytes::from(claim);
        match self.cache.set_if_absent(key, claim.clone(), CLAIM_TTL).await {
            Ok(true) => Claimed::Ours(claim),
            // Something came in since we looked: a row, most likely, that need not be loaded again.
            Ok(false) => match self.cache.get(key).await {
                Ok(Some(row)) if !is_claim(row.bytes()) => decode(&row).map_or(Claimed::Theirs, Claimed::Late),
                _ => Claimed::Theirs,
            },
            Err(_) => Claimed::Theirs,
        }
    }

    fn spread(&self, ttl: Duration) -> Duration {
        let percent = 95 + u32::try_from(self.cache.runtime().random_below(11)).unwrap_or(5);
        ttl * percent / 100
    }
}

impl<T> ReadThrough<T> {
    /// Counts the usual case with a counter that was looked up once: rows of one type have keys of one name.
    fn count_hit(&self, key: &CacheKey) {
        let (name, hits) = self.hits.get_or_init(|| (key.name().to_owned(), counter(key, "hit")));
        if name == key.name() {
            hits.increment(1);
        } else {
            count(key, "hit");
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<String, Flight<T>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine answered.
enum Engine<T> {
    /// A row, or the absence of one.
    Row(Option<Arc<T>>),
    /// Nothing, or somebody's claim.
    Empty,
    /// It failed, or may hold an old row.
    Away,
}

/// Whose the place of a row is.
enum Claimed<T> {
    Ours(Bytes),
    Theirs,
    /// It is taken by the row itself.
    Late(Option<Arc<T>>),
}

enum Boarded<T> {
    Pilot(Takeoff<T>),
    Passenger(watch::Receiver<Option<Landed<T>>>),
}

/// The duty to land; dropped without landing (a panic, a caller that gave up), the passengers look for another pilot.
struct Takeoff<T> {
    rows: ReadThrough<T>,
    key: String,
    id: u64,
    sender: watch::Sender<Option<Landed<T>>>,
}

impl<T> Takeoff<T> {
    /// Has the row not been invalidated since takeoff?
    fn is_current(&self) -> bool {
        self.rows
            .flights()
            .get(&self.key)
            .is_some_and(|flight| flight.id == self.id)
    }

    fn land(self, outcome: Landed<T>) {
        self.sender.send_replace(Some(outcome));
    }
}

impl<T> Drop for Takeoff<T> {
    fn drop(&mut self) {
        let mut flights = self.rows.flights();
        if flights.get(&self.key).is_some_and(|flight| flight.id == self.id) {
            flights.remove(&self.key);
        }
    }
}

fn is_claim(bytes: &Bytes) -> bool {
    bytes.first() == Some(&CLAIM)
}

/// Reads what is cached: a row, or the absence of one; `None` if it is neither (an older release wrote it).
fn decode<T: DeserializeOwned + Send + Sync + 'static>(row: &Row) -> Option<Option<Arc<T>>> {
    if row.bytes().is_empty() {
        Some(None)
    } else {
        row.read(|bytes| serde_json::from_slice(bytes).ok()).map(Some)
    }
}

/// Returns an error like `error`, which belongs to several.
fn share(error: &Arc<Error>) -> Error {
    let mut shared = Error::new(error.code(), error.reason().to_owned(), error.message().to_owned());
    if let Some(after) = error.retry_after() {
        shared = shared.with_retry_after(after);
    }
    let cause = error.cause_chain();
    if cause.is_empty() {
        shared
    } else {
        shared.caused_by(cause)
    }
}

fn count(key: &CacheKey, outcome: &'static str) {
    counter(key, outcome).increment(1);
}

fn counter(key: &CacheKey, outcome: &'static str) -> Counter {
    metrics::counter!("mosaic_cache_reads_total", "of" => key.name().to_owned(), "outcome" => outcome)
}

impl<T> Clone for ReadThrough<T> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            ttl: self.ttl,
            flights: self.flights.clone(),
            doubtful: self.doubtful.clone(),
            hits: self.hits.clone(),
            of: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for ReadThrough<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadThrough")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod moody;
#[cfg(test)]
mod tests;
