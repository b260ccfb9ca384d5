//! The log in SQL tables: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! Appending is three statements whatever the number of messages; reading is two, of which the first tells how many rows
//! the second may take without filling the memory, or none: see [`tail`].

mod append;
mod groups;
mod schema;
mod tail;
mod trim;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Runtime};
use mosaic_sql::sea_orm::sea_query::{Condition, Expr, ExprTrait as _, Order, Query};
use mosaic_sql::sea_orm::{ConnectionTrait, QueryResult, TryGetable};
use mosaic_sql::{Database, DatabaseClock, into_error};

pub use schema::BUS_MIGRATIONS;

use super::{Batch, Bounds, GroupOf, Held, Log, Seat, codec};
use crate::bus::{Delivered, Lag, Position, Start, Topic};
use crate::names::TopicName;
use schema::{BATCH, PARTITION};
use tail::Tail;

/// Most messages of a row, of any release: rows that hold an offset are found within so many offsets before it.
const BATCH_SPAN: i64 = 1000;
/// Rows that are considered for one read.
const ROWS_MAX: u64 = 256;

#[derive(Debug)]
pub(crate) struct SqlLog {
    database: Database,
    clock: DatabaseClock,
    tail: Tail,
}

impl SqlLog {
    pub(crate) fn new(database: &Database, runtime: &Runtime) -> Self {
        Self {
            database: database.clone(),
            clock: DatabaseClock::new(runtime),
            tail: Tail::default(),
        }
    }
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T> {
    row.try_get("", column).map_err(into_error)
}

/// Offsets are positive in the port and `BIGINT` in the tables.
fn offset(row: &QueryResult, column: &str) -> Result<u64> {
    get::<i64>(row, column).map(i64::unsigned_abs)
}

fn stored(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn partition(row: &QueryResult) -> Result<u32> {
    u32::try_from(get::<i64>(row, "part")?).map_err(Error::internal)
}

fn of_partition(topic: &TopicName, partition: u32) -> Condition {
    Condition::all()
        .add(Expr::col("topic").eq(topic.as_str()))
        .add(Expr::col("part").eq(i64::from(partition)))
}

async fn ends(db: &impl ConnectionTrait, topic: &TopicName) -> Result<Vec<Bounds>> {
    let mut find = Query::select();
    find.columns(["part", "end_offset"]).from(PARTITION);
    find.and_where(Expr::col("topic").eq(topic.as_str()))
        .order_by("part", Order::Asc);
    let rows = db.query_all(&find).await.map_err(into_error)?;
    let bounds = |row: &QueryResult| {
        Ok(Bounds {
            partition: partition(row)?,
            end: offset(row, "end_offset")?,
        })
    };
    rows.iter().map(bounds).collect()
}

/// Rows that hold `from` or what comes after it.
fn from_offset(from: u64) -> Condition {
    let from = stored(from);
    let after = Expr::col("base").add(Expr::col("n")).gt(from);
    Condition::all()
        .add(Expr::col("base").gt(from.saturating_sub(BATCH_SPAN)))
        .add(after)
}

impl SqlLog {
    /// Returns the first and last base of rows that together have about `max_bytes`.
    async fn span(&self, topic: &TopicName, partition: u32, from: u64, max_bytes: usize) -> Result<Option<(i64, i64)>> {
        let mut find = Query::select();
        find.columns(["base", "n_bytes"])
            .from(BATCH)
            .cond_where(of_partition(topic, partition));
        find.cond_where(from_offset(from))
            .order_by("base", Order::Asc)
            .limit(ROWS_MAX);
        let mut span = None;
        let mut left = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        for row in self.database.query_all(&find).await.map_err(into_error)? {
            let (base, n_bytes): (i64, i64) = (get(&row, "base")?, get(&row, "n_bytes")?);
            left -= n_bytes;
            match &mut span {
                None => span = Some((base, base)),
                Some(_) if left < 0 => break,
                Some((_, last)) => *last = base,
            }
        }
        Ok(span)
    }
}

#[async_trait]
impl Log for SqlLog {
    async fn declare(&self, topic: &Topic, is_set: bool) -> Result<u32> {
        self.database
            .transaction(async |tx| append::declare(&tx, topic, is_set).await)
            .await
    }

    async fn append(&self, batches: &[Batch<'_>]) -> Result<()> {
        let appended = self.database.transaction(async |tx| {
            let now = self.clock.now(&tx).await?;
            append::append(&tx, batches, now).await
        });
        for (batch, base) in appended.await? {
            self.tail.keep(batch, base);
        }
        Ok(())
    }

    async fn ends(&self, topic: &TopicName) -> Result<Vec<Bounds>> {
        ends(&self.database, topic).await
    }

    async fn fetch(&self, topic: &TopicName, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Delivered>> {
        let newest = self.tail.read(topic, partition, from, max_bytes);
        if !newest.is_empty() {
            return Ok(newest);
        }
        let Some((first, last)) = self.span(topic, partition, from, max_bytes).await? else {
            return Ok(Vec::new());
        };
        let mut find = Query::select();
        find.columns(["base", "records"])
            .from(BATCH)
            .cond_where(of_partition(topic, partition));
        find.and_where(Expr::col("base").between(first, last))
            .order_by("base", Order::Asc);
        let mut events = Vec::new();
        for row in self.database.query_all(&find).await.map_err(into_error)? {
            let messages = codec::decode(topic, get(&row, "records")?)?;
            let delivered = (offset(&row, "base")?..).zip(messages);
            let delivered = delivered.map(|(position, message)| Delivered { position, message });
            events.extend(delivered.filter(|delivered| delivered.position >= from));
        }
        Ok(events)
    }

    async fn open_group(&self, of: &GroupOf, start: Start) -> Result<()> {
        self.database
            .transaction(async |tx| groups::open(&tx, of, start).await)
            .await
    }

    async fn beat(&self, seat: &Seat) -> Result<Vec<Held>> {
        let beaten = self.database.transaction(async |tx| {
            let now = self.clock.now(&tx).await?;
            groups::beat(&tx, seat, now).await
        });
        beaten.await
    }

    async fn commit(&self, seat: &Seat, partition: u32, fence: i64, next: u64) -> Result<bool> {
        groups::commit(&self.database, seat, partition, fence, next).await
    }

    async fn release(&self, seat: &Seat, partition: u32, fence: i64) -> Result<()> {
        self.database
            .transaction(async |tx| groups::release(&tx, seat, partition, fence).await)
            .await
    }

    async fn leave(&self, seat: &Seat) -> Result<()> {
        self.database
            .transaction(async |tx| groups::leave(&tx, seat).await)
            .await
    }

    async fn seek(&self, of: &GroupOf, to: &Position) -> Result<()> {
        self.database
            .transaction(async |tx| groups::seek(&tx, of, to).await)
            .await
    }

    async fn lag(&self, of: &GroupOf) -> Result<Vec<Lag>> {
        let now = self.clock.now(&self.database).await?;
        groups::lag(&self.database, of, now).await
    }

    async fn trim(&self) -> Result<u64> {
        let now = self.clock.now(&self.database).await?;
        let n_gone = trim::trim(&self.database, now).await?;
        if n_gone > 0 {
            self.tail.clear();
        }
        Ok(n_gone)
    }

    async fn ping(&self) -> Result<()> {
        self.database.ping().await
    }
}
