//! The table of the embedded provider's trades.

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Table};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Database, Schema, into_error, unique_violation};
use mosaic::{Error, Result};

/// Rows that a page or a bill of the embedded provider has at most.
const ROWS_MAX: u64 = 5_000;

pub(super) fn create_trade(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().to_owned();
    let text = |name: &'static str, len: u32| ColumnDef::new(name).string_len(len).not_null().to_owned();
    schema.run(
        Table::create()
            .table("embedded_trade")
            .col(text("out_trade_no", 32).primary_key())
            .col(text("app_id", 64))
            .col(text("description", 127))
            .col(number("amount_fen"))
            .col(text("token", 64))
            .col(text("open_id", 128))
            .col(text("state", 16))
            .col(text("transaction_id", 64))
            .col(number("created_at"))
            .col(number("expire_at"))
            .col(number("paid_at"))
            .col(text("out_refund_no", 64))
            .col(number("refunded_at")),
    );
}

mod trade {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "embedded_trade")]
    pub(in crate::embedded) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::embedded) out_trade_no: String,
        pub(in crate::embedded) app_id: String,
        pub(in crate::embedded) description: String,
        pub(in crate::embedded) amount_fen: i64,
        /// What is in the code, or the id of the prepaid trade.
        pub(in crate::embedded) token: String,
        pub(in crate::embedded) open_id: String,
        /// As the protocol names it: `NOTPAY`, `SUCCESS`, `CLOSED`, `REFUND`.
        pub(in crate::embedded) state: String,
        pub(in crate::embedded) transaction_id: String,
        pub(in crate::embedded) created_at: i64,
        pub(in crate::embedded) expire_at: i64,
        pub(in crate::embedded) paid_at: i64,
        pub(in crate::embedded) out_refund_no: String,
        pub(in crate::embedded) refunded_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) use trade::Model as Trade;

/// Inserts a trade; `false` if its number is there.
pub(super) async fn insert(db: &impl ConnectionTrait, trade: Trade) -> Result<bool> {
    let row = trade::ActiveModel {
        out_trade_no: Set(trade.out_trade_no),
        app_id: Set(trade.app_id),
        description: Set(trade.description),
        amount_fen: Set(trade.amount_fen),
        token: Set(trade.token),
        open_id: Set(trade.open_id),
        state: Set(trade.state),
        transaction_id: Set(trade.transaction_id),
        created_at: Set(trade.created_at),
        expire_at: Set(trade.expire_at),
        paid_at: Set(trade.paid_at),
        out_refund_no: Set(trade.out_refund_no),
        refunded_at: Set(trade.refunded_at),
    };
    match trade::Entity::insert(row).exec_without_returning(db).await {
        Ok(_) => Ok(true),
        Err(error) if unique_violation(&error).is_some() => Ok(false),
        Err(error) => Err(into_error(error)),
    }
}

pub(super) async fn find(db: &impl ConnectionTrait, out_trade_no: &str) -> Result<Option<Trade>> {
    let found = trade::Entity::find_by_id(out_trade_no).one(db).await;
    found.map_err(into_error)
}

pub(super) async fn find_refund(db: &impl ConnectionTrait, out_refund_no: &str) -> Result<Option<Trade>> {
    let found = trade::Entity::find()
        .filter(trade::Column::OutRefundNo.eq(out_refund_no))
        .one(db)
        .await;
    found.map_err(into_error)
}

/// Returns the trades in one of `states`, newest first.
pub(super) async fn list(db: &impl ConnectionTrait, states: &[&str]) -> Result<Vec<Trade>> {
    let found = trade::Entity::find()
        .filter(trade::Column::State.is_in(states.iter().copied()))
        .order_by_desc(trade::Column::CreatedAt)
        .limit(ROWS_MAX)
        .all(db)
        .await;
    found.map_err(into_error)
}

/// Changes a trade, which nobody else changes meanwhile, and returns it; `change` says no with `None`.
pub(super) async fn change(
    database: &Database,
    out_trade_no: &str,
    change: impl Fn(&mut Trade) -> Option<()>,
) -> Result<Option<Trade>> {
    let change = &change;
    database
        .transaction(|tx| async move {
            let found = trade::Entity::find_by_id(out_trade_no)
                .lock_exclusive()
                .one(&tx)
                .await
                .map_err(into_error)?;
            let Some(mut trade) = found else { return Ok(None) };
            if change(&mut trade).is_none() {
                return Ok(None);
            }
            let row = trade::ActiveModel {
                out_trade_no: Set(trade.out_trade_no.clone()),
                state: Set(trade.state.clone()),
                transaction_id: Set(trade.transaction_id.clone()),
                paid_at: Set(trade.paid_at),
                out_refund_no: Set(trade.out_refund_no.clone()),
                refunded_at: Set(trade.refunded_at),
                ..Default::default()
            };
            trade::Entity::update(row)
                .exec(&tx)
                .await
                .map_err(|error| match error {
                    // MySQL counts rows that changed, and nothing may have.
                    DbErr::RecordNotUpdated => Error::aborted("SQL_CONFLICT", "another change came first, try again"),
                    error => into_error(error),
                })?;
            Ok(Some(trade))
        })
        .await
}
