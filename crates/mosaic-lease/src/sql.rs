//! An engine in tables of a database: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! A row a name, kept for ever so that its number never falls. Who wants a lease changes the row in one statement that
//! names the number it saw, so of two that want it one changes a row and the other changes none. Times are the
//! database's. What is written to the same database can be fenced: [`SqlLeases::check_in`] holds the row for the rest of the
//! transaction.

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Runtime, Timestamp};
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Expr, ExprTrait as _, Index, LockType, OnConflict, Query, Table};
use mosaic_sql::sea_orm::{ConnectionTrait, DbErr, ExecResult, QueryResult};
use mosaic_sql::{
    Database, DatabaseClock, Migration, Schema, Transaction, into_error, micros, timestamp, unique_violation,
};

use crate::lease::{Acquired, Holder, Lease, Leases, NodeLoad, check_names, read_load, stored_load};

/// Migrations of the tables of leases and loads; a service adds them to its own.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "mosaic_lease_0001_create_mosaic_lease",
    up: create,
}];

const LEASES: &str = "mosaic_lease";
const LOADS: &str = "mosaic_node_load";

fn create(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().take();
    let text = |name: &'static str| ColumnDef::new(name).string_len(120).not_null().take();
    let mut leases = Table::create();
    leases.table(LEASES).col(text("name").primary_key()).col(text("holder"));
    schema.run(leases.col(number("fence")).col(number("until_at")));
    let mut loads = Table::create();
    loads.table(LOADS).col(text("job")).col(text("node"));
    loads.col(number("load_ppm")).col(number("until_at"));
    schema.run(loads.primary_key(Index::create().col("job").col("node")));
}

/// See the module documentation. Opened over a database that has [`MIGRATIONS`]. Cheap to clone.
#[derive(Clone)]
pub struct SqlLeases {
    database: Database,
    clock: DatabaseClock,
}

impl std::fmt::Debug for SqlLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlLeases").finish_non_exhaustive()
    }
}

impl SqlLeases {
    /// Makes an engine that goes by the clock of the database.
    pub fn new(database: &Database, runtime: &Runtime) -> Self {
        Self::with_clock(database, DatabaseClock::new(runtime))
    }

    /// Makes an engine that goes by `clock`.
    pub fn with_clock(database: &Database, clock: DatabaseClock) -> Self {
        Self {
            database: database.clone(),
            clock,
        }
    }

    /// Checks in the caller's transaction that no higher number was granted, and lets none be granted before it ends.
    ///
    /// The lease may have run out, as long as nobody has taken it: what is written is then still in order.
    ///
    /// # Errors
    /// `LEASE_LOST` (`Aborted`): roll back, somebody else does the work now. Failures of the database.
    pub async fn check_in(&self, tx: &Transaction, lease: &Lease) -> Result<()> {
        let mut find = Query::select();
        find.column("fence").from(LEASES);
        find.and_where(Expr::col("name").eq(lease.name.as_str()));
        let row = tx.query_one(&*find.lock(LockType::Update)).await.map_err(into_error)?;
        let fence: Option<i64> = row
            .map(|row| row.try_get("", "fence"))
            .transpose()
            .map_err(into_error)?;
        if fence == Some(lease.fence) {
            return Ok(());
        }
        Err(Error::aborted("LEASE_LOST", "another process has taken over"))
    }

    async fn read(&self, name: &str) -> Result<Option<Row>> {
        let mut find = Query::select();
        find.columns(["holder", "fence", "until_at"]).from(LEASES);
        find.and_where(Expr::col("name").eq(name));
        let row = self.database.query_one(&find).await.map_err(into_error)?;
        row.map(|row| Row::read(&row)).transpose().map_err(into_error)
    }

    /// Sets the end of a lease that is still ours; says whether it was.
    async fn set_end(&self, lease: &Lease, now: Timestamp, until: Timestamp) -> Result<bool> {
        let mut update = Query::update();
        update
            .table(LEASES)
            .value("until_at", micros(until))
            .and_where(Expr::col("name").eq(lease.name.as_str()))
            .and_where(Expr::col("fence").eq(lease.fence))
            .and_where(Expr::col("until_at").gt(micros(now)));
        let changed = self.database.execute(&update).await.map_err(into_error)?;
        Ok(changed.rows_affected() == 1)
    }
}

/// Did an insert add its row? `false` if there is one with its key.
pub(crate) fn is_added(inserted: Result<ExecResult, DbErr>) -> Result<bool> {
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if unique_violation(&error).is_some() => Ok(false),
        Err(error) => Err(into_error(error)),
    }
}

struct Row {
    holder: String,
    fence: i64,
    until: Timestamp,
}

impl Row {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            holder: row.try_get("", "holder")?,
            fence: row.try_get("", "fence")?,
            until: timestamp(row.try_get("", "until_at")?),
        })
    }

    fn seen_at(self, now: Timestamp) -> Holder {
        Holder {
            remaining: self.until.since(now),
            holder: self.holder,
            fence: self.fence,
        }
    }
}

#[async_trait]
impl Leases for SqlLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Acquired> {
        check_names(&[name, holder])?;
        // Another one may come between the look and the change, but each round somebody gets it.
        loop {
            let now = self.clock.now(&self.database).await?;
            let until = micros(now.plus(ttl));
            let (fence, n_changed) = match self.read(name).await? {
                Some(row) if row.until > now => return Ok(Acquired::Theirs(row.seen_at(now))),
                Some(row) => {
                    let mut update = Query::update();
                    update
                        .table(LEASES)
                        .values([
                            ("holder", holder.into()),
                            ("fence", (row.fence + 1).into()),
                            ("until_at", until.into()),
                        ])
                        .and_where(Expr::col("name").eq(name))
                        .and_where(Expr::col("fence").eq(row.fence))
                        .and_where(Expr::col("until_at").lte(micros(now)));
                    let changed = self.database.execute(&update).await.map_err(into_error)?;
                    (row.fence + 1, changed.rows_affected())
                }
                None => {
                    let mut insert = Query::insert();
                    insert
                        .into_table(LEASES)
                        .columns(["name", "holder", "fence", "until_at"])
                        .values_panic([name.into(), holder.into(), 1_i64.into(), until.into()]);
                    (1, u64::from(is_added(self.database.execute(&insert).await)?))
                }
            };
            if n_changed == 1 {
                let name = name.to_owned();
                return Ok(Acquired::Ours(Lease { name, fence }));
            }
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool> {
        let now = self.clock.now(&self.database).await?;
        self.set_end(lease, now, now.plus(ttl)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let now = self.clock.now(&self.database).await?;
        self.set_end(lease, now, now).await.map(|_| ())
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>> {
        let now = self.clock.now(&self.database).await?;
        let row = self.read(name).await?.filter(|row| row.until > now);
        Ok(row.map(|row| row.seen_at(now)))
    }

    async fn report(&self, group: &str, load: &NodeLoad, ttl: Duration) -> Result<()> {
        check_names(&[group, &load.node])?;
        let now = self.clock.now(&self.database).await?;
        let until = micros(now.plus(ttl));
        let mut upsert = Query::insert();
        let replace = OnConflict::columns(["job", "node"])
            .update_columns(["load_ppm", "until_at"])
            .to_owned();
        upsert
            .into_table(LOADS)
            .columns(["job", "node", "load_ppm", "until_at"])
            .values_panic([
                group.into(),
                load.node.as_str().into(),
                stored_load(load.load).into(),
                until.into(),
            ])
            .on_conflict(replace);
        self.database.execute(&upsert).await.map_err(into_error)?;
        let mut forget = Query::delete();
        forget.from_table(LOADS).and_where(Expr::col("job").eq(group));
        forget.and_where(Expr::col("until_at").lte(micros(now)));
        self.database.execute(&forget).await.map_err(into_error)?;
        Ok(())
    }

    async fn reports(&self, group: &str) -> Result<Vec<NodeLoad>> {
        let now = self.clock.now(&self.database).await?;
        let mut find = Query::select();
        find.columns(["node", "load_ppm"]).from(LOADS);
        find.and_where(Expr::col("job").eq(group));
        find.and_where(Expr::col("until_at").gt(micros(now)));
        let rows = self
            .database
            .query_all(find.order_by("node", mosaic_sql::sea_orm::sea_query::Order::Asc))
            .await;
        let read = |row: &QueryResult| -> Result<NodeLoad, DbErr> {
            Ok(NodeLoad {
                node: row.try_get("", "node")?,
                load: read_load(row.try_get("", "load_ppm")?),
            })
        };
        let rows = rows.map_err(into_error)?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(into_error)
    }
}
