//! An engine of tests.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mosaic_core::{Error, Result};

use crate::{Answer, CacheEngine, CacheKey, Count, Issued, MemoryEngine, Redeemed, Row};

/// An engine that can be made to fail, or never to answer.
pub(super) struct Moody {
    pub(super) engine: MemoryEngine,
    pub(super) mood: AtomicUsize,
}

pub(super) const WELL: usize = 0;
pub(super) const FAILING: usize = 1;
pub(super) const SILENT: usize = 2;

impl Moody {
    async fn answer<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        match self.mood.load(Ordering::SeqCst) {
            WELL => answer.await,
            FAILING => Err(Error::unavailable("CACHE_UNAVAILABLE", "failing")),
            _ => std::future::pending().await,
        }
    }
}

#[async_trait::async_trait]
impl CacheEngine for Moody {
    fn get<'a>(&'a self, key: &'a CacheKey) -> Answer<'a, Option<Row>> {
        Answer::Right(Box::pin(self.answer(self.engine.get(key))))
    }
    fn peek(&self, key: &CacheKey, look: &mut dyn FnMut(&Row)) {
        self.engine.peek(key, look);
    }
    async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()> {
        self.answer(self.engine.set(key, value, ttl)).await
    }
    async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool> {
        self.answer(self.engine.set_if_absent(key, value, ttl)).await
    }
    async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        self.answer(self.engine.replace(key, expected, value, ttl)).await
    }
    async fn remove(&self, key: &CacheKey) -> Result<()> {
        self.answer(self.engine.remove(key)).await
    }
    async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count> {
        self.answer(self.engine.increment(key, by, ttl)).await
    }
    async fn counter(&self, key: &CacheKey) -> Result<Option<Count>> {
        self.answer(self.engine.counter(key)).await
    }
    async fn issue_code(
        &self,
        key: &CacheKey,
        code: &str,
        ttl: Duration,
        every: Duration,
        tries: u32,
    ) -> Result<Issued> {
        self.answer(self.engine.issue_code(key, code, ttl, every, tries)).await
    }
    async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed> {
        self.answer(self.engine.redeem_code(key, code)).await
    }

    async fn clean_up_codes(&self) -> Result<u64> {
        self.answer(self.engine.clean_up_codes()).await
    }
}
