//! Groups: seats, positions, moves.
//!
//! Whoever beats for a group locks all its rows, so two members never plan at the same time. Commits touch one row, under the
//! number with which it was granted.

use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::sea_orm::sea_query::{
    CaseStatement, Condition, Expr, ExprTrait as _, LockType, OnConflict, Order, Query, SelectStatement,
};
use mosaic_sql::sea_orm::{ConnectionTrait, QueryResult};
use mosaic_sql::{Database, Transaction, into_error, micros, timestamp};

use super::schema::{BATCH, MEMBER, SEAT};
use super::{ends, from_offset, get, of_partition, offset, partition, stored};
use crate::bus::{Lag, Position, Start};
use crate::log::group::{Row, plan};
use crate::log::memory::no_group;
use crate::log::{GroupOf, Held, Seat, age};

fn of_group(of: &GroupOf) -> Condition {
    Condition::all()
        .add(Expr::col("topic").eq(of.topic.as_str()))
        .add(Expr::col("grp").eq(of.group.as_str()))
}

fn of_seat(seat: &Seat, partition: u32, fence: i64) -> Condition {
    of_group(&seat.of)
        .add(Expr::col("part").eq(i64::from(partition)))
        .add(Expr::col("owner").eq(seat.member.as_str()))
        .add(Expr::col("fence").eq(fence))
}

pub(super) async fn open(tx: &Transaction, of: &GroupOf, start: Start) -> Result<()> {
    let mut insert = Query::insert();
    insert
        .into_table(SEAT)
        .columns(["topic", "grp", "part", "fence", "lease_until", "next_offset"]);
    for bounds in ends(tx, &of.topic).await? {
        let next = match start {
            Start::Beginning => 0,
            Start::End => stored(bounds.end),
        };
        insert.values_panic([
            of.topic.as_str().into(),
            of.group.as_str().into(),
            i64::from(bounds.partition).into(),
            0_i64.into(),
            0_i64.into(),
            next.into(),
        ]);
    }
    insert.on_conflict(OnConflict::new().do_nothing_on(["topic", "grp", "part"]).to_owned());
    tx.execute(&insert).await.map_err(into_error)?;
    Ok(())
}

fn find_rows(of: &GroupOf) -> SelectStatement {
    let mut find = Query::select();
    find.columns(["part", "owner", "fence", "lease_until", "next_offset"])
        .from(SEAT)
        .cond_where(of_group(of))
        .order_by("part", Order::Asc);
    find
}

async fn rows(db: &impl ConnectionTrait, find: &SelectStatement) -> Result<Vec<Row>> {
    let found = db.query_all(find).await.map_err(into_error)?;
    let read = |row: &QueryResult| {
        Ok(Row {
            partition: partition(row)?,
            owner: get(row, "owner")?,
            fence: get(row, "fence")?,
            lease_until: timestamp(get(row, "lease_until")?),
            next: offset(row, "next_offset")?,
        })
    };
    found.iter().map(read).collect()
}

pub(super) async fn beat(tx: &Transaction, seat: &Seat, now: Timestamp) -> Result<Vec<Held>> {
    let until = micros(now.plus(seat.lease));
    let me = seat.member.as_str();
    sign(tx, seat, until).await?;
    let mut rows = rows(tx, find_rows(&seat.of).lock(LockType::Update)).await?;
    if rows.is_empty() {
        return Err(no_group());
    }
    // Read after the lock: whoever beat before us is seen.
    let plan = plan(&rows, &members(tx, &seat.of, now).await?, me, now);
    if !plan.take.is_empty() {
        let mut take = Query::update();
        take.table(SEAT)
            .value("owner", me)
            .value("fence", Expr::col("fence").add(1))
            .cond_where(of_group(&seat.of));
        take.and_where(Expr::col("part").is_in(plan.take.iter().map(|partition| i64::from(*partition))));
        tx.execute(&take).await.map_err(into_error)?;
        for row in rows.iter_mut().filter(|row| plan.take.contains(&row.partition)) {
            row.owner = Some(me.to_owned());
            row.fence += 1;
        }
    }
    let mut keep = Query::update();
    keep.table(SEAT)
        .value("lease_until", until)
        .cond_where(of_group(&seat.of));
    tx.execute(keep.and_where(Expr::col("owner").eq(me)))
        .await
        .map_err(into_error)?;
    let held = |row: &Row| Held {
        partition: row.partition,
        fence: row.fence,
        next: row.next,
        is_surplus: plan.give.contains(&row.partition),
    };
    Ok(rows.iter().filter(|row| row.is_of(me)).map(held).collect())
}

/// Keeps the member's own row.
async fn sign(tx: &Transaction, seat: &Seat, until: i64) -> Result<()> {
    let mut sign = Query::insert();
    sign.into_table(MEMBER)
        .columns(["topic", "grp", "member", "lease_until"]);
    sign.values_panic([
        seat.of.topic.as_str().into(),
        seat.of.group.as_str().into(),
        seat.member.as_str().into(),
        until.into(),
    ]);
    let keep = OnConflict::columns(["topic", "grp", "member"])
        .update_column("lease_until")
        .to_owned();
    tx.execute(sign.on_conflict(keep)).await.map_err(into_error)?;
    Ok(())
}

/// Returns the living and forgets the dead.
async fn members(tx: &Transaction, of: &GroupOf, now: Timestamp) -> Result<Vec<String>> {
    let mut find = Query::select();
    find.columns(["member", "lease_until"])
        .from(MEMBER)
        .cond_where(of_group(of))
        .order_by("member", Order::Asc);
    let (mut living, mut dead) = (Vec::new(), Vec::new());
    for row in tx.query_all(&find).await.map_err(into_error)? {
        let is_alive = timestamp(get(&row, "lease_until")?) > now;
        let member: String = get(&row, "member")?;
        if is_alive {
            living.push(member)
        } else {
            dead.push(member)
        }
    }
    if !dead.is_empty() {
        let mut delete = Query::delete();
        delete
            .from_table(MEMBER)
            .cond_where(of_group(of))
            .and_where(Expr::col("member").is_in(dead));
        tx.execute(&delete).await.map_err(into_error)?;
    }
    Ok(living)
}

/// One statement, which needs no transaction around it: this is done often.
pub(super) async fn commit(database: &Database, seat: &Seat, partition: u32, fence: i64, next: u64) -> Result<bool> {
    let next = stored(next);
    let later = CaseStatement::new()
        .case(Expr::col("next_offset").lt(next), next)
        .finally(Expr::col("next_offset"));
    let mut update = Query::update();
    update
        .table(SEAT)
        .value("next_offset", later)
        .cond_where(of_seat(seat, partition, fence));
    let done = database.execute(&update).await.map_err(into_error)?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn release(tx: &Transaction, seat: &Seat, partition: u32, fence: i64) -> Result<()> {
    let mut update = Query::update();
    update
        .table(SEAT)
        .value("owner", None::<String>)
        .cond_where(of_seat(seat, partition, fence));
    tx.execute(&update).await.map_err(into_error)?;
    Ok(())
}

pub(super) async fn leave(tx: &Transaction, seat: &Seat) -> Result<()> {
    let me = seat.member.as_str();
    let mut update = Query::update();
    update
        .table(SEAT)
        .value("owner", None::<String>)
        .cond_where(of_group(&seat.of));
    tx.execute(update.and_where(Expr::col("owner").eq(me)))
        .await
        .map_err(into_error)?;
    let mut delete = Query::delete();
    delete.from_table(MEMBER).cond_where(of_group(&seat.of));
    tx.execute(delete.and_where(Expr::col("member").eq(me)))
        .await
        .map_err(into_error)?;
    Ok(())
}

pub(super) async fn seek(tx: &Transaction, of: &GroupOf, to: &Position) -> Result<()> {
    let rows = rows(tx, find_rows(of).lock(LockType::Update)).await?;
    if rows.is_empty() {
        return Err(no_group());
    }
    let ends = ends(tx, &of.topic).await?;
    for bounds in ends {
        let next = match to {
            Position::Beginning => 0,
            Position::End => stored(bounds.end),
            Position::Time(time) => {
                let mut find = Query::select();
                find.column("base")
                    .from(BATCH)
                    .cond_where(of_partition(&of.topic, bounds.partition));
                find.and_where(Expr::col("stored_at").gte(micros(*time)))
                    .order_by("base", Order::Asc)
                    .limit(1);
                let row = tx.query_one(&find).await.map_err(into_error)?;
                row.map_or(Ok(stored(bounds.end)), |row| get(&row, "base"))?
            }
            Position::Offset { partition, offset } if *partition == bounds.partition => stored(*offset),
            Position::Offset { .. } => continue,
        };
        let mut update = Query::update();
        update
            .table(SEAT)
            .value("next_offset", next)
            .value("owner", None::<String>)
            .value("fence", Expr::col("fence").add(1))
            .cond_where(of_group(of))
            .and_where(Expr::col("part").eq(i64::from(bounds.partition)));
        tx.execute(&update).await.map_err(into_error)?;
    }
    Ok(())
}

pub(super) async fn lag(db: &impl ConnectionTrait, of: &GroupOf, now: Timestamp) -> Result<Vec<Lag>> {
    let rows = rows(db, &find_rows(of)).await?;
    let ends = ends(db, &of.topic).await?;
    let mut lags = Vec::new();
    for (row, bounds) in rows.iter().zip(&ends) {
        if row.partition != bounds.partition {
            return Err(Error::internal("a group and its topic have different partitions"));
        }
        let oldest = match row.next < bounds.end {
            true => oldest(db, of, row).await?,
            false => None,
        };
        lags.push(Lag {
            partition: row.partition,
            events: oldest.map_or(0, |(base, _)| bounds.end.saturating_sub(Ord::max(row.next, base))),
            age: age(now, oldest.map(|(_, at)| at)),
        });
    }
    Ok(lags)
}

/// Returns the base and the time of the row that is to be read next.
async fn oldest(db: &impl ConnectionTrait, of: &GroupOf, row: &Row) -> Result<Option<(u64, Timestamp)>> {
    let mut find = Query::select();
    find.columns(["base", "stored_at"])
        .from(BATCH)
        .cond_where(of_partition(&of.topic, row.partition));
    find.cond_where(from_offset(row.next))
        .order_by("base", Order::Asc)
        .limit(1);
    let found = db.query_one(&find).await.map_err(into_error)?;
    found
        .map(|row| Ok((offset(&row, "base")?, timestamp(get(&row, "stored_at")?))))
        .transpose()
}
