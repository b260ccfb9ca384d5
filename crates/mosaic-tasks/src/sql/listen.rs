//! Wake-ups between processes on PostgreSQL: `NOTIFY` in the transaction that enqueues, `LISTEN` in every worker.
//!
//! Only a hint: a connection that is lost, or a pooler that has no sessions, costs the time of a poll and nothing else. The
//! other engines have nothing like it; there workers poll, more often when there was something to do.

use std::time::Duration;

use mosaic_core::Result;
use mosaic_sql::sea_orm::{ConnectionTrait, DbBackend, Statement};
use mosaic_sql::{Database, into_error};
use sqlx::postgres::PgListener;
use tokio::time::sleep;

/// Channel and, as what is said, the schema: all modules of a database share it.
const CHANNEL: &str = "mosaic_task";
/// Pause before a lost connection is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells other processes, when the transaction commits, that there is something to do.
pub(super) async fn notify(tx: &impl ConnectionTrait) -> Result<()> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let sql = format!("SELECT pg_notify('{CHANNEL}', current_schema())");
    tx.execute_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .map_err(into_error)?;
    Ok(())
}

/// Calls `ring` for each notice of this schema, for ever.
pub(super) async fn listen(database: &Database, ring: &(dyn Fn() + Send + Sync)) {
    if database.backend() != DbBackend::Postgres {
        return std::future::pending().await;
    }
    loop {
        if let Err(error) = listen_once(database, ring).await {
            tracing::debug!(cause = %error, "the connection that listens for tasks was lost");
        }
        sleep(PAUSE).await;
    }
}

async fn listen_once(database: &Database, ring: &(dyn Fn() + Send + Sync)) -> sqlx::Result<()> {
    let pool = database.connection().get_postgres_connection_pool();
    let schema: String = sqlx::query_scalar("SELECT current_schema()").fetch_one(pool).await?;
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // What came while nobody listened.
    ring();
    while let Some(notice) = listener.try_recv().await? {
        if notice.payload() == schema {
            ring();
        }
    }
    Ok(())
}
