//! Schedules, as rows. A step is a compare-and-set of the next tick together with the enqueue.

use mosaic_core::{Result, Timestamp};
use mosaic_sql::sea_orm::ConnectionTrait;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, LockType, OnConflict, Order, Query};
use mosaic_sql::{Transaction, into_error, micros, timestamp};

use super::rows::Fields;
use super::schema::SCHEDULES;
use crate::engine::{Schedule, Step};

const COLUMNS: [&str; 4] = ["name", "owner", "rule", "next_at"];

pub(super) async fn of_owner(db: &impl ConnectionTrait, owner: &str) -> Result<Vec<Schedule>> {
    let mut find = Query::select();
    find.columns(COLUMNS)
        .from(SCHEDULES)
        .and_where(Expr::col("owner").eq(owner))
        .order_by("name", Order::Asc);
    let rows = db.query_all(&find).await.map_err(into_error)?;
    let schedules = rows.iter().map(Fields);
    schedules
        .map(|fields| {
            Ok(Schedule {
                name: fields.get("name")?,
                owner: fields.get("owner")?,
                rule: fields.get("rule")?,
                next_at: timestamp(fields.get("next_at")?),
            })
        })
        .collect()
}

pub(super) async fn declare(tx: &Transaction, owner: &str, schedules: &[Schedule]) -> Result<()> {
    let mut forget = Query::delete();
    forget.from_table(SCHEDULES).and_where(Expr::col("owner").eq(owner));
    if !schedules.is_empty() {
        let names = schedules.iter().map(|schedule| schedule.name.as_str());
        forget.and_where(Expr::col("name").is_not_in(names));
    }
    tx.execute(&forget).await.map_err(into_error)?;
    for schedule in schedules {
        let values = [
            schedule.name.as_str().into(),
            schedule.owner.as_str().into(),
            schedule.rule.as_str().into(),
            micros(schedule.next_at).into(),
        ];
        let mut make = Query::insert();
        make.into_table(SCHEDULES)
            .columns(COLUMNS)
            .values_panic(values)
            .on_conflict(OnConflict::new().do_nothing_on(["name"]).to_owned());
        tx.execute(&make).await.map_err(into_error)?;
        let mut own = Query::update();
        own.table(SCHEDULES)
            .value("owner", schedule.owner.as_str())
            .and_where(Expr::col("name").eq(schedule.name.as_str()));
        tx.execute(&own).await.map_err(into_error)?;
        let mut change = Query::update();
        change
            .table(SCHEDULES)
            .value("rule", schedule.rule.as_str())
            .value("next_at", micros(schedule.next_at))
            .and_where(Expr::col("name").eq(schedule.name.as_str()))
            .and_where(Expr::col("rule").ne(schedule.rule.as_str()));
        tx.execute(&change).await.map_err(into_error)?;
    }
    Ok(())
}

/// Moves a schedule on, if it is as the step says and its tick has come.
pub(super) async fn take(tx: &Transaction, step: &Step, now: Timestamp) -> Result<bool> {
    let Schedule {
        name,
        owner,
        rule,
        next_at,
    } = &step.from;
    if *next_at > now {
        return Ok(false);
    }
    let is_as_known = || {
        Expr::col("name")
            .eq(name.as_str())
            .and(Expr::col("owner").eq(owner.as_str()))
            .and(Expr::col("rule").eq(rule.as_str()))
            .and(Expr::col("next_at").eq(micros(*next_at)))
    };
    let mut find = Query::select();
    find.column("name")
        .from(SCHEDULES)
        .and_where(is_as_known())
        .lock(LockType::Update);
    if tx.query_one(&find).await.map_err(into_error)?.is_none() {
        return Ok(false);
    }
    let mut set = Query::update();
    set.table(SCHEDULES)
        .value("next_at", micros(step.to))
        .and_where(is_as_known());
    tx.execute(&set).await.map_err(into_error)?;
    Ok(true)
}
