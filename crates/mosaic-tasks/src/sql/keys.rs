//! Keys that limit tasks, as rows: whoever claims tasks of a key, or lets some go, locks it.
//!
//! How many are active is counted each time; the lock makes the count hold until the commit.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Func, LockType, OnConflict, Order, Query};
use mosaic_sql::{Transaction, into_error, micros, timestamp};

use super::change::{self, Change};
use super::rows::{self, Fields};
use super::schema::{KEYS, TABLE};
use super::{conflict, find, in_state, select, skip_locked};
use crate::model::{self, Event, Record, State, Turn, Wait};

/// Most tasks of one key that go on in one step.
const RELEASED_MAX: u64 = 200;

struct Key {
    time: Timestamp,
    wake_at: Option<Timestamp>,
    n_active: u32,
}

/// The turns of tasks that are about to be claimed.
pub(super) struct Turns(BTreeMap<String, Key>);

impl Turns {
    /// Locks the keys of `tasks`.
    pub(super) async fn of(tx: &Transaction, tasks: impl Iterator<Item = &Record>) -> Result<Self> {
        let names: BTreeSet<String> = tasks
            .filter_map(|task| task.limit.as_ref())
            .map(|limit| rows::limit_key(&limit.key))
            .collect();
        if names.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let mut make = Query::insert();
        make.into_table(KEYS).columns(["name", "time_at", "wake_at"]);
        for name in &names {
            make.values_panic([name.as_str().into(), 0_i64.into(), None::<i64>.into()]);
        }
        make.on_conflict(OnConflict::new().do_nothing_on(["name"]).to_owned());
        tx.execute(&make).await.map_err(into_error)?;
        let keys = lock(tx, &names).await?;
        // One was forgotten in between.
        if keys.len() < names.len() {
            Err(conflict())
        } else {
            Ok(Self(keys))
        }
    }

    /// May `task` start? Then its turn is taken.
    pub(super) fn take(&mut self, task: &Record, now: Timestamp) -> bool {
        let Some(limit) = &task.limit else { return true };
        let Some(key) = self.0.get_mut(&rows::limit_key(&limit.key)) else {
            return false;
        };
        match model::admit(limit, key.n_active, key.time, now) {
            Turn::Now(time) => {
                key.time = time;
                key.n_active += 1;
                true
            }
            Turn::Later(at) => {
                key.wake_at = Some(key.wake_at.map_or(at, |known| known.min(at)));
                false
            }
        }
    }

    /// Stores what was taken.
    pub(super) async fn keep(&self, tx: &Transaction) -> Result<()> {
        for (name, key) in &self.0 {
            keep(tx, name, key).await?;
        }
        Ok(())
    }
}

/// Locks keys, in the order of names, and counts who is active.
async fn lock(tx: &Transaction, names: &BTreeSet<String>) -> Result<BTreeMap<String, Key>> {
    let names = || names.iter().map(String::as_str);
    let mut find = Query::select();
    find.columns(["name", "time_at", "wake_at"])
        .from(KEYS)
        .and_where(Expr::col("name").is_in(names()))
        .order_by("name", Order::Asc)
        .lock(LockType::Update);
    let mut keys = BTreeMap::new();
    for row in tx.query_all(&find).await.map_err(into_error)? {
        let fields = Fields(&row);
        let key = Key {
            time: timestamp(fields.get("time_at")?),
            wake_at: fields.get::<Option<i64>>("wake_at")?.map(timestamp),
            n_active: 0,
        };
        keys.insert(fields.get::<String>("name")?, key);
    }
    let mut count = Query::select();
    count
        .column("wait_key")
        .expr_as(Func::count(Expr::col("id")), "n")
        .from(TABLE)
        .and_where(Expr::col("wait_key").is_in(names()))
        .and_where(in_state(&[State::Active]))
        .group_by_col("wait_key");
    for row in tx.query_all(&count).await.map_err(into_error)? {
        let fields = Fields(&row);
        if let Some(key) = keys.get_mut(&fields.get::<String>("wait_key")?) {
            key.n_active = fields.count("n")?;
        }
    }
    Ok(keys)
}

async fn keep(tx: &Transaction, name: &str, key: &Key) -> Result<()> {
    let mut update = Query::update();
    update
        .table(KEYS)
        .value("time_at", micros(key.time))
        .value("wake_at", key.wake_at.map(micros))
        .and_where(Expr::col("name").eq(name));
    tx.execute(&update).await.map_err(into_error)?;
    Ok(())
}

/// Lets tasks go that wait for one of at most `limit` keys; returns how many.
pub(super) async fn release(tx: &Transaction, limit: usize, now: Timestamp) -> Result<usize> {
    let mut due = Query::select();
    due.column("name")
        .from(KEYS)
        .and_where(Expr::col("wake_at").lte(micros(now)))
        .order_by("wake_at", Order::Asc)
        .limit(limit as u64);
    let mut names = BTreeSet::new();
    for row in tx.query_all(&skip_locked(&mut due)).await.map_err(into_error)? {
        names.insert(Fields(&row).get::<String>("name")?);
    }
    let mut n_released = 0;
    if names.is_empty() {
        return Ok(n_released);
    }
    for (name, mut key) in lock(tx, &names).await? {
        let waiting = waiting(tx, &name).await?;
        let first = waiting.first().and_then(|task| task.limit.as_ref());
        let released = first.map(|limit| model::release(limit, key.n_active, waiting.len(), key.time, now));
        let n = released.map_or(0, |released| released.n);
        let is_more = n < waiting.len() || waiting.len() as u64 == RELEASED_MAX;
        key.wake_at = released.filter(|_| is_more).map(|released| released.again_at);
        keep(tx, &name, &key).await?;
        let changes: std::result::Result<Vec<Change>, _> = waiting
            .into_iter()
            .take(n)
            .map(|task| Change::of(task, Event::Turn, now))
            .collect();
        change::write(tx, &changes?).await?;
        n_released += n;
    }
    Ok(n_released)
}

async fn waiting(tx: &Transaction, name: &str) -> Result<Vec<Record>> {
    let mut find = find();
    find.and_where(Expr::col("wait_key").eq(name))
        .and_where(Expr::col("waits_for").eq(rows::wait_number(Wait::Turn)))
        .order_by("priority", Order::Desc)
        .order_by("due_at", Order::Asc)
        .order_by("id", Order::Asc)
        .limit(RELEASED_MAX)
        // Waits for who holds one: left out, it would be forgotten.
        .lock(LockType::Update);
    select(tx, &find).await
}

/// Forgets keys that nobody waits for and whose time is over.
pub(super) async fn forget(tx: &Transaction, now: Timestamp) -> Result<()> {
    let mut forget = Query::delete();
    forget
        .from_table(KEYS)
        .and_where(Expr::col("wake_at").is_null())
        .and_where(Expr::col("time_at").lt(micros(now)));
    tx.execute(&forget).await.map_err(into_error)?;
    Ok(())
}
