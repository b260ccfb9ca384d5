//! Transactions that mean the same on every engine.
//!
//! On PostgreSQL and MySQL a transaction is `READ COMMITTED`; on SQLite it takes the write lock when it begins
//! (`BEGIN IMMEDIATE`), since one that reads first and writes later is refused whenever somebody wrote in between. Writers
//! of this process wait for each other in order, in front of the database, holding no connection.
//!
//! A [`Transaction`] that is dropped is rolled back. Never hold one across a call to another service. A statement that is given
//! up half-way (on MySQL) goes on in the background and keeps the transaction from being committed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mosaic_core::{Code, Error, Result};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::database::Database;
use crate::error::{CONFLICT, into_error};
use crate::finish::Background;

/// How often [`Database::transaction`] runs its body before it reports the conflict.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the second attempt, doubled for each further one, of which a random part is waited.
const PAUSE: Duration = Duration::from_millis(10);

/// A transaction that is open; entities take it as `&tx`. Clones are the same transaction, and must be gone when it commits.
#[derive(Clone)]
pub struct Transaction(Arc<Open>);

type Hook = Box<dyn FnOnce() + Send>;

struct Open {
    inner: DatabaseTransaction,
    background: Background,
    is_fragile: bool,
    on_commit: Mutex<Vec<Hook>>,
    // After `inner`: the next writer starts once this one's rollback is on its way.
    _writer: Option<OwnedSemaphorePermit>,
}

impl Transaction {
    /// Makes the changes last.
    ///
    /// # Errors
    /// As [`into_error`]. After `SQL_CONFLICT` nothing was changed; after `SQL_UNAVAILABLE` it is unknown. Internal in a
    /// body of [`Database::transaction`], which commits by itself.
    pub async fn commit(self) -> Result<()> {
        let open = self.close()?;
        let background = open.background.clone();
        background.finish(open.commit()).await
    }

    /// Runs `hook` once the changes last: wakes those who look at them, forgets what was cached. Not run if they do not
    /// last, nor if nobody lives to see the commit, so nothing that must happen may hang on it. It must not block.
    pub fn on_commit(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hooks = self.0.on_commit.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.push(Box::new(hook));
    }

    /// Undoes the changes; dropping does the same without telling of failures.
    ///
    /// # Errors
    /// As [`into_error`]. Internal in a body of [`Database::transaction`], which rolls back by itself.
    pub async fn rollback(self) -> Result<()> {
        let open = self.close()?;
        let background = open.background.clone();
        background
            .finish(async { open.inner.rollback().await.map_err(into_error) })
            .await
    }

    fn close(self) -> Result<Open> {
        Arc::into_inner(self.0).ok_or_else(|| Error::internal("the transaction is still in use elsewhere"))
    }
}

impl Open {
    async fn commit(self) -> Result<()> {
        self.inner.commit().await.map_err(into_error)?;
        // The next writer need not wait for what others do with the news.
        drop(self._writer);
        for hook in self.on_commit.into_inner().unwrap_or_else(PoisonError::into_inner) {
            hook();
        }
        Ok(())
    }

    async fn run<T, F>(self: &Arc<Self>, run: impl FnOnce(Arc<Self>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let work = run(self.clone());
        if self.is_fragile {
            self.background.finish(work).await
        } else {
            work.await
        }
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

impl Database {
    /// Begins a transaction that writes.
    ///
    /// # Errors
    /// `SQL_UNAVAILABLE` if no connection (on SQLite: not the writer's turn) is to be had within `acquire_timeout`.
    pub async fn begin(&self) -> Result<Transaction> {
        let writer = match &self.inner().writer {
            None => None,
            Some(writer) => {
                let turn = tokio::time::timeout(self.inner().options.acquire_timeout, writer.clone().acquire_owned());
                let turn = turn.await.map_err(|_| {
                    Error::unavailable("SQL_UNAVAILABLE", "the database is busy").caused_by("no turn to write in time")
                })?;
                Some(turn.expect("the semaphore is never closed"))
            }
        };
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let connection = self.connection().clone();
        // The turn ends after the transaction, also if nobody is there any more when it has begun.
        let begin = async move { (connection.begin_with_options(options).await, writer) };
        let (begun, writer) = self.inner().background.finish(begin).await;
        Ok(Transaction(Arc::new(Open {
            inner: begun.map_err(into_error)?,
            background: self.inner().background.clone(),
            is_fragile: self.inner().is_fragile(),
            on_commit: Mutex::default(),
            _writer: writer,
        })))
    }

    /// Runs `body` in a transaction and commits if it returns `Ok`.
    ///
    /// A transaction that loses against another one (`SQL_CONFLICT`) is run again, a few times, after a short random
    /// pause: **`body` may run more than once**, so it must change nothing but the database. Dropping the returned future
    /// rolls back.
    ///
    /// ```
    /// # async fn example(db: mosaic_sql::Database) -> mosaic_core::Result<()> {
    /// use mosaic_sql::{into_error, sea_orm::ConnectionTrait};
    /// db.transaction(async |tx| {
    ///     tx.execute_unprepared("UPDATE rooms SET n_free = n_free - 1").await.map_err(into_error)?;
    ///     Ok(())
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `body`, of [`Database::begin`] and of [`Transaction::commit`].
    pub async fn transaction<T, F, B>(&self, body: F) -> Result<T>
    where
        F: Fn(Transaction) -> B,
        B: Future<Output = Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(&body).await {
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS_MAX => error,
                result => return result,
            };
            tracing::debug!(
                attempt,
                cause = error.cause_chain(),
                "transaction lost a race, running it again"
            );
            metrics::counter!("sql_conflicts_total", "module" => self.inner().module.to_string()).increment(1);
            tokio::time::sleep(self.pause_after(attempt)).await;
            attempt += 1;
        }
    }

    async fn attempt<T, F, B>(&self, body: &F) -> Result<T>
    where
        F: Fn(Transaction) -> B,
        B: Future<Output = Result<T>>,
    {
        let tx = self.begin().await?;
        // The body gets a handle of its own, not a reference: with one, callers' futures could not be proven `Send`.
        let value = body(tx.clone()).await?;
        tx.commit().await?;
        Ok(value)
    }

    fn pause_after(&self, attempt: u32) -> Duration {
        let longest = PAUSE * 2_u32.pow(attempt - 1);
        Duration::from_micros(self.inner().runtime.random_below(longest.as_micros() as u64))
    }
}

fn is_conflict(error: &Error) -> bool {
    error.code() == Code::Aborted && error.reason() == CONFLICT
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.0.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let run = |open: Arc<Open>| async move { open.inner.execute_raw(statement).await };
        self.0.run(run).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sql.to_owned();
        let run = |open: Arc<Open>| async move { open.inner.execute_unprepared(&sql).await };
        self.0.run(run).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let run = |open: Arc<Open>| async move { open.inner.query_one_raw(statement).await };
        self.0.run(run).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let run = |open: Arc<Open>| async move { open.inner.query_all_raw(statement).await };
        self.0.run(run).await
    }
}
