//! An engine in a table of the service's own database: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! A task commits together with the change that made it necessary, and nothing has to be run beside the database. Workers
//! meet at the rows: who claims locks what nobody has locked (`FOR UPDATE SKIP LOCKED`; on SQLite one writes at a time),
//! and asks the rules ([`model::apply`]) what becomes of each. A crash before the commit leaves the task as it was.

mod add;
mod rows;
mod time;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Result, Runtime, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait;
use mosaic_sql::sea_orm::sea_query::{
    Expr, ExprTrait as _, Func, LockBehavior, LockType, Order, Query, SelectStatement, SimpleExpr,
};
use mosaic_sql::{Database, Transaction, into_error, micros};

pub use rows::MIGRATIONS;

use crate::engine::{Claim, Claimed, Command, Engine, Enqueued, Hold, Lease, Outcome, Promoted, Report};
use crate::id::{QueueName, TaskId};
use crate::memory::no_such_task;
use crate::model::{self, Event, Next, Record, State};
use crate::options::{NewTask, check_batch};
use rows::{COLUMNS, TABLE, number};
use time::Time;

/// Ids in one statement.
const IDS_MAX: usize = 500;

/// See the module documentation. Opened over a database that has [`MIGRATIONS`].
#[derive(Debug)]
pub struct SqlEngine {
    database: Database,
    time: Time,
}

impl SqlEngine {
    /// Makes an engine that goes by the clock of the database.
    pub fn new(database: &Database, runtime: &Runtime) -> Self {
        Self {
            database: database.clone(),
            time: Time::Database(runtime.clone(), Mutex::default()),
        }
    }

    /// Makes an engine that goes by the clock of `runtime`: for tests that hold time still, or one process alone.
    pub fn with_clock(database: &Database, runtime: &Runtime) -> Self {
        Self {
            database: database.clone(),
            time: Time::Clock(runtime.clone()),
        }
    }

    /// Adds tasks in the caller's transaction: they are there if, and only if, it commits.
    ///
    /// Workers see them with their next look; [`Queue::wake`](crate::Queue::wake) after the commit saves the wait.
    ///
    /// # Errors
    /// As [`Engine::enqueue`]; `SQL_CONFLICT` if the transaction is to be run again.
    pub async fn enqueue_in(&self, tx: &Transaction, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        check_batch(tasks)?;
        let now = self.time.now(tx).await?;
        let records: Vec<Record> = tasks.iter().map(|new| model::enqueued(new, now)).collect();
        add::add(tx, tasks, &records, now).await
    }

    fn roll(&self) -> u32 {
        (self.time.runtime().random_u64() >> 32) as u32
    }

    /// Locks what `wanted` finds and stores what `event` makes of each; returns how many changed.
    async fn sweep(&self, wanted: &(impl Fn(i64) -> SelectStatement + Sync), event: fn(u32) -> Event) -> Result<usize> {
        let changed = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let mut nexts = Vec::new();
            for task in select(&tx, &wanted(micros(now))).await? {
                if let Ok(next) = model::apply(&task, &event(self.roll()), now) {
                    nexts.push((task.id, next));
                }
            }
            store(&tx, &nexts).await?;
            Ok(nexts.len())
        });
        changed.await
    }
}

fn find() -> SelectStatement {
    let mut find = Query::select();
    find.columns(COLUMNS).from(TABLE);
    find
}

/// Leaves out what another one holds: it will be looked at again.
fn skip_locked(find: &mut SelectStatement) -> SelectStatement {
    find.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .take()
}

fn ids(ids: impl IntoIterator<Item = TaskId>) -> SimpleExpr {
    Expr::col("id").is_in(ids.into_iter().map(|id| id.to_string()))
}

async fn select(db: &impl ConnectionTrait, find: &SelectStatement) -> Result<Vec<Record>> {
    let found = db.query_all(find).await.map_err(into_error)?;
    found.iter().map(rows::read).collect()
}

/// Stores decisions: those that are gone in one statement.
async fn store(tx: &Transaction, nexts: &[(TaskId, Next)]) -> Result<()> {
    let mut gone = Vec::new();
    for (id, next) in nexts {
        match next {
            Next::Gone => gone.push(*id),
            Next::Kept(task) => {
                tx.execute(&rows::update(task)).await.map_err(into_error)?;
            }
        }
    }
    for gone in gone.chunks(IDS_MAX) {
        let mut delete = Query::delete();
        delete.from_table(TABLE).and_where(ids(gone.iter().copied()));
        tx.execute(&delete).await.map_err(into_error)?;
    }
    Ok(())
}

/// Reads and locks tasks by id, in the order of ids so that two who want the same wait rather than deadlock.
async fn lock(tx: &Transaction, wanted: impl IntoIterator<Item = TaskId>) -> Result<Vec<Record>> {
    let mut find = find();
    find.and_where(ids(wanted))
        .order_by("id", Order::Asc)
        .lock(LockType::Update);
    select(tx, &find).await
}

fn held<'a>(tasks: &'a [Record], lease: &Lease) -> Option<&'a Record> {
    let task = tasks.iter().find(|task| task.id == lease.id)?;
    model::holds(task, lease.fence).then_some(task)
}

async fn claim_in(tx: &Transaction, claim: &Claim, now: Timestamp) -> Result<Vec<Claimed>> {
    let mut next = find();
    next.column("payload")
        .and_where(Expr::col("state").eq(number(State::Pending)))
        .and_where(Expr::col("queue").eq(claim.queue.as_str()))
        .and_where(Expr::col("kind").is_in(claim.kinds.iter().map(String::as_str)))
        .order_by("priority", Order::Desc)
        .order_by("due_at", Order::Asc)
        .order_by("id", Order::Asc)
        .limit(claim.limit as u64);
    let mut claimed = Vec::new();
    let mut refused = Vec::new();
    for row in tx.query_all(&skip_locked(&mut next)).await.map_err(into_error)? {
        let task = rows::read(&row)?;
        match model::apply(&task, &Event::Claim { lease: claim.lease }, now)? {
            Next::Kept(task) if task.state == State::Active => claimed.push(Claimed {
                task: *task,
                payload: row.try_get("", "payload").map_err(into_error)?,
            }),
            next => refused.push((task.id, next)),
        }
    }
    store(tx, &refused).await?;
    if claimed.is_empty() {
        return Ok(claimed);
    }
    // What [`Event::Claim`] changes, for all of them at once.
    let mut take = Query::update();
    take.table(TABLE)
        .value("state", number(State::Active))
        .value("fence", Expr::col("fence").add(1))
        .value("lease_until", micros(now.plus(claim.lease)))
        .and_where(ids(claimed.iter().map(|claimed| claimed.task.id)));
    tx.execute(&take).await.map_err(into_error)?;
    Ok(claimed)
}

async fn store_results(tx: &Transaction, reports: &[Report], nexts: &[(TaskId, Next)]) -> Result<()> {
    for Report { lease, outcome } in reports {
        let is_kept = nexts
            .iter()
            .any(|(id, next)| *id == lease.id && matches!(next, Next::Kept(_)));
        if let Outcome::Succeeded { result } = outcome
            && is_kept
            && !result.is_empty()
        {
            let mut update = Query::update();
            update
                .table(TABLE)
                .value("result", result.clone())
                .and_where(ids([lease.id]));
            tx.execute(&update).await.map_err(into_error)?;
        }
    }
    Ok(())
}

#[async_trait]
impl Engine for SqlEngine {
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        let added = self.database.transaction(async |tx| self.enqueue_in(&tx, tasks).await);
        added.await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        let claimed = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            claim_in(&tx, claim, now).await
        });
        claimed.await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        let extended = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let tasks = lock(&tx, leases.iter().map(|lease| lease.id)).await?;
            let kept: Vec<&Record> = leases.iter().filter_map(|lease| held(&tasks, lease)).collect();
            let mut extend = Query::update();
            extend
                .table(TABLE)
                .value("lease_until", micros(now.plus(lease)))
                .and_where(ids(kept.iter().map(|task| task.id)));
            tx.execute(&extend).await.map_err(into_error)?;
            let hold = |lease| match held(&tasks, lease) {
                None => Hold::Lost,
                Some(task) if task.is_cancelled => Hold::Cancelled,
                Some(_) => Hold::Kept,
            };
            Ok(leases.iter().map(hold).collect())
        });
        extended.await
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let finished = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let tasks = lock(&tx, reports.iter().map(|report| report.lease.id)).await?;
            let mut nexts = Vec::new();
            let mut taken = Vec::new();
            for Report { lease, outcome } in reports {
                let is_ours = nexts.iter().all(|(id, _)| *id != lease.id);
                let task = held(&tasks, lease).filter(|_| is_ours);
                taken.push(task.is_some());
                if let Some(task) = task {
                    nexts.push((task.id, model::apply(task, &outcome.event(self.roll()), now)?));
                }
            }
            store(&tx, &nexts).await?;
            store_results(&tx, reports, &nexts).await?;
            Ok(taken)
        });
        finished.await
    }

    async fn promote(&self, limit: usize) -> Result<Promoted> {
        let waits = || Expr::col("state").is_in([State::Scheduled, State::Retry].map(number));
        let wanted = |now: i64| {
            let due = Expr::col("due_at").lte(now);
            let mut find = find();
            find.and_where(waits()).and_where(due).limit(limit as u64);
            skip_locked(&mut find)
        };
        let n_due = self.sweep(&wanted, |_| Event::Due).await?;
        let mut first = Query::select();
        first
            .expr_as(Func::min(Expr::col("due_at")), "first")
            .from(TABLE)
            .and_where(waits());
        let row = self.database.query_one(&first).await.map_err(into_error)?;
        let first: Option<i64> = row.and_then(|row| row.try_get("", "first").ok());
        let now = self.time.now(&self.database).await?;
        Ok(Promoted {
            n_due,
            next_in: first.map(|first| Timestamp::from_micros(first).since(now)),
        })
    }

    async fn expire(&self, limit: usize) -> Result<usize> {
        let wanted = |now: i64| {
            let is_active = Expr::col("state").eq(number(State::Active));
            let is_over = Expr::col("lease_until").lte(now);
            let mut find = find();
            find.and_where(is_active).and_where(is_over).limit(limit as u64);
            skip_locked(&mut find)
        };
        self.sweep(&wanted, |roll| Event::Expire { roll }).await
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        let wanted = |now: i64| {
            let has_ended = Expr::col("state").is_in([State::Completed, State::Archived].map(number));
            let is_over = Expr::col("keep_until").lte(now);
            let mut find = find();
            find.and_where(has_ended).and_where(is_over).limit(limit as u64);
            skip_locked(&mut find)
        };
        self.sweep(&wanted, |_| Event::Purge).await
    }

    async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        let done = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let tasks = lock(&tx, [id]).await?;
            let task = tasks.first().ok_or_else(no_such_task)?;
            let next = model::apply(task, &command.event(), now)?;
            store(&tx, &[(id, next)]).await
        });
        done.await
    }

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        let mut count = Query::select();
        count
            .column("state")
            .expr_as(Func::count(Expr::col("id")), "n")
            .from(TABLE)
            .and_where(Expr::col("state").is_in(State::ALL.map(number)))
            .and_where(Expr::col("queue").eq(queue.as_str()))
            .group_by_col("state");
        let mut counts = Vec::new();
        for row in self.database.query_all(&count).await.map_err(into_error)? {
            let state: i64 = row.try_get("", "state").map_err(into_error)?;
            let n: i64 = row.try_get("", "n").map_err(into_error)?;
            counts.push((rows::state(state)?, n.unsigned_abs()));
        }
        counts.sort_unstable();
        Ok(counts)
    }

    async fn list(&self, queue: &QueueName, state: State, after: Option<TaskId>, limit: usize) -> Result<Vec<Record>> {
        let mut find = find();
        find.and_where(Expr::col("state").eq(number(state)))
            .and_where(Expr::col("queue").eq(queue.as_str()))
            .order_by("id", Order::Asc)
            .limit(limit as u64);
        if let Some(after) = after {
            find.and_where(Expr::col("id").gt(after.to_string()));
        }
        select(&self.database, &find).await
    }

    async fn look(&self, id: TaskId) -> Result<Option<(Record, Vec<u8>)>> {
        let mut find = find();
        find.column("result").and_where(ids([id]));
        let Some(row) = self.database.query_one(&find).await.map_err(into_error)? else {
            return Ok(None);
        };
        let result = row.try_get("", "result").map_err(into_error)?;
        Ok(Some((rows::read(&row)?, result)))
    }
}
