//! Claims.

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Condition, Expr, ExprTrait as _, Order, Query};
use mosaic_sql::{Database, Transaction, into_error};

use super::change::{self, Change};
use super::keys::Turns;
use super::rows::{self, Fields};
use super::schema::{QUEUES, TABLE};
use super::{edges, find, in_state, skip_locked};
use crate::engine::{Claim, Claimed};
use crate::id::TaskId;
use crate::model::{Event, Next, Record, State};

/// Gives out what `claim` asks for.
pub(super) async fn claim(tx: &Transaction, claim: &Claim, now: Timestamp) -> Result<Vec<Claimed>> {
    let found = next(tx, claim).await?;
    let mut turns = Turns::of(tx, found.iter().map(|(task, _)| task)).await?;
    let mut changes = Vec::with_capacity(found.len());
    let mut payloads = Vec::with_capacity(found.len());
    for (task, payload) in found {
        let event = if turns.take(&task, now) {
            Event::Claim { lease: claim.lease }
        } else {
            Event::Hold
        };
        changes.push(Change::of(task, event, now)?);
        payloads.push(payload);
    }
    turns.keep(tx).await?;
    change::write(tx, &changes).await?;
    let later = changes
        .iter()
        .map(|change| &change.before)
        .filter(|task| task.n_predecessors > 0);
    let later: Vec<TaskId> = later.map(|task| task.id).collect();
    let mut earlier = edges::earlier(tx, &later).await?;
    let mut claimed = Vec::with_capacity(changes.len());
    for (change, payload) in changes.into_iter().zip(payloads) {
        // The others are past their deadline, or wait for their turn.
        if let Next::Kept(task) = change.next
            && task.state == State::Active
        {
            claimed.push(Claimed {
                earlier: earlier.remove(&task.id).unwrap_or_default(),
                task: *task,
                payload,
            });
        }
    }
    Ok(claimed)
}

/// Is there a task that `claim` could get? Asked without a lock.
pub(super) async fn is_any(database: &Database, claim: &Claim) -> Result<bool> {
    let mut any = Query::select();
    any.expr(Expr::val(1)).from(TABLE).cond_where(claimable(claim)).limit(1);
    Ok(database.query_one(&any).await.map_err(into_error)?.is_some())
}

fn claimable(claim: &Claim) -> Condition {
    let mut paused = Query::select();
    paused
        .expr(Expr::val(1))
        .from(QUEUES)
        .and_where(Expr::col("name").eq(claim.queue.as_str()))
        .and_where(Expr::col("is_paused").eq(1_i64));
    Condition::all()
        .add(in_state(&[State::Pending]))
        .add(Expr::col("queue").eq(claim.queue.as_str()))
        .add(Expr::col("kind").is_in(claim.kinds.iter().map(String::as_str)))
        .add(Expr::exists(paused).not())
}

async fn next(tx: &Transaction, claim: &Claim) -> Result<Vec<(Record, Vec<u8>)>> {
    let mut next = find();
    next.column("payload")
        .cond_where(claimable(claim))
        .order_by("priority", Order::Desc)
        .order_by("due_at", Order::Asc)
        .order_by("id", Order::Asc)
        .limit(claim.limit as u64);
    let rows = tx.query_all(&skip_locked(&mut next)).await.map_err(into_error)?;
    rows.iter()
        .map(|row| Ok((rows::read(row)?, Fields(row).get("payload")?)))
        .collect()
}
