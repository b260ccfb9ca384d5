//! Pools, set up so that the engines behave alike.
//!
//! SQLite gets WAL, foreign keys, a busy timeout, and one connection for all that writes ([`writer`]); PostgreSQL gets its schema as
//! search path; MySQL gets `READ COMMITTED` and a collation that compares bytes, because its default takes "a" and "A" for the same
//! key. Creating the namespace happens on a connection of its own, before the pool exists.

use std::path::PathBuf;
use std::time::Duration;

use mosaic_core::{Error, Result};
use sea_orm::{DatabaseConnection, RuntimeErr, SqlxMySqlConnector, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use crate::options::Options;
use crate::target::Target;

/// How long a writer of another process may keep a SQLite file before we say `SQL_CONFLICT`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages in SQLite's journal before they are copied into the file: 32 MiB. A page that many transactions change is copied once.
const CHECKPOINT_PAGES: &str = "8192";
/// Memory for pages that the writer may keep, in KiB (for SQLite a negative number). It fills as the file does.
const WRITER_CACHE_KIB: &str = "-16384";
/// Name of the PostgreSQL and MySQL lock that lets one process at a time create a namespace or migrate it.
pub(crate) const LOCK_NAME: &str = "mosaic_migrations";

/// Everything needed to open connections to a module's namespace, which exists.
#[derive(Clone)]
pub(crate) enum Server {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres(Box<sqlx::postgres::PgConnectOptions>),
    /// Options and is it MariaDB?
    MySql(Box<MySqlConnectOptions>, Flavour),
}

/// The two differ in names of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    MariaDb,
    MySql,
}

/// Creates the namespace of `target` if it is missing. The folder is that of a throw-away database.
pub(crate) async fn prepare(target: Target) -> Result<(Server, Option<TempDir>)> {
    match target {
        Target::SqliteFile(path) => {
            if let Some(dir) = path.parent() {
                tokio::fs::create_dir_all(dir).await.map_err(no_folder)?;
            }
            Ok((
                Server::Sqlite(Box::new(sqlite(path).synchronous(SqliteSynchronous::Normal))),
                None,
            ))
        }
        Target::SqliteMemory => {
            let dir = tempfile::Builder::new()
                .prefix("mosaic-sql-")
                .tempdir()
                .map_err(no_folder)?;
            let options = sqlite(dir.path().join("memory.db")).synchronous(SqliteSynchronous::Off);
            Ok((Server::Sqlite(Box::new(options)), Some(dir)))
        }
        Target::Postgres(server, schema) => {
            let server = server.disable_statement_logging();
            create_schema(&server, &schema).await.map_err(unreachable)?;
            Ok((
                Server::Postgres(Box::new(server.options([("search_path", schema)]))),
                None,
            ))
        }
        Target::MySql(server, name) => {
            let server = server.disable_statement_logging();
            let flavour = create_database(&server, &name).await.map_err(unreachable)?;
            Ok((Server::MySql(Box::new(server.database(&name)), flavour), None))
        }
    }
}

fn no_folder(cause: std::io::Error) -> Error {
    Error::unavailable("SQL_UNAVAILABLE", "the folder of the database cannot be made").caused_by(cause)
}

fn sqlite(path: PathBuf) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // Statements of many rows keep what they change, to undo it should one row fail: in memory rather than in a file.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

async fn create_schema(server: &sqlx::postgres::PgConnectOptions, schema: &str) -> sqlx::Result<()> {
    let mut connection = server.connect().await?;
    // IF NOT EXISTS alone is not safe against another process that creates it now. The name is plain: see Target.
    let mut tx = connection.begin().await?;
    tx.execute(AssertSqlSafe(format!(
        "SELECT pg_advisory_xact_lock(hashtext('{LOCK_NAME}'))"
    )))
    .await?;
    tx.execute(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")))
        .await?;
    tx.commit().await?;
    connection.close().await
}

async fn create_database(server: &MySqlConnectOptions, name: &str) -> sqlx::Result<Flavour> {
    // The database named in the URL is a prefix and need not exist.
    let mut connection = without_database(server).connect().await?;
    let version: String = sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut connection)
        .await?;
    let flavour = if version.contains("MariaDB") {
        Flavour::MariaDb
    } else {
        Flavour::MySql
    };
    // Bytes decide, trailing spaces count: as in SQLite and PostgreSQL.
    let collation = match flavour {
        Flavour::MariaDb => "utf8mb4_nopad_bin",
        Flavour::MySql => "utf8mb4_0900_bin",
    };
    let create = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE {collation}");
    connection.execute(AssertSqlSafe(create)).await?;
    connection.close().await?;
    Ok(flavour)
}

/// There is no way to take the database out of the options again, so they are made anew without it.
fn without_database(server: &MySqlConnectOptions) -> MySqlConnectOptions {
    let mut url = server.to_url_lossy();
    url.set_path("");
    MySqlConnectOptions::from_url(&url).unwrap_or_else(|_| server.clone())
}

fn unreachable(error: sqlx::Error) -> Error {
    crate::into_error(sea_orm::DbErr::Conn(RuntimeErr::SqlxError(error.into())))
}

/// Makes the pool that services use. Connects when first asked.
pub(crate) fn pool(server: &Server, options: &Options) -> DatabaseConnection {
    match server {
        Server::Sqlite(sqlite) => {
            let pool = sqlite_limits(options).connect_lazy_with((**sqlite).clone());
            SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
        }
        Server::Postgres(postgres) => {
            let timeout = options.statement_timeout.as_millis().to_string();
            let postgres = (**postgres).clone().options([("statement_timeout", timeout)]);
            let pool = limits(PgPoolOptions::new(), options).connect_lazy_with(postgres);
            SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
        }
        Server::MySql(mysql, flavour) => {
            let settings = mysql_settings(*flavour, options.statement_timeout);
            let pool = limits(MySqlPoolOptions::new(), options)
                .after_connect(move |connection, _| {
                    let settings = settings.clone();
                    Box::pin(async move { connection.execute(AssertSqlSafe(settings)).await.map(|_| ()) })
                })
                .connect_lazy_with((**mysql).clone());
            SqlxMySqlConnector::from_sqlx_mysql_pool(pool)
        }
    }
}

/// Makes the pool of the one connection through which everything of this process is written, where the engine has one writer at a
/// time: SQLite. Writers queue for it in order; SQLite would let them sleep and starve. And a connection forgets the pages it
/// has in memory whenever another one writes: writers that took turns would read all they touch anew each time.
pub(crate) fn writer(server: &Server, options: &Options) -> Option<DatabaseConnection> {
    let Server::Sqlite(sqlite) = server else { return None };
    let options = Options {
        max_connections: 1,
        min_connections: options.min_connections.min(1),
        ..options.clone()
    };
    let sqlite = (**sqlite).clone().pragma("cache_size", WRITER_CACHE_KIB);
    let pool = sqlite_limits(&options).connect_lazy_with(sqlite);
    Some(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// Makes the one connection that migrates: no statement timeout, closed with its last clone.
pub(crate) fn for_migrations(server: &Server, options: &Options) -> DatabaseConnection {
    let options = Options {
        max_connections: 1,
        min_connections: 0,
        acquire_timeout: options.connect_timeout,
        statement_timeout: Duration::ZERO,
        ..options.clone()
    };
    pool(server, &options)
}

/// A file does not go away while nobody asks: no question before each use whether it is still there.
fn sqlite_limits(options: &Options) -> SqlitePoolOptions {
    limits(SqlitePoolOptions::new(), options).test_before_acquire(false)
}

fn limits<DB: sqlx::Database>(pool: PoolOptions<DB>, options: &Options) -> PoolOptions<DB> {
    pool.max_connections(options.max_connections)
        .min_connections(options.min_connections)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(options.idle_timeout)
        .max_lifetime(options.max_lifetime)
}

fn mysql_settings(flavour: Flavour, timeout: Duration) -> String {
    let timeout = match flavour {
        Flavour::MariaDb => format!("SET SESSION max_statement_time = {}", timeout.as_secs_f64()),
        Flavour::MySql => format!("SET SESSION max_execution_time = {}", timeout.as_millis()),
    };
    format!("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; {timeout}")
}
