//! Carries out what the rules decided: many rows in few statements, and what a step means to others.

use std::collections::BTreeMap;

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, Query, SimpleExpr, Value};
use mosaic_sql::{Transaction, into_error, micros};

use super::rows::{self, Fields, MUTABLE};
use super::schema::{EDGES, KEYS, TABLE};
use super::{ROWS_MAX, ids, lock};
use crate::id::TaskId;
use crate::model::{self, Event, Next, Record};

/// Rows in a statement that gives each of them values of its own.
const CASES_MAX: usize = 100;

/// What becomes of a task.
pub(super) struct Change {
    pub(super) before: Record,
    pub(super) event: Event,
    pub(super) next: Next,
    /// What it leaves.
    pub(super) result: Vec<u8>,
}

impl Change {
    /// Asks the rules what `event` makes of `before`.
    pub(super) fn of(before: Record, event: Event, now: Timestamp) -> Result<Self, model::Refused> {
        Ok(Self {
            next: model::apply(&before, &event, now)?,
            before,
            event,
            result: Vec::new(),
        })
    }
}

/// Attempts and failures by queue.
pub(super) type Tally = BTreeMap<String, (u64, u64)>;

/// Stores changes and what they mean to others; returns what is to be counted.
pub(super) async fn carry_out(tx: &Transaction, changes: &[Change], now: Timestamp) -> Result<Tally> {
    write(tx, changes).await?;
    let mut tally = Tally::new();
    let mut freed = Vec::new();
    let mut ended = Vec::new();
    for change in changes {
        let effects = model::effects(&change.before, &change.event, &change.next);
        if effects.n_processed > 0 {
            let counts = tally.entry(change.before.queue.to_string()).or_default();
            counts.0 += u64::from(effects.n_processed);
            counts.1 += u64::from(effects.n_failed);
        }
        freed.extend(effects.freed.map(|key| rows::limit_key(&key)));
        if let Some(event) = effects.successors {
            ended.push((change, event));
        }
    }
    free(tx, &freed, now).await?;
    tell(tx, &ended, now).await?;
    Ok(tally)
}

/// Stores rows alone.
pub(super) async fn write(tx: &Transaction, changes: &[Change]) -> Result<()> {
    // By which columns change: these have one statement.
    let mut kept: BTreeMap<Vec<usize>, Vec<(TaskId, Vec<Value>)>> = BTreeMap::new();
    let mut gone = Vec::new();
    let mut without_edges = Vec::new();
    for change in changes {
        let Next::Kept(next) = &change.next else {
            gone.push(change.before.id);
            without_edges.extend((change.before.n_predecessors > 0).then_some(change.before.id));
            continue;
        };
        let (before, after) = (rows::mutable(&change.before), rows::mutable(next));
        let mut columns: Vec<usize> = (0..MUTABLE.len())
            .filter(|column| before[*column] != after[*column])
            .collect();
        let mut values: Vec<Value> = columns.iter().map(|column| after[*column].clone()).collect();
        if !change.result.is_empty() {
            columns.push(MUTABLE.len());
            values.push(change.result.clone().into());
        }
        if !columns.is_empty() {
            kept.entry(columns).or_default().push((change.before.id, values));
        }
    }
    for (columns, rows) in kept {
        update(tx, &columns, &rows).await?;
    }
    delete(tx, TABLE, "id", &gone).await?;
    delete(tx, EDGES, "later", &without_edges).await
}

async fn update(tx: &Transaction, columns: &[usize], rows: &[(TaskId, Vec<Value>)]) -> Result<()> {
    let is_same = |position: usize| rows.iter().all(|(_, values)| values[position] == rows[0].1[position]);
    let is_same: Vec<bool> = (0..columns.len()).map(is_same).collect();
    let rows_max = if is_same.iter().all(|same| *same) {
        ROWS_MAX
    } else {
        CASES_MAX
    };
    for rows in rows.chunks(rows_max) {
        let mut update = Query::update();
        update.table(TABLE).and_where(ids("id", rows.iter().map(|(id, _)| *id)));
        for (position, column) in columns.iter().enumerate() {
            let name = MUTABLE.get(*column).copied().unwrap_or("result");
            let value: SimpleExpr = if is_same[position] {
                rows[0].1[position].clone().into()
            } else {
                by_id(rows, position).into()
            };
            update.value(name, value);
        }
        tx.execute(&update).await.map_err(into_error)?;
    }
    Ok(())
}

fn by_id(rows: &[(TaskId, Vec<Value>)], position: usize) -> CaseStatement {
    rows.iter().fold(CaseStatement::new(), |case, (id, values)| {
        case.case(Expr::col("id").eq(id.to_string()), values[position].clone())
    })
}

async fn delete(tx: &Transaction, table: &'static str, column: &'static str, gone: &[TaskId]) -> Result<()> {
    for gone in gone.chunks(ROWS_MAX) {
        let mut delete = Query::delete();
        delete.from_table(table).and_where(ids(column, gone.iter().copied()));
        tx.execute(&delete).await.map_err(into_error)?;
    }
    Ok(())
}

/// Lets somebody look at once whether others wait for `keys`.
async fn free(tx: &Transaction, keys: &[String], now: Timestamp) -> Result<()> {
    for keys in keys.chunks(ROWS_MAX) {
        let mut wake = Query::update();
        wake.table(KEYS)
            .value("wake_at", micros(now))
            .and_where(Expr::col("name").is_in(keys.iter().map(String::as_str)))
            .and_where(Expr::col("wake_at").gt(micros(now)));
        tx.execute(&wake).await.map_err(into_error)?;
    }
    Ok(())
}

/// Tells those that come after tasks what became of them.
async fn tell(tx: &Transaction, ended: &[(&Change, Event)], now: Timestamp) -> Result<()> {
    let mut news: BTreeMap<TaskId, Vec<&Event>> = BTreeMap::new();
    for ended in ended.chunks(ROWS_MAX) {
        let mut find = Query::select();
        find.columns(["earlier", "later"])
            .from(EDGES)
            .and_where(ids("earlier", ended.iter().map(|(change, _)| change.before.id)))
            .and_where(Expr::col("result").is_null());
        for row in tx.query_all(&find).await.map_err(into_error)? {
            let fields = Fields(&row);
            let (earlier, later) = (
                fields.get::<String>("earlier")?.parse()?,
                fields.get::<String>("later")?.parse()?,
            );
            let event = ended.iter().find(|(change, _)| change.before.id == earlier);
            news.entry(later).or_default().extend(event.map(|(_, event)| event));
        }
        for (change, _) in ended.iter().filter(|(_, event)| *event == Event::PredecessorSucceeded) {
            let mut keep = Query::update();
            keep.table(EDGES)
                .value("result", change.result.clone())
                .and_where(Expr::col("earlier").eq(change.before.id.to_string()))
                .and_where(Expr::col("result").is_null());
            tx.execute(&keep).await.map_err(into_error)?;
        }
    }
    let later = lock(tx, news.keys().copied().collect()).await?;
    let changes = later
        .into_iter()
        .filter_map(|task| heard(news.get(&task.id)?, task, now));
    write(tx, &changes.collect::<Vec<_>>()).await
}

/// Returns what a task becomes that heard of those before it; one that was archived meanwhile does not listen.
fn heard(news: &[&Event], before: Record, now: Timestamp) -> Option<Change> {
    let mut task = before.clone();
    let mut last = None;
    for event in news {
        if let Ok(Next::Kept(next)) = model::apply(&task, event, now) {
            (task, last) = (*next, Some((*event).clone()));
        }
    }
    Some(Change {
        before,
        event: last?,
        next: Next::Kept(Box::new(task)),
        result: Vec::new(),
    })
}
