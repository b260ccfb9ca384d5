//! The tables of rewards.
//!
//! `live_reward` has a row for each payer, item and amount: the reward whose code is still good. It is locked while
//! somebody decides whether there is one, so that a hundred taps make one reward.

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, OnConflict, Table};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Database, Migration, Schema, Transaction, into_error, micros, timestamp};
use mosaic::{AccountId, Error, Result, Runtime, Timestamp};

use crate::model::{Reward, RewardId, State, Wish};
use crate::reports;

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_create_reward",
        up: create_reward,
    },
    Migration {
        name: "0002_create_report",
        up: reports::create_report,
    },
];

fn create_reward(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().to_owned();
    let text = |name: &'static str, len: u32| ColumnDef::new(name).string_len(len).not_null().to_owned();
    schema.run(
        Table::create()
            .table("reward")
            .col(number("id").primary_key())
            .col(text("biz", 32))
            .col(number("biz_id"))
            .col(number("payer_id"))
            .col(number("payee_id"))
            .col(number("amount_fen"))
            .col(text("state", 16))
            .col(ColumnDef::new("code_url").string_len(512))
            .col(number("created_at"))
            .col(ColumnDef::new("settled_at").big_integer()),
    );
    let by_time = "ix_reward_settled_at";
    schema.run(Index::create().name(by_time).table("reward").col("settled_at"));
    let key = ["payer_id", "biz", "biz_id", "amount_fen"];
    let mut primary = Index::create();
    for column in key {
        primary.col(column);
    }
    schema.run(
        Table::create()
            .table("live_reward")
            .col(number("payer_id"))
            .col(text("biz", 32))
            .col(number("biz_id"))
            .col(number("amount_fen"))
            .col(number("reward_id"))
            .col(number("good_until"))
            .primary_key(&mut primary),
    );
}

mod reward {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "reward")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) biz: String,
        pub(super) biz_id: i64,
        pub(super) payer_id: i64,
        pub(super) payee_id: i64,
        pub(super) amount_fen: i64,
        pub(super) state: String,
        pub(super) code_url: Option<String>,
        pub(super) created_at: i64,
        pub(super) settled_at: Option<i64>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod live {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "live_reward")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) payer_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) biz: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) biz_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) amount_fen: i64,
        pub(super) reward_id: i64,
        pub(super) good_until: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Returns the reward of `wish` whose code is still good, or a new one whose code will be until `good_until`.
    pub(crate) async fn live(&self, runtime: &Runtime, wish: &Wish, good_until: Timestamp) -> Result<Reward> {
        self.database
            .transaction(|tx| async move {
                let now = runtime.now();
                let live = lock_live(&tx, wish).await?;
                if live.good_until > micros(now)
                    && let Some(there) = reward::Entity::find_by_id(live.reward_id)
                        .one(&tx)
                        .await
                        .map_err(into_error)?
                {
                    let there = read(there)?;
                    if there.state == State::Init && there.wish == *wish {
                        return Ok(there);
                    }
                }
                let reward = Reward {
                    id: RewardId::new(runtime),
                    wish: wish.clone(),
                    state: State::Init,
                    code_url: None,
                    created: now,
                };
                let inserted = reward::Entity::insert(row(&reward)).exec_without_returning(&tx).await;
                inserted.map_err(into_error)?;
                set_live(&tx, wish, reward.id, good_until).await?;
                Ok(reward)
            })
            .await
    }

    /// Keeps the code of a reward.
    pub(crate) async fn keep_code(&self, id: RewardId, code_url: &str) -> Result<()> {
        let kept = reward::Entity::update_many()
            .col_expr(reward::Column::CodeUrl, Expr::value(code_url))
            .filter(reward::Column::Id.eq(id.get()))
            .exec(self.database.connection())
            .await;
        kept.map(drop).map_err(into_error)
    }

    pub(crate) async fn find(&self, id: RewardId) -> Result<Option<Reward>> {
        let found = reward::Entity::find_by_id(id.get())
            .one(self.database.connection())
            .await;
        found.map_err(into_error)?.map(read).transpose()
    }

    /// Returns a reward that `payer` gives; somebody else's does not exist.
    pub(crate) async fn find_of(&self, id: RewardId, payer: AccountId) -> Result<Option<Reward>> {
        let found = reward::Entity::find_by_id(id.get())
            .filter(reward::Column::PayerId.eq(payer.get()))
            .one(self.database.connection())
            .await;
        found.map_err(into_error)?.map(read).transpose()
    }

    /// Moves a reward on to `to`, if it is in one of the states `from`.
    pub(crate) async fn settle(&self, now: Timestamp, id: RewardId, from: &[State], to: State) -> Result<()> {
        let settled = reward::Entity::update_many()
            .col_expr(reward::Column::State, Expr::value(state_name(to)))
            .col_expr(reward::Column::SettledAt, Expr::value(micros(now)))
            .filter(reward::Column::Id.eq(id.get()))
            .filter(reward::Column::State.is_in(from.iter().map(|state| state_name(*state))))
            .exec(self.database.connection())
            .await;
        settled.map(drop).map_err(into_error)
    }

    /// Returns rewards that were settled from `from` up to `to`, by id, after the one with `after`.
    pub(crate) async fn settled(&self, (from, to): (i64, i64), after: i64, limit: u64) -> Result<Vec<Reward>> {
        let found = reward::Entity::find()
            .filter(reward::Column::SettledAt.gte(from))
            .filter(reward::Column::SettledAt.lt(to))
            .filter(reward::Column::Id.gt(after))
            .order_by_asc(reward::Column::Id)
            .limit(limit)
            .all(self.database.connection())
            .await;
        found.map_err(into_error)?.into_iter().map(read).collect()
    }
}

/// Reads the live row of a wish so that nobody else changes it; it is there afterwards.
async fn lock_live(tx: &Transaction, wish: &Wish) -> Result<live::Model> {
    let row = live::ActiveModel {
        payer_id: Set(wish.payer.get()),
        biz: Set(wish.biz.clone()),
        biz_id: Set(wish.biz_id),
        amount_fen: Set(wish.amount_fen),
        reward_id: Set(0),
        good_until: Set(0),
    };
    let key = [
        live::Column::PayerId,
        live::Column::Biz,
        live::Column::BizId,
        live::Column::AmountFen,
    ];
    let unless_there = OnConflict::columns(key).do_nothing_on(key).to_owned();
    let insert = live::Entity::insert(row).on_conflict(unless_there);
    insert.exec_without_returning(tx).await.map_err(into_error)?;
    let key = (wish.payer.get(), wish.biz.clone(), wish.biz_id, wish.amount_fen);
    let locked = live::Entity::find_by_id(key)
        .lock_exclusive()
        .one(tx)
        .await
        .map_err(into_error)?;
    locked.ok_or_else(|| Error::aborted("SQL_CONFLICT", "another reward came first, try again"))
}

async fn set_live(tx: &Transaction, wish: &Wish, id: RewardId, good_until: Timestamp) -> Result<()> {
    let set = live::Entity::update_many()
        .col_expr(live::Column::RewardId, Expr::value(id.get()))
        .col_expr(live::Column::GoodUntil, Expr::value(micros(good_until)))
        .filter(live::Column::PayerId.eq(wish.payer.get()))
        .filter(live::Column::Biz.eq(&wish.biz))
        .filter(live::Column::BizId.eq(wish.biz_id))
        .filter(live::Column::AmountFen.eq(wish.amount_fen))
        .exec(tx)
        .await;
    set.map(drop).map_err(into_error)
}

fn row(reward: &Reward) -> reward::ActiveModel {
    reward::ActiveModel {
        id: Set(reward.id.get()),
        biz: Set(reward.wish.biz.clone()),
        biz_id: Set(reward.wish.biz_id),
        payer_id: Set(reward.wish.payer.get()),
        payee_id: Set(reward.wish.payee.get()),
        amount_fen: Set(reward.wish.amount_fen),
        state: Set(state_name(reward.state).to_owned()),
        code_url: Set(reward.code_url.clone()),
        created_at: Set(micros(reward.created)),
        settled_at: Set(None),
    }
}

fn read(row: reward::Model) -> Result<Reward> {
    Ok(Reward {
        id: RewardId::try_from(row.id)?,
        wish: Wish {
            biz: row.biz,
            biz_id: row.biz_id,
            payer: AccountId::try_from(row.payer_id)?,
            payee: AccountId::try_from(row.payee_id)?,
            amount_fen: row.amount_fen,
        },
        state: state_of(&row.state)?,
        code_url: row.code_url,
        created: timestamp(row.created_at),
    })
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Init => "init",
        State::Payed => "payed",
        State::Failed => "failed",
        State::Refunded => "refunded",
    }
}

fn state_of(name: &str) -> Result<State> {
    match name {
        "init" => Ok(State::Init),
        "payed" => Ok(State::Payed),
        "failed" => Ok(State::Failed),
        "refunded" => Ok(State::Refunded),
        other => Err(Error::internal(format!("no state of a reward is called {other:?}"))),
    }
}
