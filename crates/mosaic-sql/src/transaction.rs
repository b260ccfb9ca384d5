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
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit};
use tokio::time::Instant;

use crate::database::{Database, Seen};
use crate::error::{CONFLICT, into_error};
use crate::session::{Run, Session};

/// How often [`Database::transaction`] runs its body before it reports the conflict.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the second attempt, doubled for each further one, of which a random part is waited.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of text that may travel with the commit: what is longer costs more to read than it saves.
const LAST_BYTES_MAX: usize = 64 << 10;

/// A transaction that is open; entities take it as `&tx`. Clones are the same transaction, and must be gone when it commits.
#[derive(Clone)]
pub struct Transaction(Arc<Open>);

type Hook = Box<dyn FnOnce() + Send>;

struct Open {
    database: Database,
    /// `None` once the transaction has ended.
    session: AsyncMutex<Option<Session>>,
    /// Said with the commit.
    last: Mutex<String>,
    on_commit: Mutex<Vec<Hook>>,
    writer: Option<OwnedSemaphorePermit>,
}

impl Transaction {
    /// Makes the changes last.
    ///
    /// # Errors
    /// As [`into_error`]. After `SQL_CONFLICT` nothing was changed; after `SQL_UNAVAILABLE` it is unknown. Internal in a
    /// body of [`Database::transaction`], which commits by itself.
    pub async fn commit(self) -> Result<()> {
        let open = self.close()?;
        let background = open.database.inner().background.clone();
        background.finish(open.commit()).await
    }

    /// Runs `statement`, of which nothing is to be known but that it is done if the transaction is: at the latest with the commit, with
    /// which it saves a trip (on SQLite, one to the thread of the connection). If it fails, so does the commit. Of several the order is
    /// kept.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn execute_last(&self, statement: Statement) -> Result<()> {
        // How MySQL reads a text depends on settings of the session: there a value is never part of one.
        if self.get_database_backend() != DbBackend::MySql {
            let Some(before) = self.0.say_last(&statement) else {
                return Ok(());
            };
            if !before.is_empty() {
                self.execute_unprepared(&before).await.map_err(into_error)?;
            }
        }
        self.execute_raw(statement).await.map(drop).map_err(into_error)
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
        let background = open.database.inner().background.clone();
        background.finish(open.rollback()).await
    }

    fn close(self) -> Result<Open> {
        Arc::into_inner(self.0).ok_or_else(|| Error::internal("the transaction is still in use elsewhere"))
    }
}

impl Open {
    /// Keeps a statement for the commit; if there is no room, returns what must be said before it.
    fn say_last(&self, statement: &Statement) -> Option<String> {
        let text = statement.to_string();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() + text.len() > LAST_BYTES_MAX {
            return Some(std::mem::take(&mut *last));
        }
        last.push_str(&text);
        last.push_str("; ");
        None
    }

    async fn commit(mut self) -> Result<()> {
        let mut sql = std::mem::take(self.last.get_mut().unwrap_or_else(PoisonError::into_inner));
        sql.push_str("COMMIT");
        let session = self.session.get_mut().as_mut().ok_or_else(ended)?;
        // What fails leaves the session to be rolled back by who drops it.
        session.say(&sql).await.map_err(into_error)?;
        if let Some(session) = self.session.get_mut().take() {
            self.database.inner().put_back(session);
        }
        // The next writer need not wait for what others do with the news.
        self.writer = None;
        for hook in std::mem::take(self.on_commit.get_mut().unwrap_or_else(PoisonError::into_inner)) {
            hook();
        }
        Ok(())
    }

    async fn rollback(mut self) -> Result<()> {
        let session = self.session.get_mut().take().ok_or_else(ended)?;
        let session = session.rollback().await.map_err(into_error)?;
        self.database.inner().put_back(session);
        Ok(())
    }

    /// Runs something in the session.
    async fn run<T: Send + 'static>(self: &Arc<Self>, statement: Statement, run: Run<T>) -> Result<T, DbErr> {
        let open = self.clone();
        let work = async move {
            let mut session = open.session.lock().await;
            let session = session.as_mut().ok_or_else(|| DbErr::Custom(ended().to_string()))?;
            let begun = Instant::now();
            let seen = Seen::copy(&statement);
            let done = run(session, statement).await;
            open.database
                .inner()
                .observer
                .saw(&seen, begun.elapsed(), done.is_err());
            done
        };
        if self.database.inner().is_fragile() {
            self.database.inner().background.finish(work).await
        } else {
            work.await
        }
    }
}

/// Nothing is left open, whoever drops it, and the next writer waits until it is not.
impl Drop for Open {
    fn drop(&mut self) {
        let Some(session) = self.session.get_mut().take() else {
            return;
        };
        let (database, writer) = (self.database.clone(), self.writer.take());
        self.database.inner().background.run(async move {
            match session.rollback().await {
                Ok(session) => database.inner().put_back(session),
                Err(error) => {
                    tracing::debug!("a transaction could not be rolled back, its connection is closed: {error}")
                }
            }
            drop(writer);
        });
    }
}

fn ended() -> Error {
    Error::internal("the transaction has ended")
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
        let writer = self.inner().turn().await.map_err(|error| {
            Error::unavailable("SQL_UNAVAILABLE", "the database is busy")
                .caused_by(format!("no turn to write in time: {error}"))
        })?;
        let database = self.clone();
        let begin = async move {
            let mut session = database.inner().session().await?;
            let sql = match database.backend() {
                DbBackend::Sqlite => "BEGIN IMMEDIATE",
                _ => "BEGIN",
            };
            if let Err(error) = session.say(sql).await {
                // Whether it has begun is not known.
                if let Ok(session) = session.rollback().await {
                    database.inner().put_back(session);
                }
                return Err(error);
            }
            // The turn ends after the transaction, also if nobody is there any more when it has begun.
            Ok(Transaction(Arc::new(Open {
                database,
                session: AsyncMutex::new(Some(session)),
                last: Mutex::default(),
                on_commit: Mutex::default(),
                writer,
            })))
        };
        self.inner().background.finish(begin).await.map_err(into_error)
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
        self.0.database.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0
            .run(statement, |session, said| Box::pin(session.execute(said)))
            .await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let statement = Statement::from_string(self.get_database_backend(), sql);
        let say: Run<ExecResult> = |session, said| Box::pin(async move { session.say(&said.sql).await });
        self.0.run(statement, say).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0
            .run(statement, |session, said| Box::pin(session.query_one(said)))
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0
            .run(statement, |session, said| Box::pin(session.query_all(said)))
            .await
    }
}
