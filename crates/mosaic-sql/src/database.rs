//! One module's database: where its queries start.
//!
//! A [`Database`] is a SeaORM connection (it implements [`ConnectionTrait`], so entities take `&db`) plus what SeaORM
//! leaves open: the namespace, the migrations, the one writer of SQLite, the log of slow queries. Cheap to clone.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Histogram};
use mosaic_core::{Error, Result, Runtime, lock};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::connect;
use crate::finish::Background;
use crate::migrate::{self, Migration};
use crate::options::Options;
use crate::session::{Run, Session};
use crate::target::Target;

/// See the module documentation.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

/// The one connection that writes, and the queue in front of it, which who waits in may leave.
struct Writer {
    turn: Arc<Semaphore>,
    pool: DatabaseConnection,
    /// The connection, while nobody writes: it need not go through the pool, which looks whether it still works each time.
    idle: Mutex<Option<Session>>,
}

pub(crate) struct Inner {
    pub(crate) connection: DatabaseConnection,
    pub(crate) module: Arc<str>,
    pub(crate) observer: Observer,
    pub(crate) options: Options,
    /// What writes goes through here, if the engine has one writer at a time.
    writer: Option<Writer>,
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
        let observer = Observer::new(module.clone(), options);
        let mut connection = connect::pool(&server, options);
        observer.watch(&mut connection);
        let writer = connect::writer(&server, options).map(|mut connection| {
            observer.watch(&mut connection);
            Writer {
                turn: Arc::new(Semaphore::new(1)),
                pool: connection,
                idle: Mutex::default(),
            }
        });
        Ok(Self(Arc::new(Inner {
            connection,
            module,
            observer,
            options: options.clone(),
            writer,
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
        if let Some(writer) = &self.0.writer {
            drop(lock(&writer.idle).take());
            let _ = writer.pool.close_by_ref().await;
        }
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

    /// Waits for the turn to write, where there is one writer at a time.
    pub(crate) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, DbErr> {
        let Some(Writer { turn, .. }) = &self.writer else {
            return Ok(None);
        };
        let turn = tokio::time::timeout(self.options.acquire_timeout, turn.clone().acquire_owned());
        let turn = turn
            .await
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        Ok(Some(turn.expect("the semaphore is never closed")))
    }

    /// Takes a connection to write through; where there is one writer at a time, for who has the turn.
    pub(crate) async fn session(&self) -> Result<Session, DbErr> {
        let Some(writer) = &self.writer else {
            return Session::acquire(&self.connection).await;
        };
        let idle = lock(&writer.idle).take();
        match idle {
            Some(session) => Ok(session),
            None => Session::acquire(&writer.pool).await,
        }
    }

    /// Gives a connection back that can be used again.
    pub(crate) fn put_back(&self, session: Session) {
        if let Some(writer) = self
            .writer
            .as_ref()
            .filter(|writer| !writer.pool.get_sqlite_connection_pool().is_closed())
        {
            *lock(&writer.idle) = Some(session);
        }
    }

    /// Writes something outside any transaction.
    async fn write(&self, statement: Statement, write: Run<ExecResult>) -> Result<ExecResult, DbErr> {
        let _turn = self.turn().await?;
        let mut session = self.session().await?;
        let (seen, begun) = (Seen::copy(&statement), Instant::now());
        let done = write(&mut session, statement).await;
        self.observer.saw(&seen, begun.elapsed(), done.is_err());
        self.put_back(session);
        done
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

/// The text of a statement as it may be logged.
pub(crate) struct Seen<'a> {
    sql: Cow<'a, str>,
    has_values_inside: bool,
}

impl<'a> Seen<'a> {
    fn of(statement: &'a Statement) -> Self {
        Self {
            sql: Cow::Borrowed(&statement.sql),
            has_values_inside: statement.values.is_none(),
        }
    }

    /// Remembers a statement that is about to be given away.
    pub(crate) fn copy(statement: &Statement) -> Seen<'static> {
        Seen {
            sql: Cow::Owned(statement.sql.clone()),
            has_values_inside: statement.values.is_none(),
        }
    }

    /// Returns the text up to its first value: placeholders are no values, texts in quotes are.
    fn without_values(&self) -> &str {
        match self.has_values_inside {
            true => self.sql.split('\'').next().unwrap_or_default(),
            false => &self.sql,
        }
    }
}

/// Measures every statement and logs the slow ones, without values.
#[derive(Clone)]
pub(crate) struct Observer {
    module: Arc<str>,
    slow: Duration,
    seconds: Histogram,
    failures: Counter,
}

impl Observer {
    fn new(module: Arc<str>, options: &Options) -> Self {
        Self {
            slow: options.slow_query,
            seconds: metrics::histogram!("sql_statement_seconds", "module" => module.to_string()),
            failures: metrics::counter!("sql_statement_failures_total", "module" => module.to_string()),
            module,
        }
    }

    pub(crate) fn saw(&self, statement: &Seen<'_>, elapsed: Duration, has_failed: bool) {
        self.seconds.record(elapsed.as_secs_f64());
        if has_failed {
            self.failures.increment(1);
        }
        if elapsed >= self.slow {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(module = %self.module, elapsed_ms, sql = statement.without_values(), "slow query");
        }
    }

    /// Watches what is said outside transactions.
    fn watch(&self, connection: &mut DatabaseConnection) {
        let observer = self.clone();
        connection.set_metric_callback(move |info: &sea_orm::metric::Info<'_>| {
            observer.saw(&Seen::of(info.statement), info.elapsed, info.failed);
        });
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Database {
    fn get_database_backend(&self) -> DbBackend {
        self.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        if self.0.writer.is_some() {
            return self
                .0
                .write(statement, |session, said| Box::pin(session.execute(said)))
                .await;
        }
        let run = |db: DatabaseConnection| async move { db.execute_raw(statement).await };
        self.0.run(run).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        if self.0.writer.is_some() {
            let statement = Statement::from_string(self.backend(), sql);
            let say: Run<ExecResult> = |session, said| Box::pin(async move { session.say(&said.sql).await });
            return self.0.write(statement, say).await;
        }
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
