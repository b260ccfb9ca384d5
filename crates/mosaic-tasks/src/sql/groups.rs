//! Groups, as rows: one for each that gathers, which is locked by whoever adds to it or merges it.

use std::collections::BTreeMap;

use mosaic_core::{Result, Runtime, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, LockType, OnConflict, Order, Query};
use mosaic_sql::{Transaction, into_error, micros, timestamp};

use super::change::{self, Change};
use super::rows::{self, Fields};
use super::schema::GROUPS;
use super::{conflict, find, skip_locked};
use crate::id::TaskId;
use crate::model::{self, Event, Gathering, Record, Wait};
use crate::new_task::NewTask;
use crate::options::Group;

/// Most tasks of one group that are merged in one transaction, and those with the largest payloads fit in memory.
const MEMBERS_MAX: u64 = 1000;

/// Takes note of tasks that came to gather.
pub(super) async fn gather(tx: &Transaction, tasks: &[NewTask], now: Timestamp) -> Result<()> {
    // In the order of names, so that two who add to the same groups wait for each other rather than deadlock.
    let mut coming: BTreeMap<String, Vec<&Group>> = BTreeMap::new();
    for task in tasks {
        if let Some(group) = &task.options().group {
            let name = rows::group_key(&task.options().queue, task.kind(), &group.key);
            coming.entry(name).or_default().push(group);
        }
    }
    for (name, groups) in coming {
        let mut known = lock(tx, &name, now).await?;
        for group in groups {
            known = model::gathered(Some(known).filter(|known| known.n > 0), group, now);
        }
        keep(tx, &name, known).await?;
    }
    Ok(())
}

/// Locks the row of a group, which is made if it is not there.
async fn lock(tx: &Transaction, name: &str, now: Timestamp) -> Result<Gathering> {
    let mut make = Query::insert();
    make.into_table(GROUPS)
        .columns(["name", "n", "first_at", "flush_at"])
        .values_panic([name.into(), 0_i64.into(), micros(now).into(), i64::MAX.into()])
        .on_conflict(OnConflict::new().do_nothing_on(["name"]).to_owned());
    tx.execute(&make).await.map_err(into_error)?;
    let mut find = Query::select();
    find.columns(["n", "first_at", "flush_at"])
        .from(GROUPS)
        .and_where(Expr::col("name").eq(name))
        .lock(LockType::Update);
    // It was merged in between, and is not there any more.
    let row = tx.query_one(&find).await.map_err(into_error)?.ok_or_else(conflict)?;
    let fields = Fields(&row);
    Ok(Gathering {
        n: fields.count("n")?,
        first_at: timestamp(fields.get("first_at")?),
        flush_at: timestamp(fields.get("flush_at")?),
    })
}

async fn keep(tx: &Transaction, name: &str, group: Gathering) -> Result<()> {
    let mut update = Query::update();
    update
        .table(GROUPS)
        .value("n", i64::from(group.n))
        .value("first_at", micros(group.first_at))
        .value("flush_at", micros(group.flush_at))
        .and_where(Expr::col("name").eq(name));
    tx.execute(&update).await.map_err(into_error)?;
    Ok(())
}

/// Makes tasks of at most `limit` groups that have gathered; returns how many tasks.
pub(super) async fn merge(tx: &Transaction, limit: usize, now: Timestamp, runtime: &Runtime) -> Result<usize> {
    let mut due = Query::select();
    due.column("name")
        .from(GROUPS)
        .and_where(Expr::col("flush_at").lte(micros(now)))
        .order_by("flush_at", Order::Asc)
        .limit(limit as u64);
    let mut n_merged = 0;
    for row in tx.query_all(&skip_locked(&mut due)).await.map_err(into_error)? {
        let name: String = Fields(&row).get("name")?;
        let members = members(tx, &name).await?;
        let mut rest = members.as_slice();
        while let Some(group) = rest.first().and_then(|(task, _)| task.group.as_ref()) {
            let n = model::n_to_merge(rest.iter().map(|(_, payload)| payload.len()), group.max_size);
            merge_some(tx, &rest[..n], now, runtime).await?;
            rest = &rest[n..];
            n_merged += 1;
        }
        // There may be more: then the row stays, and is due.
        if (members.len() as u64) < MEMBERS_MAX {
            let mut forget = Query::delete();
            forget.from_table(GROUPS).and_where(Expr::col("name").eq(name));
            tx.execute(&forget).await.map_err(into_error)?;
        }
    }
    Ok(n_merged)
}

async fn members(tx: &Transaction, name: &str) -> Result<Vec<(Record, Vec<u8>)>> {
    let mut find = find();
    find.column("payload")
        .and_where(Expr::col("wait_key").eq(name))
        .and_where(Expr::col("waits_for").eq(rows::wait_number(Wait::Group)))
        .order_by("id", Order::Asc)
        .limit(MEMBERS_MAX)
        .lock(LockType::Update);
    let rows = tx.query_all(&find).await.map_err(into_error)?;
    rows.iter()
        .map(|row| Ok((rows::read(row)?, Fields(row).get("payload")?)))
        .collect()
}

async fn merge_some(tx: &Transaction, members: &[(Record, Vec<u8>)], now: Timestamp, runtime: &Runtime) -> Result<()> {
    let tasks: Vec<Record> = members.iter().map(|(task, _)| task.clone()).collect();
    let Some(task) = model::merged(TaskId::new(runtime), &tasks, now) else {
        return Ok(());
    };
    let gone: std::result::Result<Vec<Change>, _> = tasks
        .into_iter()
        .map(|member| Change::of(member, Event::Merge, now))
        .collect();
    change::write(tx, &gone?).await?;
    let mut insert = rows::insert();
    let payload = model::frame(members.iter().map(|(_, payload)| payload.as_slice()));
    insert.values_panic(rows::values(&task, &payload));
    tx.execute(&insert).await.map_err(into_error)?;
    Ok(())
}
