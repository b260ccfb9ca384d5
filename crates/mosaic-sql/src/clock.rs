//! The time that all processes of a database agree on: the database's.
//!
//! What several processes judge by time (leases, delays) must not be judged by each one's wall clock, which may be wrong
//! by minutes. The database is asked rarely and its answer carried on with the monotonic clock, which no change of the wall clock
//! moves: the error is a round trip plus what two quartz crystals differ by in [`TRUSTED_FOR`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mosaic_core::{Result, Runtime, Timestamp};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::error::into_error;

/// After this the database is asked again.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

/// See the module documentation. Cheap to clone: clones ask once.
#[derive(Debug, Clone)]
pub struct DatabaseClock {
    runtime: Runtime,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// What the database said, and when by the monotonic clock.
    Database(Arc<Mutex<Option<(Timestamp, Instant)>>>),
    Runtime,
}

impl DatabaseClock {
    /// Makes a clock that goes by the database that it is asked with.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            source: Source::Database(Arc::default()),
        }
    }

    /// Makes a clock that goes by `runtime`: for tests that hold time still, or one process alone.
    pub fn of_runtime(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            source: Source::Runtime,
        }
    }

    /// Returns the runtime it was made with.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns the time of the database behind `db`, always the same one.
    ///
    /// # Errors
    /// As [`into_error`](crate::into_error), if the database has to be asked and does not answer.
    pub async fn now(&self, db: &impl ConnectionTrait) -> Result<Timestamp> {
        let known = match &self.source {
            Source::Runtime => return Ok(self.runtime.now()),
            Source::Database(known) => known,
        };
        let last = *known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, at)) = last {
            let since = self.runtime.instant().saturating_duration_since(at);
            if since < TRUSTED_FOR {
                return Ok(then.plus(since));
            }
        }
        let now = ask(db).await.map_err(into_error)?;
        *known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, self.runtime.instant()));
        Ok(now)
    }
}

async fn ask(db: &impl ConnectionTrait) -> Result<Timestamp, DbErr> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now",
        DbBackend::MySql => "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED) AS now",
        _ => "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now",
    };
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the database's time".to_owned()))?;
    Ok(Timestamp::from_micros(row.try_get("", "now")?))
}
