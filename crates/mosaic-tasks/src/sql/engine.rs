//! The port, over the tables.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{
    Expr, ExprTrait as _, Func, LockType, Order, Query, SelectStatement, SimpleExpr, SubQueryStatement,
};
use mosaic_sql::{Transaction, into_error, timestamp};

use super::change::{self, Change, Tally};
use super::rows::Fields;
use super::schema::{GROUPS, KEYS, TABLE};
use super::{
    ROWS_MAX, SqlEngine, add, claim, days, find, groups, ids, in_state, inspect, keys, listen, lock, schedules, select,
    skip_locked,
};
use crate::engine::{
    Claim, Claimed, Command, Commanded, ENDED_MAX, Engine, Enqueued, Flow, Hold, Lease, Page, Promoted, QueueStatus,
    Report, Schedule, Schedules, Seen, Step, no_such_task,
};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Event, Record, State};
use crate::new_task::{NewTask, check_batch, check_payload};

impl SqlEngine {
    /// Returns when there is something to promote: tasks that are due; groups and keys. Asked in one statement.
    async fn next_promotions(&self) -> Result<[Option<Timestamp>; 2]> {
        let in_time = in_state(&[State::Scheduled, State::Retry]);
        let first = |table: &'static str, column: &'static str| {
            let mut first = Query::select();
            first.expr(Func::min(Expr::col(column))).from(table);
            first
        };
        let subquery = |select| SimpleExpr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(select)));
        let mut all = Query::select();
        all.expr_as(subquery(first(TABLE, "due_at").and_where(in_time).take()), "due")
            .expr_as(subquery(first(GROUPS, "flush_at")), "flush")
            .expr_as(subquery(first(KEYS, "wake_at")), "wake");
        let Some(row) = self.database.query_one(&all).await.map_err(into_error)? else {
            return Ok([None, None]);
        };
        let first = |name| Ok::<_, Error>(Fields(&row).get::<Option<i64>>(name)?.map(timestamp));
        let shared = first("flush")?.into_iter().chain(first("wake")?).min();
        Ok([first("due")?, shared])
    }

    /// Deletes at most `limit` of those beyond what is kept, first those that would have gone first: the index has that order.
    async fn evict(&self, limit: usize) -> Result<usize> {
        let mut n_evicted = 0;
        for (queue, counts) in inspect::ended(&self.database).await? {
            for (state, n) in counts {
                let n_over = usize::try_from(n.saturating_sub(ENDED_MAX)).unwrap_or(usize::MAX);
                let wanted = |n_rows: u64| {
                    let mut find = find();
                    find.and_where(in_state(&[State::Completed, State::Archived]))
                        .and_where(in_state(&[state]))
                        .and_where(Expr::col("queue").eq(queue.as_str()))
                        .order_by("keep_until", Order::Asc)
                        .order_by("id", Order::Asc)
                        .limit(n_rows);
                    skip_locked(&mut find)
                };
                let n_over = n_over.min(limit - n_evicted);
                n_evicted += self
                    .sweep_all(n_over, |_, n_rows| wanted(n_rows), |_| Event::Evict)
                    .await?;
            }
        }
        Ok(n_evicted)
    }

    /// Sweeps at most `limit`, in transactions so short that others get their turn in between.
    async fn sweep_all(
        &self,
        limit: usize,
        wanted: impl Fn(i64, u64) -> SelectStatement + Sync,
        event: fn(u32) -> Event,
    ) -> Result<usize> {
        let mut n_swept = 0;
        while n_swept < limit {
            let n_rows = (limit - n_swept).min(ROWS_MAX);
            let n = self.sweep(&|now| wanted(now, n_rows as u64), event).await?;
            n_swept += n;
            if n < n_rows {
                break;
            }
        }
        Ok(n_swept)
    }

    fn take_uncounted(&self) -> Tally {
        std::mem::take(&mut *self.uncounted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds `more` to `tally`.
fn add_up(tally: &mut Tally, more: &Tally) {
    for (queue, (n_processed, n_failed)) in more {
        let counts = tally.entry(queue.clone()).or_default();
        *counts = (counts.0 + n_processed, counts.1 + n_failed);
    }
}

#[async_trait]
impl Engine for SqlEngine {
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        let added = self.database.transaction(async |tx| self.enqueue_in(&tx, tasks).await);
        added.await
    }

    async fn enqueue_in(&self, tx: &Transaction, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        check_batch(tasks)?;
        let now = self.time.now(tx).await?;
        let added = add::add(tx, tasks, now).await?;
        listen::notify(tx).await?;
        Ok(added)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        if self.is_idle.load(Ordering::Relaxed) && !claim::is_any(&self.database, claim).await? {
            return Ok(Vec::new());
        }
        let claimed = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            claim::claim(&tx, claim, now).await
        });
        let claimed = claimed.await?;
        self.is_idle.store(claimed.is_empty(), Ordering::Relaxed);
        Ok(claimed)
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        let extended = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let tasks = lock(&tx, leases.iter().map(|lease| lease.id).collect()).await?;
            let held = |lease: &Lease| -> Option<&Record> {
                let position = tasks.binary_search_by_key(&lease.id, |task| task.id).ok()?;
                tasks.get(position).filter(|task| model::holds(task, lease.fence))
            };
            let mut changes = Vec::new();
            for task in leases.iter().filter_map(held) {
                changes.push(Change::of(task.clone(), Event::Extend { lease }, now)?);
            }
            change::write(&tx, &changes).await?;
            let hold = |lease| match held(lease) {
                None => Hold::Lost,
                Some(task) if task.is_cancelled => Hold::Cancelled,
                Some(_) => Hold::Kept,
            };
            Ok(leases.iter().map(hold).collect())
        });
        extended.await
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let uncounted = self.take_uncounted();
        let finished = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let (taken, mut tally) = self.finish_reports(&tx, reports, now).await?;
            add_up(&mut tally, &uncounted);
            days::count(&tx, &tally, now, self.time.runtime()).await?;
            Ok(taken)
        });
        let finished = finished.await;
        if finished.is_err() {
            add_up(
                &mut self.uncounted.lock().unwrap_or_else(PoisonError::into_inner),
                &uncounted,
            );
        }
        finished
    }

    async fn finish_in(&self, tx: &Transaction, reports: &[Report]) -> Result<Vec<bool>> {
        let now = self.time.now(tx).await?;
        let (taken, tally) = self.finish_reports(tx, reports, now).await?;
        // Counting here would hold a row that others count in until the end of a transaction that is not ours.
        let uncounted = self.uncounted.clone();
        tx.on_commit(move || add_up(&mut uncounted.lock().unwrap_or_else(PoisonError::into_inner), &tally));
        Ok(taken)
    }

    async fn promote(&self, limit: usize) -> Result<Promoted> {
        let wanted = |now: i64| {
            let mut find = find();
            find.and_where(in_state(&[State::Scheduled, State::Retry]))
                .and_where(Expr::col("due_at").lte(now))
                .order_by("due_at", Order::Asc)
                .limit(limit as u64);
            skip_locked(&mut find)
        };
        let now = self.time.now(&self.database).await?;
        let mut next = self.next_promotions().await?;
        let is_due = next.map(|next| next.is_some_and(|next| next <= now));
        let mut n_due = 0;
        if is_due[0] {
            n_due += self.sweep(&wanted, |_| Event::Due).await?;
        }
        if is_due[1] {
            let others = self.database.transaction(async |tx| {
                let now = self.time.now(&tx).await?;
                let n_merged = groups::merge(&tx, limit, now, self.time.runtime()).await?;
                Ok(n_merged + keys::release(&tx, limit, now).await?)
            });
            n_due += others.await?;
        }
        if is_due != [false; 2] {
            next = self.next_promotions().await?;
        }
        Ok(Promoted {
            n_due,
            next_in: next.into_iter().flatten().min().map(|next| next.since(now)),
        })
    }

    async fn expire(&self, limit: usize) -> Result<usize> {
        let wanted = |now: i64| {
            let mut find = find();
            find.and_where(in_state(&[State::Active]))
                .and_where(Expr::col("lease_until").lte(now))
                .limit(limit as u64);
            skip_locked(&mut find)
        };
        self.sweep(&wanted, |roll| Event::Expire { roll }).await
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        let wanted = |now: i64, n_rows: u64| {
            let mut find = find();
            find.and_where(in_state(&[State::Completed, State::Archived]))
                .and_where(Expr::col("keep_until").lte(now))
                .limit(n_rows);
            skip_locked(&mut find)
        };
        let n_over = self.sweep_all(limit, wanted, |_| Event::Purge).await?;
        let forgotten = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            keys::forget(&tx, now).await?;
            days::forget(&tx, now).await
        });
        forgotten.await?;
        Ok(n_over + self.evict(limit - n_over).await?)
    }

    async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        let done = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let task = lock(&tx, vec![id]).await?.pop().ok_or_else(no_such_task)?;
            change::carry_out(&tx, &[Change::of(task, command.event(), now)?], now).await?;
            Ok(())
        });
        done.await
    }

    async fn command_all(&self, page: &Page, command: Command) -> Result<Commanded> {
        let done = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            let tasks = select(&tx, inspect::page(page).lock(LockType::Update)).await?;
            let last = tasks.last().map(|task| task.id);
            let changes = tasks
                .into_iter()
                .flat_map(|task| Change::of(task, command.event(), now));
            let changes: Vec<Change> = changes.collect();
            change::carry_out(&tx, &changes, now).await?;
            Ok(Commanded {
                n_done: changes.len(),
                last,
            })
        });
        done.await
    }

    async fn set_payload(&self, id: TaskId, payload: &[u8]) -> Result<()> {
        check_payload(payload)?;
        let set = self.database.transaction(async |tx| {
            let task = lock(&tx, vec![id]).await?.pop().ok_or_else(no_such_task)?;
            model::may_change(&task)?;
            let mut set = Query::update();
            set.table(TABLE)
                .value("payload", payload.to_vec())
                .and_where(ids("id", [id]));
            tx.execute(&set).await.map_err(into_error)?;
            Ok(())
        });
        set.await
    }

    async fn set_flow(&self, queue: &QueueName, flow: Flow) -> Result<()> {
        inspect::set_flow(&self.database, queue, flow).await
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        let now = self.time.now(&self.database).await?;
        inspect::queues(&self.database, now).await
    }

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        inspect::counts(&self.database, queue).await
    }

    async fn list(&self, page: &Page) -> Result<Vec<Record>> {
        select(&self.database, &inspect::page(page)).await
    }

    async fn look(&self, id: TaskId) -> Result<Option<Seen>> {
        inspect::look(&self.database, id).await
    }

    async fn declare(&self, owner: &str, schedules: &[Schedule]) -> Result<()> {
        let declared = self
            .database
            .transaction(async |tx| schedules::declare(&tx, owner, schedules).await);
        declared.await
    }

    async fn schedules(&self, owner: &str) -> Result<Schedules> {
        Ok(Schedules {
            now: self.time.now(&self.database).await?,
            schedules: schedules::of_owner(&self.database, owner).await?,
        })
    }

    async fn step(&self, step: &Step) -> Result<bool> {
        let taken = self.database.transaction(async |tx| {
            let now = self.time.now(&tx).await?;
            if !schedules::take(&tx, step, now).await? {
                return Ok(false);
            }
            self.enqueue_in(&tx, &step.tasks).await?;
            Ok(true)
        });
        taken.await
    }

    async fn listen(&self, ring: &(dyn Fn() + Send + Sync)) {
        listen::listen(&self.database, ring).await;
    }
}
