//! What people ask: pages, counts, single tasks.

use std::collections::BTreeMap;

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Func, OnConflict, Order, Query, SelectStatement};
use mosaic_sql::{into_error, timestamp};

use super::days::day;
use super::rows::{self, Fields};
use super::schema::{DAYS, QUEUES, TABLE};
use super::{edges, find, ids, in_state};
use crate::engine::{Flow, Page, QueueStatus, Seen};
use crate::id::{QueueName, TaskId};
use crate::model::State;

/// Begins the query of a page.
pub(super) fn page(page: &Page) -> SelectStatement {
    let mut find = find();
    find.and_where(in_state(&[page.state]))
        .and_where(Expr::col("queue").eq(page.queue.as_str()))
        .order_by("id", Order::Asc)
        .limit(page.limit as u64);
    if let Some(after) = page.after {
        find.and_where(Expr::col("id").gt(after.to_string()));
    }
    find
}

pub(super) async fn counts(db: &impl ConnectionTrait, queue: &QueueName) -> Result<Vec<(State, u64)>> {
    let mut count = Query::select();
    count
        .columns(["queue", "state"])
        .expr_as(Func::count(Expr::col("id")), "n")
        .from(TABLE)
        .and_where(Expr::col("queue").eq(queue.as_str()))
        .group_by_columns(["queue", "state"]);
    Ok(all_counts(db, &count).await?.remove(queue.as_str()).unwrap_or_default())
}

/// Counts by queue.
async fn all_counts(db: &impl ConnectionTrait, count: &SelectStatement) -> Result<BTreeMap<String, Vec<(State, u64)>>> {
    let mut counts: BTreeMap<String, Vec<(State, u64)>> = BTreeMap::new();
    for row in db.query_all(count).await.map_err(into_error)? {
        let fields = Fields(&row);
        let n: i64 = fields.get("n")?;
        let of_queue = counts.entry(fields.get("queue")?).or_default();
        of_queue.push((rows::state(fields.get("state")?)?, n.unsigned_abs()));
        of_queue.sort_unstable();
    }
    Ok(counts)
}

/// Counts the ended tasks of each queue.
pub(super) async fn ended(db: &impl ConnectionTrait) -> Result<BTreeMap<String, Vec<(State, u64)>>> {
    let mut count = Query::select();
    count
        .columns(["queue", "state"])
        .expr_as(Func::count(Expr::col("id")), "n")
        .from(TABLE)
        .and_where(in_state(&[State::Completed, State::Archived]))
        .group_by_columns(["queue", "state"]);
    all_counts(db, &count).await
}

pub(super) async fn queues(db: &impl ConnectionTrait, now: Timestamp) -> Result<Vec<QueueStatus>> {
    let mut count = Query::select();
    count
        .columns(["queue", "state"])
        .expr_as(Func::count(Expr::col("id")), "n")
        .from(TABLE)
        .group_by_columns(["queue", "state"]);
    let mut counts = all_counts(db, &count).await?;
    let mut days = days(db, now).await?;
    let oldest = oldest(db).await?;
    let mut flows = flows(db).await?;
    flows.retain(|_, flow| *flow == Flow::Paused);
    let names = counts.keys().chain(days.keys()).chain(flows.keys());
    let names: std::collections::BTreeSet<String> = names.cloned().collect();
    let status = |name: String| {
        let (n_processed_today, n_failed_today) = days.remove(&name).unwrap_or_default();
        Ok(QueueStatus {
            queue: name.parse()?,
            flow: flows.get(&name).copied().unwrap_or(Flow::Running),
            counts: counts.remove(&name).unwrap_or_default(),
            latency: oldest
                .get(&name)
                .map_or_else(Default::default, |due_at| now.since(*due_at)),
            n_processed_today,
            n_failed_today,
        })
    };
    names.into_iter().map(status).collect()
}

/// Returns what was counted today, for every queue that was ever counted.
async fn days(db: &impl ConnectionTrait, now: Timestamp) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut find = Query::select();
    find.columns(["queue", "day", "n_processed", "n_failed"]).from(DAYS);
    let mut days: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for row in db.query_all(&find).await.map_err(into_error)? {
        let fields = Fields(&row);
        let counts = days.entry(fields.get("queue")?).or_default();
        if fields.get::<i64>("day")? == day(now) {
            counts.0 += fields.get::<i64>("n_processed")?.unsigned_abs();
            counts.1 += fields.get::<i64>("n_failed")?.unsigned_abs();
        }
    }
    Ok(days)
}

/// Returns since when the oldest pending task of each queue could run.
async fn oldest(db: &impl ConnectionTrait) -> Result<BTreeMap<String, Timestamp>> {
    let mut find = Query::select();
    find.column("queue")
        .expr_as(Func::min(Expr::col("due_at")), "oldest")
        .from(TABLE)
        .and_where(in_state(&[State::Pending]))
        .group_by_col("queue");
    let rows = db.query_all(&find).await.map_err(into_error)?;
    let oldest = rows.iter().map(Fields);
    oldest
        .map(|fields| Ok((fields.get("queue")?, timestamp(fields.get("oldest")?))))
        .collect()
}

async fn flows(db: &impl ConnectionTrait) -> Result<BTreeMap<String, Flow>> {
    let mut find = Query::select();
    find.columns(["name", "is_paused"]).from(QUEUES);
    let rows = db.query_all(&find).await.map_err(into_error)?;
    let flow = |is_paused: i64| if is_paused == 0 { Flow::Running } else { Flow::Paused };
    let flows = rows.iter().map(Fields);
    flows
        .map(|fields| Ok((fields.get("name")?, flow(fields.get("is_paused")?))))
        .collect()
}

pub(super) async fn set_flow(db: &impl ConnectionTrait, queue: &QueueName, flow: Flow) -> Result<()> {
    let mut set = Query::insert();
    set.into_table(QUEUES)
        .columns(["name", "is_paused"])
        .values_panic([queue.as_str().into(), i64::from(flow == Flow::Paused).into()])
        .on_conflict(OnConflict::column("name").update_column("is_paused").to_owned());
    db.execute(&set).await.map_err(into_error)?;
    Ok(())
}

pub(super) async fn look(db: &impl ConnectionTrait, id: TaskId) -> Result<Option<Seen>> {
    let mut find = find();
    find.columns(["payload", "result"]).and_where(ids("id", [id]));
    let Some(row) = db.query_one(&find).await.map_err(into_error)? else {
        return Ok(None);
    };
    let fields = Fields(&row);
    Ok(Some(Seen {
        task: rows::read(&row)?,
        payload: fields.get("payload")?,
        result: fields.get("result")?,
        earlier: edges::earlier(db, &[id]).await?.remove(&id).unwrap_or_default(),
    }))
}
