//! What an engine does.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, Either, Ready};
use mosaic_core::Result;

use crate::CacheKey;

/// A counter and how long it still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Its value.
    pub value: i64,
    /// Time until it starts anew.
    pub remaining: Duration,
}

/// What became of a wish for a one-time code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// It is stored.
    Issued,
    /// The last one is too young.
    TooSoon {
        /// Time until the next is allowed.
        retry_after: Duration,
    },
    /// There is one that never ends: a defect, not to be repaired silently.
    Corrupt,
}

/// What became of a try of a one-time code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeemed {
    /// It was right, and is used up.
    Matched,
    /// It was wrong, or there is none.
    Wrong,
    /// It was used, or tried too often; whatever is tried now is wrong.
    Dead,
}

/// Bytes that an engine holds, and what somebody has read out of them.
///
/// Where the engine is in this process, everybody gets clones of one row, and what is read most is taken apart once rather than each
/// time.
#[derive(Clone)]
pub struct Row(Arc<Shared>);

struct Shared {
    bytes: Bytes,
    read: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Row {
    /// Makes a row that nobody has read yet.
    pub fn new(bytes: Bytes) -> Self {
        let read = OnceLock::new();
        Self(Arc::new(Shared { bytes, read }))
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Returns what `read` makes of the bytes, or what it made of them before; `None` if it makes nothing of them.
    pub fn read<T: Send + Sync + 'static>(&self, read: impl FnOnce(&Bytes) -> Option<T>) -> Option<Arc<T>> {
        let known = &self.0.read;
        if let Some(known) = known.get().and_then(|known| known.clone().downcast().ok()) {
            return Some(known);
        }
        let value = Arc::new(read(self.bytes())?);
        // Somebody else's of another type stays, and ours is read again the next time.
        let _ = known.set(value.clone());
        Some(value)
    }

    /// Shows what [`read`](Self::read) has made of the bytes before; `None` if it has not yet.
    pub(crate) fn show<T: 'static, R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.read.get()?.downcast_ref().map(look)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("n_bytes", &self.bytes().len())
            .finish_non_exhaustive()
    }
}

/// What an engine answers: at once where it is in this process, else when the answer has come.
///
/// What is read most is read from memory, and a future on the heap would cost more than the reading.
pub type Answer<'a, T> = Either<Ready<Result<T>>, BoxFuture<'a, Result<T>>>;

/// Holds bytes, counters and codes until their time is over. The three do not share keys.
#[async_trait]
pub trait CacheEngine: Send + Sync + 'static {
    /// Returns the bytes of `key`.
    ///
    /// # Errors
    /// `Unavailable` if the engine does not answer; as for every method.
    fn get<'a>(&'a self, key: &'a CacheKey) -> Answer<'a, Option<Row>>;

    /// Shows the bytes of `key` to `look` where they lie, if there are some and this engine is in this process: what all threads read,
    /// none of them need count itself as having. `look` asks the engine for nothing.
    fn peek(&self, _key: &CacheKey, _look: &mut dyn FnMut(&Row)) {}

    /// Stores bytes for `ttl`, replacing what was there.
    async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()>;

    /// Stores bytes for `ttl` unless there are some; says whether it did.
    async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool>;

    /// Stores bytes for `ttl` if what is there is `expected`; says whether it did.
    async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool>;

    /// Removes bytes and counter of `key`.
    async fn remove(&self, key: &CacheKey) -> Result<()>;

    /// Adds `by` to the counter of `key`; a new one lives for `ttl`.
    async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count>;

    /// Returns the counter of `key` if there is one.
    async fn counter(&self, key: &CacheKey) -> Result<Option<Count>>;

    /// Stores a code that may be tried `tries` times within `ttl`, unless the last one is younger than `every`.
    async fn issue_code(
        &self,
        key: &CacheKey,
        code: &str,
        ttl: Duration,
        every: Duration,
        tries: u32,
    ) -> Result<Issued>;

    /// Tries a code; of many right ones at once, one matches.
    async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed>;

    /// Forgets codes that are over, and those that would never be (which [`Issued::Corrupt`] tells of); returns how many of the latter
    /// there were.
    async fn clean_up_codes(&self) -> Result<u64>;
}
