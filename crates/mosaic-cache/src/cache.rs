//! An engine that is left alone while it does not answer.
//!
//! Each command to a dead Redis costs its time limit. After three failures in a row the engine is not asked for half a
//! second (commands fail at once), then one caller asks; the first answer opens it again. So an outage costs a request
//! next to nothing, and its end is seen by itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mosaic_core::{Code, Error, Result, Runtime};

use crate::{CacheEngine, CacheKey, Count, Issued, MemoryEngine, Redeemed, RedisEngine, Row};

const FAILURES_MAX: u32 = 3;
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    engine: Arc<dyn CacheEngine>,
    runtime: Runtime,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Health {
    n_failures: AtomicU32,
    /// Microseconds since the epoch; 0 while the engine answers.
    closed_until: AtomicI64,
}

impl Cache {
    /// Opens the engine of `url`: `memory:`, `redis://...` or `rediss://...`.
    ///
    /// # Errors
    /// `InvalidArgument` (`CACHE_URL_INVALID`) for any other URL.
    pub fn open(url: &str, runtime: &Runtime) -> Result<Self> {
        let engine: Arc<dyn CacheEngine> = match url.split(':').next() {
            Some("memory") => Arc::new(MemoryEngine::new(runtime)),
            Some("redis" | "rediss") => Arc::new(RedisEngine::open(url)?),
            _ => {
                let message = "the URL of the cache must be memory:, redis:// or rediss://";
                return Err(Error::invalid_argument("CACHE_URL_INVALID", message));
            }
        };
        Ok(Self::new(engine, runtime))
    }

    /// Guards `engine`.
    pub fn new(engine: Arc<dyn CacheEngine>, runtime: &Runtime) -> Self {
        Self {
            engine,
            runtime: runtime.clone(),
            health: Arc::default(),
        }
    }

    /// Returns clock, randomness and ids.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// See [`CacheEngine::get`].
    ///
    /// # Errors
    /// `Unavailable`, as for every method.
    pub async fn get(&self, key: &CacheKey) -> Result<Option<Row>> {
        self.ask(self.engine.get(key)).await
    }

    /// See [`CacheEngine::peek`].
    pub(crate) fn peek(&self, key: &CacheKey, look: &mut dyn FnMut(&Row)) {
        self.engine.peek(key, look);
    }

    /// See [`CacheEngine::set`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()> {
        self.ask(self.engine.set(key, value, ttl)).await
    }

    /// See [`CacheEngine::set_if_absent`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool> {
        self.ask(self.engine.set_if_absent(key, value, ttl)).await
    }

    /// See [`CacheEngine::replace`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        self.ask(self.engine.replace(key, expected, value, ttl)).await
    }

    /// See [`CacheEngine::remove`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn remove(&self, key: &CacheKey) -> Result<()> {
        self.ask(self.engine.remove(key)).await
    }

    /// See [`CacheEngine::increment`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count> {
        self.ask(self.engine.increment(key, by, ttl)).await
    }

    /// See [`CacheEngine::counter`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn counter(&self, key: &CacheKey) -> Result<Option<Count>> {
        self.ask(self.engine.counter(key)).await
    }

    /// See [`CacheEngine::issue_code`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn issue_code(
        &self,
        key: &CacheKey,
        code: &str,
        ttl: Duration,
        every: Duration,
        tries: u32,
    ) -> Result<Issued> {
        self.ask(self.engine.issue_code(key, code, ttl, every, tries)).await
    }

    /// See [`CacheEngine::redeem_code`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed> {
        self.ask(self.engine.redeem_code(key, code)).await
    }

    /// See [`CacheEngine::clean_up_codes`]; takes long where there are many.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn clean_up_codes(&self) -> Result<u64> {
        self.ask(self.engine.clean_up_codes()).await
    }

    async fn ask<T>(&self, command: impl Future<Output = Result<T>>) -> Result<T> {
        self.admit()?;
        let outcome = command.await;
        match &outcome {
            Err(error) if error.code() == Code::Unavailable => self.failed(),
            Ok(_) | Err(_) => self.answered(),
        }
        outcome
    }

    fn admit(&self) -> Result<()> {
        let until = self.health.closed_until.load(Ordering::Acquire);
        if until == 0 {
            return Ok(());
        }
        let now = self.runtime.now();
        let next = now.plus(LEFT_ALONE).as_micros();
        // One caller asks, and the others wait for what it hears.
        let is_probe = now.as_micros() >= until
            && self
                .health
                .closed_until
                .compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if is_probe {
            Ok(())
        } else {
            Err(Error::unavailable("CACHE_UNAVAILABLE", "the cache does not answer"))
        }
    }

    fn failed(&self) {
        metrics::counter!("mosaic_cache_failures_total").increment(1);
        if self.health.n_failures.fetch_add(1, Ordering::AcqRel) + 1 >= FAILURES_MAX {
            let until = self.runtime.now().plus(LEFT_ALONE).as_micros();
            if self.health.closed_until.swap(until, Ordering::AcqRel) == 0 {
                tracing::warn!("the cache does not answer and is left alone");
            }
        }
    }

    fn answered(&self) {
        if self.health.n_failures.load(Ordering::Acquire) == 0 {
            return;
        }
        self.health.n_failures.store(0, Ordering::Release);
        if self.health.closed_until.swap(0, Ordering::AcqRel) != 0 {
            tracing::info!("the cache answers again");
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}
