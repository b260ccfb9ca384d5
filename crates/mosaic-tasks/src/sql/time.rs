//! The time that all workers agree on: the database's.
//!
//! It is asked for rarely and carried on with the monotonic clock, which no change of the wall clock moves: the error is a
//! round trip plus what two quartz crystals differ by in [`TRUSTED_FOR`], against leases of half a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mosaic_core::{Result, Runtime, Timestamp};
use mosaic_sql::into_error;
use mosaic_sql::sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// After this the database is asked again.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Time {
    Database(Runtime, Mutex<Option<(Timestamp, Instant)>>),
    Clock(Runtime),
}

impl Time {
    pub(super) fn runtime(&self) -> &Runtime {
        match self {
            Self::Database(runtime, _) | Self::Clock(runtime) => runtime,
        }
    }

    pub(super) async fn now(&self, db: &impl ConnectionTrait) -> Result<Timestamp> {
        let (runtime, known) = match self {
            Self::Clock(runtime) => return Ok(runtime.now()),
            Self::Database(runtime, known) => (runtime, known),
        };
        let last = *known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, at)) = last {
            let since = runtime.instant().saturating_duration_since(at);
            if since < TRUSTED_FOR {
                return Ok(then.plus(since));
            }
        }
        let now = ask(db).await.map_err(into_error)?;
        *known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, runtime.instant()));
        Ok(now)
    }
}

async fn ask(db: &impl ConnectionTrait) -> std::result::Result<Timestamp, DbErr> {
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
