//! A table of standing jobs: work that goes on for ever or for hours, in one process at a time, whichever it is.
//!
//! A row is a job with its progress, its holder and the time until which the holder must renew it. Rows that nobody renews
//! are taken over, those that were abandoned first; the number that rises with each take-over is checked with each
//! progress that is stored, so one who was followed changes nothing. Unlike a task, a job is not done by being run.

use std::time::Duration;

use mosaic_core::{Error, Result, Runtime, Timestamp};
use mosaic_sql::sea_orm::sea_query::{
    ColumnDef, Expr, ExprTrait as _, Index, LockBehavior, LockType, Order, Query, Table, UpdateStatement,
};
use mosaic_sql::sea_orm::{ConnectionTrait, DbErr, QueryResult};
use mosaic_sql::{Database, DatabaseClock, Migration, Schema, Transaction, into_error, micros};

use crate::lease::check_names;
use crate::sql::is_added;

mod runner;

pub use runner::JobRunner;

/// Largest payload and largest progress.
const BYTES_MAX: usize = 64 * 1024;
const TABLE: &str = "mosaic_job";

/// A job that is ours until its time ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Name.
    pub name: String,
    /// What it is to do.
    pub payload: Vec<u8>,
    /// How far it came, by whoever had it last.
    pub progress: Vec<u8>,
    /// The number of the take-over.
    pub fence: i64,
}

/// See the module documentation. Opened over a database that has [`Jobs::MIGRATIONS`]. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    database: Database,
    clock: DatabaseClock,
}

fn create(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().take();
    let text = |name: &'static str| ColumnDef::new(name).string_len(120).not_null().take();
    let bytes = |name: &'static str| ColumnDef::new(name).var_binary(65_535).not_null().take();
    let mut table = Table::create();
    table.table(TABLE).col(text("name").primary_key()).col(text("holder"));
    table.col(number("fence")).col(number("until_at"));
    // MySQL has room for one of this length in a row; its blob is as long.
    let blob = |name: &'static str| ColumnDef::new(name).blob().not_null().take();
    let column = match schema.backend() {
        mosaic_sql::sea_orm::DbBackend::MySql => blob,
        _ => bytes,
    };
    table.col(column("payload")).col(column("progress"));
    schema.run(&table);
    schema.run(Index::create().name("ix_mosaic_job_until").table(TABLE).col("until_at"));
}

impl Jobs {
    /// Migrations of the table of jobs; a service adds them to its own.
    pub const MIGRATIONS: &[Migration] = &[Migration {
        name: "mosaic_job_0001_create_mosaic_job",
        up: create,
    }];

    /// Makes a table that goes by the clock of the database.
    pub fn new(database: &Database, runtime: &Runtime) -> Self {
        Self::with_clock(database, DatabaseClock::new(runtime))
    }

    /// Makes a table that goes by `clock`.
    pub fn with_clock(database: &Database, clock: DatabaseClock) -> Self {
        Self {
            database: database.clone(),
            clock,
        }
    }

    /// Adds a job; `false` if there is one of this name, which stays as it is.
    ///
    /// # Errors
    /// `LEASE_NAME_INVALID`, `JOB_TOO_LARGE`; failures of the database.
    pub async fn add(&self, name: &str, payload: &[u8]) -> Result<bool> {
        check_names(&[name])?;
        check_size(payload)?;
        let mut insert = Query::insert();
        insert
            .into_table(TABLE)
            .columns(["name", "holder", "fence", "until_at", "payload", "progress"])
            .values_panic([
                name.into(),
                "".into(),
                0_i64.into(),
                0_i64.into(),
                payload.to_vec().into(),
                Vec::<u8>::new().into(),
            ]);
        is_added(self.database.execute(&insert).await)
    }

    /// Takes at most `limit` jobs that nobody has renewed, and nobody taken for `free_for` since, for `ttl`.
    ///
    /// # Errors
    /// `LEASE_NAME_INVALID`; failures of the database.
    pub async fn take(&self, holder: &str, ttl: Duration, free_for: Duration, limit: usize) -> Result<Vec<Job>> {
        check_names(&[holder])?;
        let taken = self.database.transaction(async |tx| {
            let now = self.clock.now(&tx).await?;
            let mut find = Query::select();
            find.columns(["name", "payload", "progress", "fence"]).from(TABLE);
            find.and_where(Expr::col("until_at").lte(micros(now.minus(free_for))));
            find.order_by("until_at", Order::Asc).order_by("name", Order::Asc);
            find.limit(limit as u64)
                .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
            let rows = tx.query_all(&find).await.map_err(into_error)?;
            let jobs = rows
                .iter()
                .map(read)
                .collect::<Result<Vec<_>, _>>()
                .map_err(into_error)?;
            if !jobs.is_empty() {
                let mut take = until(now.plus(ttl));
                take.value("holder", holder)
                    .value("fence", Expr::col("fence").add(1))
                    .and_where(Expr::col("name").is_in(jobs.iter().map(|job| job.name.as_str())));
                tx.execute(&take).await.map_err(into_error)?;
            }
            Ok(jobs)
        });
        taken.await
    }

    /// Keeps a job for `ttl` from now; `false` if somebody has taken it over or removed it.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn renew(&self, job: &Job, ttl: Duration) -> Result<bool> {
        let renewed = self.database.transaction(async |tx| {
            let now = self.clock.now(&tx).await?;
            self.change(&tx, job, &mut until(now.plus(ttl))).await
        });
        renewed.await
    }

    /// Stores how far the job came, in the transaction that brought it there.
    ///
    /// # Errors
    /// `JOB_LOST` (`Aborted`) if somebody has taken it over: roll back; `JOB_TOO_LARGE`; failures of the database.
    pub async fn save_in(&self, tx: &Transaction, job: &Job, progress: &[u8]) -> Result<()> {
        check_size(progress)?;
        let mut update = Query::update();
        update.table(TABLE).value("progress", progress.to_vec());
        if self.change(tx, job, &mut update).await? {
            return Ok(());
        }
        Err(Error::aborted("JOB_LOST", "another process has taken the job over"))
    }

    /// Gives a job back, to be taken by anybody at once; nothing happens if it is lost.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn release(&self, job: &Job) -> Result<()> {
        let released = self.database.transaction(async |tx| {
            let now = self.clock.now(&tx).await?;
            self.change(&tx, job, &mut until(now)).await
        });
        released.await.map(|_| ())
    }

    /// Removes a job that has come to its end, or that nobody wants any more; who runs it learns it when it renews.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let mut delete = Query::delete();
        delete.from_table(TABLE).and_where(Expr::col("name").eq(name));
        self.database.execute(&delete).await.map_err(into_error)?;
        Ok(())
    }

    /// Returns the names of all jobs with their holders, empty for those that are free.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn list(&self) -> Result<Vec<(String, String)>> {
        let now = micros(self.clock.now(&self.database).await?);
        let mut find = Query::select();
        find.columns(["name", "holder", "until_at"]).from(TABLE);
        let rows = self.database.query_all(find.order_by("name", Order::Asc)).await;
        let read = |row: &QueryResult| -> Result<(String, String), DbErr> {
            let is_held = row.try_get::<i64>("", "until_at")? > now;
            let holder = if is_held {
                row.try_get("", "holder")?
            } else {
                String::new()
            };
            Ok((row.try_get("", "name")?, holder))
        };
        let rows = rows.map_err(into_error)?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(into_error)
    }

    /// Changes a row that is still of this take-over; says whether it was.
    async fn change(&self, tx: &Transaction, job: &Job, update: &mut UpdateStatement) -> Result<bool> {
        let mut find = Query::select();
        find.column("fence")
            .from(TABLE)
            .and_where(Expr::col("name").eq(job.name.as_str()));
        let row = tx.query_one(&*find.lock(LockType::Update)).await.map_err(into_error)?;
        let fence: Option<i64> = row
            .map(|row| row.try_get("", "fence"))
            .transpose()
            .map_err(into_error)?;
        if fence != Some(job.fence) {
            return Ok(false);
        }
        update.and_where(Expr::col("name").eq(job.name.as_str()));
        tx.execute(&*update).await.map_err(into_error)?;
        Ok(true)
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

fn until(time: Timestamp) -> UpdateStatement {
    Query::update().table(TABLE).value("until_at", micros(time)).to_owned()
}

/// Reads a row as its next holder has it.
fn read(row: &QueryResult) -> Result<Job, DbErr> {
    Ok(Job {
        name: row.try_get("", "name")?,
        payload: row.try_get("", "payload")?,
        progress: row.try_get("", "progress")?,
        fence: row.try_get::<i64>("", "fence")? + 1,
    })
}

fn check_size(bytes: &[u8]) -> Result<()> {
    if bytes.len() > BYTES_MAX {
        let error = Error::invalid_argument("JOB_TOO_LARGE", "a job's payload or progress is too large");
        return Err(error.with_http_status(413));
    }
    Ok(())
}
