//! An engine in tables of the service's own database: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! A task commits together with the change that made it necessary, and nothing has to be run beside the database. Workers
//! meet at the rows: who claims locks what nobody has locked (`FOR UPDATE SKIP LOCKED`; on SQLite one writes at a time),
//! and asks the rules ([`model::apply`]) what becomes of each. A crash before the commit leaves the task as it was.
//! Locks are taken in one order: tasks that are pending or active, then keys and groups, then tasks that wait.

mod add;
mod change;
mod claim;
mod days;
mod edges;
mod engine;
mod groups;
mod inspect;
mod keys;
mod listen;
mod rows;
mod schedules;
mod schema;
mod time;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use mosaic_core::{Error, Result, Runtime, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait;
use mosaic_sql::sea_orm::sea_query::{
    Expr, ExprTrait as _, LockBehavior, LockType, Order, Query, SelectStatement, SimpleExpr,
};
use mosaic_sql::{Database, Transaction, into_error, micros};

pub use schema::MIGRATIONS;

use crate::engine::Report;
use crate::id::TaskId;
use crate::model::{self, Event, Record, State};
use change::{Change, Tally};
use rows::{COLUMNS, number};
use schema::TABLE;
use time::Time;

/// Rows in one statement.
const ROWS_MAX: usize = 500;

/// See the module documentation. Opened over a database that has [`MIGRATIONS`].
#[derive(Debug)]
pub struct SqlEngine {
    database: Database,
    time: Time,
    /// Counts of tasks that were finished in transactions of others; stored with the next ones.
    uncounted: Arc<Mutex<Tally>>,
    /// The last claim found nothing: the next one looks before it begins a transaction, which a worker without work would do for
    /// nothing every second.
    is_idle: AtomicBool,
}

impl SqlEngine {
    /// Makes an engine that goes by the clock of the database.
    pub fn new(database: &Database, runtime: &Runtime) -> Self {
        Self::with(database, Time::Database(runtime.clone(), Mutex::default()))
    }

    /// Makes an engine that goes by the clock of `runtime`: for tests that hold time still, or one process alone.
    pub fn with_clock(database: &Database, runtime: &Runtime) -> Self {
        Self::with(database, Time::Clock(runtime.clone()))
    }

    fn with(database: &Database, time: Time) -> Self {
        Self {
            database: database.clone(),
            time,
            uncounted: Arc::default(),
            is_idle: AtomicBool::new(false),
        }
    }

    fn roll(&self) -> u32 {
        (self.time.runtime().random_u64() >> 32) as u32
    }

    /// Locks what `wanted` finds and stores what `event` makes of each; returns how many changed.
    async fn sweep(&self, wanted: &(impl Fn(i64) -> SelectStatement + Sync), event: fn(u32) -> Event) -> Result<usize> {
        let changed = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let mut changes = Vec::new();
            for task in select(&tx, &wanted(micros(now))).await? {
                changes.extend(Change::of(task, event(self.roll()), now));
            }
            let tally = change::carry_out(&tx, &changes, now).await?;
            days::count(&tx, &tally, now, self.time.runtime()).await?;
            Ok(changes.len())
        });
        changed.await
    }

    async fn finish_reports(&self, tx: &Transaction, reports: &[Report], now: Timestamp) -> Result<(Vec<bool>, Tally)> {
        let held = lock(tx, reports.iter().map(|report| report.lease.id).collect()).await?;
        let mut held: std::collections::HashMap<TaskId, Record> =
            held.into_iter().map(|task| (task.id, task)).collect();
        let mut changes = Vec::new();
        let mut taken = Vec::with_capacity(reports.len());
        for Report { lease, outcome } in reports {
            let is_held = held.get(&lease.id).is_some_and(|task| model::holds(task, lease.fence));
            taken.push(is_held);
            // Taken out: the second of two reports on one task finds nothing.
            if let Some(task) = held.remove(&lease.id).filter(|_| is_held) {
                let mut change = Change::of(task, outcome.event(self.roll()), now)?;
                if let crate::engine::Outcome::Succeeded { result } = outcome {
                    change.result.clone_from(result);
                }
                changes.push(change);
            }
        }
        Ok((taken, change::carry_out(tx, &changes, now).await?))
    }
}

fn find() -> SelectStatement {
    let mut find = Query::select();
    find.columns(COLUMNS).from(TABLE);
    find
}

/// In words that partial indexes are found by.
fn in_state(states: &[State]) -> SimpleExpr {
    let numbers: Vec<String> = states.iter().map(|state| number(*state).to_string()).collect();
    match numbers.as_slice() {
        [one] => Expr::cust(format!("state = {one}")),
        many => Expr::cust(format!("state IN ({})", many.join(", "))),
    }
}

/// Leaves out what another one holds: it will be looked at again.
fn skip_locked(find: &mut SelectStatement) -> SelectStatement {
    find.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .take()
}

/// Is `column` one of `ids`? The list is filled up to a power of two with its last one, so that there are few different
/// statements, which the connection has prepared.
fn ids(column: &'static str, ids: impl IntoIterator<Item = TaskId>) -> SimpleExpr {
    let mut ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    if let Some(last) = ids.last().cloned() {
        ids.resize(ids.len().next_power_of_two(), last);
    }
    Expr::col(column).is_in(ids)
}

async fn select(db: &impl ConnectionTrait, find: &SelectStatement) -> Result<Vec<Record>> {
    let found = db.query_all(find).await.map_err(into_error)?;
    found.iter().map(rows::read).collect()
}

/// Reads and locks tasks by id, in the order of ids so that two who want the same wait rather than deadlock.
async fn lock(tx: &Transaction, mut wanted: Vec<TaskId>) -> Result<Vec<Record>> {
    wanted.sort_unstable();
    wanted.dedup();
    let mut locked = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(ROWS_MAX) {
        let mut find = find();
        find.and_where(ids("id", wanted.iter().copied()))
            .order_by("id", Order::Asc)
            .lock(LockType::Update);
        locked.extend(select(tx, &find).await?);
    }
    Ok(locked)
}

/// The whole transaction is run again.
fn conflict() -> Error {
    Error::aborted("SQL_CONFLICT", "another change came first, try again")
}
