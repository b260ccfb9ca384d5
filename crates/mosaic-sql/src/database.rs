//! One module's database: where its queries start.
//!
//! A [`Database`] is a SeaORM connection (it implements [`ConnectionTrait`], so entities take `&db`) plus what SeaORM
//! leaves open: the namespace, the migrations, the one writer of SQLite, the log of slow queries. Cheap to clone.

use std::fmt;
use std::sync::Arc;

use mosaic_core::{Error, Result, Runtime};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::Semaphore;

use crate::connect::{self, Server};
use crate::finish::Background;
use crate::migrate::{self, Migration};
use crate::options::Options;
use crate::target::Target;

/// See the module documentation.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) connection: DatabaseConnection,
    pub(crate) module: Arc<str>,
    pub(crate) options: Options,
    /// Writers of SQLite queue here in order, rather than in SQLite, which lets them sleep and starve.
    pub(crate) writer: Option<Arc<Semaphore>>,
    /// For the jitter between attempts and the time in the migrations table, neither of which a rule sees.
    pub(crate) runtime: Runtime,
    /// What nobody waits for any longer ends here.
    pub(crate) background: Background,
    /// `sqlite::memory:` is a file with the same locks and the same journal as any other, only that nobody else finds
    /// it and that it goes with this handle: SQLite's own in-memory databases let a writer shut readers out.
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    /// Opens the namespace of `module` at `url`, creates it if it is missing and brings it up to date.
    ///
    /// - `sqlite:DIR/` is the file `DIR/<module>.db`; `sqlite::memory:` is private and gone with the last clone;
    /// - `postgres://user:password@host/database` is the schema `<module>` of that database;
    /// - `mysql://user:password@host/prefix` is the database `<prefix>_<module>`.
    ///
    /// Several processes may open the same module at once: one migrates, the others wait.
    ///
    /// # Errors
    /// `SQL_URL_INVALID`, `SQL_MODULE_INVALID`; `SQL_UNAVAILABLE` if the server does not answer within
    /// `options.connect_timeout`; `SQL_MIGRATION_FAILED` with the name of the migration.
    pub async fn open(url: &str, module: &str, options: &Options, migrations: &[Migration]) -> Result<Self> {
        let target = Target::parse(url, module)?;
        let prepared = tokio::time::timeout(options.connect_timeout, connect::prepare(target)).await;
        let (server, folder) =
            prepared.map_err(|_| Error::unavailable("SQL_UNAVAILABLE", "the database does not answer"))??;
        let runtime = Runtime::system();
        migrate::run(&server, options, module, migrations, &runtime).await?;
        let module: Arc<str> = module.into();
        let mut connection = connect::pool(&server, options);
        connection.set_metric_callback(observe(module.clone(), options));
        Ok(Self(Arc::new(Inner {
            connection,
            module,
            options: options.clone(),
            writer: matches!(server, Server::Sqlite(_)).then(|| Arc::new(Semaphore::new(1))),
            runtime,
            background: Background::new(),
            _folder: folder,
        })))
    }

    /// Returns the SeaORM connection, for what [`ConnectionTrait`] does not offer.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.0.connection
    }

    /// Returns the engine, for the rare statement that must differ.
    pub fn backend(&self) -> DbBackend {
        self.0.connection.get_database_backend()
    }

    /// Asks the database for a sign of life; for readiness. Also reports the pool's gauges.
    ///
    /// # Errors
    /// `SQL_UNAVAILABLE`.
    pub async fn ping(&self) -> Result<()> {
        self.report_pool();
        self.0
            .connection
            .ping()
            .await
            .map_err(|cause| Error::unavailable("SQL_UNAVAILABLE", "the database cannot be reached").caused_by(cause))
    }

    /// Closes every connection once it is free; later calls fail with `SQL_UNAVAILABLE`.
    pub async fn close(&self) {
        // Closing a pool does not fail; the result is there for other kinds of connection.
        let _ = self.0.connection.close_by_ref().await;
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    fn report_pool(&self) {
        let (size, idle) = match self.backend() {
            DbBackend::MySql => {
                let pool = self.0.connection.get_mysql_connection_pool();
                (pool.size(), pool.num_idle())
            }
            DbBackend::Postgres => {
                let pool = self.0.connection.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
            _ => {
                let pool = self.0.connection.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            }
        };
        let module = self.0.module.to_string();
        metrics::gauge!("sql_pool_connections", "module" => module.clone()).set(size);
        metrics::gauge!("sql_pool_idle", "module" => module).set(idle as f64);
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("module", &self.0.module)
            .field("backend", &self.backend())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Are statements to be finished even if nobody waits for them?
    pub(crate) fn is_fragile(&self) -> bool {
        self.connection.get_database_backend() == DbBackend::MySql
    }

    async fn run<T, F>(&self, run: impl FnOnce(DatabaseConnection) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let work = run(self.connection.clone());
        if self.is_fragile() {
            self.background.finish(work).await
        } else {
            work.await
        }
    }
}

/// Returns the text of a statement up to its first value: placeholders are no values, texts in quotes are.
fn without_values(statement: &Statement) -> &str {
    match statement.values {
        Some(_) => &statement.sql,
        None => statement.sql.split('\'').next().unwrap_or_default(),
    }
}

/// Measures every statement and logs the slow ones, without values.
fn observe(module: Arc<str>, options: &Options) -> impl Fn(&sea_orm::metric::Info<'_>) + Send + Sync + 'static {
    let slow = options.slow_query;
    let seconds = metrics::histogram!("sql_statement_seconds", "module" => module.to_string());
    let failures = metrics::counter!("sql_statement_failures_total", "module" => module.to_string());
    move |info| {
        seconds.record(info.elapsed.as_secs_f64());
        if info.failed {
            failures.increment(1);
        }
        if info.elapsed >= slow {
            let elapsed_ms = u64::try_from(info.elapsed.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(%module, elapsed_ms, sql = without_values(info.statement), "slow query");
        }
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Database {
    fn get_database_backend(&self) -> DbBackend {
        self.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let run = |db: DatabaseConnection| async move { db.execute_raw(statement).await };
        self.0.run(run).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sql.to_owned();
        let run = |db: DatabaseConnection| async move { db.execute_unprepared(&sql).await };
        self.0.run(run).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let run = |db: DatabaseConnection| async move { db.query_one_raw(statement).await };
        self.0.run(run).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let run = |db: DatabaseConnection| async move { db.query_all_raw(statement).await };
        self.0.run(run).await
    }
}
