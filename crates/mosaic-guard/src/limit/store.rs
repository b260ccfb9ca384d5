//! The store of limits that hold for all processes together, and what happens while it is away.
//!
//! A call waits for the store only so long (`guard.store_timeout`); the first that waited in vain marks it as away, and from
//! then on no call asks it: each process counts for itself. A task of its own probes the store, after a pause that grows from
//! 100 ms to 5 s and is jittered, and calls ask again when it answers. Nobody's request is the probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use mosaic_core::config::EngineUrl;
use mosaic_core::{Error, Result, Runtime, TaskGroup};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisError, RedisResult};
use tokio::sync::Notify;

use super::redis::{Counted, Scripts, counted};
use super::rule::LimitRule;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PROBE_MIN: Duration = Duration::from_millis(100);
const PROBE_MAX: Duration = Duration::from_secs(5);

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub struct LimitStore(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    scripts: Scripts,
    timeout: Duration,
    is_away: AtomicBool,
    went_away: Notify,
    runtime: Runtime,
}

impl LimitStore {
    /// Makes the store at `url` (`redis://` or `rediss://`), which need not be there yet, and starts its probe in `tasks`.
    ///
    /// # Errors
    /// `InvalidArgument` (`LIMIT_STORE_INVALID`) for a bad URL.
    pub fn open(url: &EngineUrl, timeout: Duration, tasks: &TaskGroup, runtime: &Runtime) -> Result<Self> {
        let bad = |error: RedisError| {
            Error::invalid_argument("LIMIT_STORE_INVALID", "the URL of the limit store is not valid")
                .caused_by(error.to_string())
        };
        let client = redis::Client::open(url.expose()).map_err(bad)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(CONNECT_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(0)
            .set_max_delay(PROBE_MAX);
        let store = Self(Arc::new(Inner {
            connection: ConnectionManager::new_lazy_with_config(client, config).map_err(bad)?,
            scripts: Scripts::new(),
            timeout,
            is_away: AtomicBool::new(false),
            went_away: Notify::new(),
            runtime: runtime.clone(),
        }));
        up_gauge(1.0);
        let (probed, mut stop) = (store.clone(), tasks.stop_signal());
        tasks.spawn("guard: limit store", async move {
            tokio::select! {
                () = stop.stopped() => {}
                () = probed.probe_for_ever() => {}
            }
        });
        Ok(store)
    }

    /// Is the store thought to be there?
    pub fn is_there(&self) -> bool {
        !self.0.is_away.load(Relaxed)
    }

    /// Counts a call of `key`; `None` if the store does not say.
    pub(crate) async fn take(&self, rule: &LimitRule, name: &str, key: &str) -> Option<Counted> {
        let inner = &*self.0;
        if inner.is_away.load(Relaxed) {
            metrics::counter!("mosaic_guard_limit_fallback_total").increment(1);
            return None;
        }
        let key = format!("mosaic:limit:{name}:{key}");
        let call = inner.scripts.invocation(rule, &key)?;
        let mut connection = inner.connection.clone();
        let answer: RedisResult<i64> =
            match tokio::time::timeout(inner.timeout, call.invoke_async(&mut connection)).await {
                Ok(answer) => answer,
                Err(_) => return self.lost("no answer in time"),
            };
        match answer {
            Ok(answer) => Some(counted(answer)),
            Err(error) => self.lost(&error.to_string()),
        }
    }

    fn lost(&self, why: &str) -> Option<Counted> {
        metrics::counter!("mosaic_guard_limit_fallback_total").increment(1);
        if !self.0.is_away.swap(true, Relaxed) {
            up_gauge(0.0);
            tracing::warn!(why, "the limit store does not answer; this process counts for itself");
            self.0.went_away.notify_one();
        }
        None
    }

    async fn probe_for_ever(&self) {
        let inner = &*self.0;
        loop {
            inner.went_away.notified().await;
            let mut pause = PROBE_MIN;
            loop {
                let jitter_ms = inner.runtime.random_below(pause.as_millis() as u64 / 2 + 1);
                tokio::time::sleep(pause / 2 + Duration::from_millis(jitter_ms)).await;
                if self.answers().await {
                    break;
                }
                pause = (pause * 2).min(PROBE_MAX);
            }
            inner.is_away.store(false, Relaxed);
            up_gauge(1.0);
            tracing::info!("the limit store answers again");
        }
    }

    async fn answers(&self) -> bool {
        let mut connection = self.0.connection.clone();
        let mut ping = redis::cmd("PING");
        ping.arg("mosaic");
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, ping.query_async::<String>(&mut connection)).await;
        matches!(answer, Ok(Ok(_)))
    }
}

fn up_gauge(up: f64) {
    metrics::gauge!("mosaic_guard_limit_store_up").set(up);
}

impl std::fmt::Debug for LimitStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LimitStore")
            .field("is_there", &self.is_there())
            .finish_non_exhaustive()
    }
}
