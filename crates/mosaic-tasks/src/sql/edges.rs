//! Who comes after whom, as rows.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait;
use mosaic_sql::sea_orm::sea_query::{Order, Query};
use mosaic_sql::{Transaction, into_error};

use super::change::{self, Change};
use super::rows::Fields;
use super::schema::{EDGES, TABLE};
use super::{ROWS_MAX, ids, lock};
use crate::engine::Earlier;
use crate::id::TaskId;
use crate::model::{self, Edge, Event, Next};
use crate::new_task::NewTask;

/// Stores edges of `tasks` that were just inserted as if none of those before them had succeeded.
pub(super) async fn add(tx: &Transaction, tasks: &[NewTask], edges: Vec<Edge>, now: Timestamp) -> Result<()> {
    // Of two before it that turned out to be one, the second is not waited for.
    let mut n_succeeded: BTreeMap<TaskId, u32> = n_merged(tasks, &edges);
    let mut earlier = BTreeSet::new();
    for chunk in edges.chunks(ROWS_MAX) {
        let mut insert = Query::insert();
        insert.into_table(EDGES).columns(["later", "earlier", "result"]);
        for edge in chunk {
            earlier.insert(edge.earlier);
            *n_succeeded.entry(edge.later).or_default() += u32::from(edge.result.is_some());
            insert.values_panic([
                edge.later.to_string().into(),
                edge.earlier.to_string().into(),
                edge.result.clone().into(),
            ]);
        }
        tx.execute(&insert).await.map_err(into_error)?;
    }
    let earlier: Vec<TaskId> = earlier.into_iter().collect();
    for earlier in earlier.chunks(ROWS_MAX) {
        let mut mark = Query::update();
        mark.table(TABLE)
            .value("is_awaited", 1_i64)
            .and_where(ids("id", earlier.iter().copied()));
        tx.execute(&mark).await.map_err(into_error)?;
    }
    n_succeeded.retain(|_, n| *n > 0);
    let mut changes = Vec::new();
    for before in lock(tx, n_succeeded.keys().copied().collect()).await? {
        let mut task = before.clone();
        for _ in 0..n_succeeded.get(&before.id).copied().unwrap_or_default() {
            if let Next::Kept(next) = model::apply(&task, &Event::PredecessorSucceeded, now)? {
                task = *next;
            }
        }
        changes.push(Change {
            before,
            event: Event::PredecessorSucceeded,
            next: Next::Kept(Box::new(task)),
            result: Vec::new(),
        });
    }
    change::write(tx, &changes).await
}

/// Returns of each of `tasks` that has edges how many fewer they are than tasks that it was to come after.
fn n_merged(tasks: &[NewTask], edges: &[Edge]) -> BTreeMap<TaskId, u32> {
    let mut n_edges: BTreeMap<TaskId, usize> = BTreeMap::new();
    for edge in edges {
        *n_edges.entry(edge.later).or_default() += 1;
    }
    let merged = |task: &NewTask| {
        let n_edges = n_edges.get(&task.id())?;
        let n_merged = task.predecessors().len().saturating_sub(*n_edges);
        Some((task.id(), u32::try_from(n_merged).unwrap_or(u32::MAX)))
    };
    tasks.iter().filter_map(merged).collect()
}

/// Returns what came before each of `later`, by id.
pub(super) async fn earlier(db: &impl ConnectionTrait, later: &[TaskId]) -> Result<BTreeMap<TaskId, Vec<Earlier>>> {
    let mut found: BTreeMap<TaskId, Vec<Earlier>> = BTreeMap::new();
    for later in later.chunks(ROWS_MAX) {
        let mut find = Query::select();
        find.columns(["later", "earlier", "result"])
            .from(EDGES)
            .and_where(ids("later", later.iter().copied()))
            .order_by("earlier", Order::Asc);
        for row in db.query_all(&find).await.map_err(into_error)? {
            let fields = Fields(&row);
            let earlier = Earlier {
                id: fields.get::<String>("earlier")?.parse()?,
                result: fields.get("result")?,
            };
            found
                .entry(fields.get::<String>("later")?.parse()?)
                .or_default()
                .push(earlier);
        }
    }
    Ok(found)
}
