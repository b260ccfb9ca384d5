//! The tables of relations and of their counters.
//!
//! Whoever changes a relation first locks the counter rows of both accounts, the smaller id first: so the two directions of
//! a pair wait for each other instead of dying in a deadlock, and what was read of the relation holds until the commit.

use std::collections::{HashMap, HashSet};

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Expr, ExprTrait as _, Index, OnConflict, Table};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Migration, Schema, Transaction, into_error, micros};
use mosaic::{AccountId, Context, Result, Transactions};
use mosaic_api::events::FollowChanged;

use crate::model::{Change, Pair, Wish, decide};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_follow_and_stats",
    up: create_follow_and_stats,
}];

fn create_follow_and_stats(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("follow")
            .col(ColumnDef::new("follower_id").big_integer().not_null())
            .col(ColumnDef::new("followee_id").big_integer().not_null())
            .col(ColumnDef::new("position").big_integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .primary_key(Index::create().col("follower_id").col("followee_id")),
    );
    for (name, columns) in [
        ("ix_follow_follower_position", ["follower_id", "position"]),
        ("ix_follow_followee_position", ["followee_id", "position"]),
        ("ix_follow_followee_follower", ["followee_id", "follower_id"]),
    ] {
        let [first, second] = columns;
        schema.run(Index::create().name(name).table("follow").col(first).col(second));
    }
    schema.run(
        Table::create()
            .table("stats")
            .col(ColumnDef::new("account_id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("n_followers").big_integer().not_null())
            .col(ColumnDef::new("n_followees").big_integer().not_null()),
    );
}

mod follow {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "follow")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) follower_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) followee_id: i64,
        /// Rises with time; lists are in its order.
        pub(crate) position: i64,
        pub(crate) created_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod stats {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "stats")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) account_id: i64,
        pub(crate) n_followers: i64,
        pub(crate) n_followees: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) use follow::Model as Follow;
pub(crate) use stats::Model as Stats;

/// Which end of a relation is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Whom the account follows.
    Followees,
    /// Who follows the account.
    Followers,
}

impl Side {
    /// Returns the column of the account, and that of the others.
    const fn columns(self) -> (follow::Column, follow::Column) {
        match self {
            Self::Followees => (follow::Column::FollowerId, follow::Column::FolloweeId),
            Self::Followers => (follow::Column::FolloweeId, follow::Column::FollowerId),
        }
    }
}

/// See the module documentation.
pub(crate) struct Store {
    transactions: Transactions,
    followees_max: u32,
}

impl Store {
    pub(crate) const fn new(transactions: Transactions, followees_max: u32) -> Self {
        Self {
            transactions,
            followees_max,
        }
    }

    /// Carries a wish out, and tells of it if it was a change.
    pub(crate) async fn set(&self, cx: &Context, pair: Pair, wish: Wish) -> Result<()> {
        self.transactions
            .run(|tx| async move {
                let mut n_followees = 0;
                for account in pair.in_lock_order() {
                    let locked = locked_stats(&tx, account).await?;
                    if account == pair.follower() {
                        n_followees = locked.n_followees;
                    }
                }
                let is_following = is_following(&*tx, pair).await?;
                let change = decide(wish, is_following, n_followees, self.followees_max)?;
                let by = match change {
                    Change::Nothing => return Ok(()),
                    Change::Insert => insert(&*tx, cx, pair).await.map(|()| 1)?,
                    Change::Delete => delete(&*tx, pair).await.map(|()| -1)?,
                };
                count(&*tx, pair.follower(), stats::Column::NFollowees, by).await?;
                count(&*tx, pair.followee(), stats::Column::NFollowers, by).await?;
                let changed = FollowChanged {
                    follower: pair.follower(),
                    followee: pair.followee(),
                    is_following: change == Change::Insert,
                };
                tx.publish(cx, &changed).await?;
                Ok(())
            })
            .await
    }

    /// Returns the counters of `accounts`; who has none is missing.
    pub(crate) async fn stats(&self, accounts: &[i64]) -> Result<HashMap<i64, Stats>> {
        let found = stats::Entity::find()
            .filter(stats::Column::AccountId.is_in(accounts.iter().copied()))
            .all(self.transactions.database())
            .await
            .map_err(into_error)?;
        Ok(found.into_iter().map(|row| (row.account_id, row)).collect())
    }

    /// Returns whom of `accounts` the account `viewer` follows.
    pub(crate) async fn followed_among(&self, viewer: i64, accounts: &[i64]) -> Result<HashSet<i64>> {
        let found = follow::Entity::find()
            .filter(follow::Column::FollowerId.eq(viewer))
            .filter(follow::Column::FolloweeId.is_in(accounts.iter().copied()))
            .all(self.transactions.database())
            .await
            .map_err(into_error)?;
        Ok(found.into_iter().map(|row| row.followee_id).collect())
    }

    /// Returns relations of `account`, newest first, before `position` (0: from the newest).
    pub(crate) async fn newest(&self, side: Side, account: i64, position: i64, limit: u32) -> Result<Vec<Follow>> {
        let (own, _) = side.columns();
        let mut query = follow::Entity::find().filter(own.eq(account));
        if position > 0 {
            query = query.filter(follow::Column::Position.lt(position));
        }
        query
            .order_by_desc(follow::Column::Position)
            .limit(u64::from(limit))
            .all(self.transactions.database())
            .await
            .map_err(into_error)
    }

    /// Returns the others, by id, beyond `after`.
    pub(crate) async fn ids(&self, side: Side, account: i64, after: i64, limit: u32) -> Result<Vec<i64>> {
        let (own, other) = side.columns();
        follow::Entity::find()
            .select_only()
            .column(other)
            .filter(own.eq(account))
            .filter(other.gt(after))
            .order_by_asc(other)
            .limit(u64::from(limit))
            .into_tuple()
            .all(self.transactions.database())
            .await
            .map_err(into_error)
    }
}

/// Locks the counters of `account`, which are there afterwards.
async fn locked_stats(tx: &Transaction, account: AccountId) -> Result<Stats> {
    let find = || stats::Entity::find_by_id(account.get()).lock_exclusive().one(tx);
    if let Some(found) = find().await.map_err(into_error)? {
        return Ok(found);
    }
    let none = stats::ActiveModel {
        account_id: Set(account.get()),
        n_followers: Set(0),
        n_followees: Set(0),
    };
    let unless_there = OnConflict::column(stats::Column::AccountId)
        .do_nothing_on([stats::Column::AccountId])
        .to_owned();
    stats::Entity::insert(none)
        .on_conflict(unless_there)
        .exec_without_returning(tx)
        .await
        .map_err(into_error)?;
    let found = find().await.map_err(into_error)?;
    found.ok_or_else(|| mosaic::Error::internal("the counters are gone"))
}

async fn is_following(db: &impl ConnectionTrait, pair: Pair) -> Result<bool> {
    let key = (pair.follower().get(), pair.followee().get());
    let found = follow::Entity::find_by_id(key).one(db).await;
    found.map(|row| row.is_some()).map_err(into_error)
}

async fn insert(db: &impl ConnectionTrait, cx: &Context, pair: Pair) -> Result<()> {
    let row = follow::ActiveModel {
        follower_id: Set(pair.follower().get()),
        followee_id: Set(pair.followee().get()),
        position: Set(cx.runtime().next_id()),
        created_at: Set(micros(cx.runtime().now())),
    };
    let inserted = follow::Entity::insert(row).exec_without_returning(db).await;
    inserted.map(drop).map_err(into_error)
}

async fn delete(db: &impl ConnectionTrait, pair: Pair) -> Result<()> {
    let key = (pair.follower().get(), pair.followee().get());
    let deleted = follow::Entity::delete_by_id(key).exec(db).await;
    deleted.map(drop).map_err(into_error)
}

async fn count(db: &impl ConnectionTrait, account: AccountId, column: stats::Column, by: i64) -> Result<()> {
    stats::Entity::update_many()
        .col_expr(column, Expr::col(column).add(by))
        .filter(stats::Column::AccountId.eq(account.get()))
        .exec(db)
        .await
        .map(drop)
        .map_err(into_error)
}
