//! The table of payments.

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, Table};
use mosaic::sql::sea_orm::{Condition, QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Schema, into_error, micros, timestamp, unique_violation};
use mosaic::{AccountId, Error, Result, Timestamp};

use crate::model::{Kind, Order, Parked, Payment, PaymentId, RefundAsked, State};

pub(crate) fn create_payment(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().to_owned();
    let text = |name: &'static str, len: u32| ColumnDef::new(name).string_len(len).not_null().to_owned();
    let maybe_number = |name: &'static str| ColumnDef::new(name).big_integer().to_owned();
    let maybe_text = |name: &'static str, len: u32| ColumnDef::new(name).string_len(len).to_owned();
    schema.run(
        Table::create()
            .table("payment")
            .col(number("id").primary_key())
            .col(text("biz", 32))
            .col(text("trade_no", 32))
            .col(number("account_id"))
            .col(number("amount_fen"))
            .col(text("description", 127))
            .col(text("kind", 16))
            .col(text("state", 16))
            .col(maybe_text("prepay", 512))
            .col(maybe_text("transaction_id", 64))
            .col(number("created_at"))
            .col(number("expire_at"))
            .col(maybe_number("paid_at"))
            .col(maybe_number("failed_at"))
            .col(maybe_number("refunded_at"))
            .col(maybe_text("refund_no", 64))
            .col(maybe_text("refund_reason", 80))
            .col(number("refund_attempt"))
            .col(maybe_text("parked_reason", 64))
            .col(maybe_number("parked_at"))
            .col(maybe_number("ask_at")),
    );
    let index = |name: &'static str, columns: &[&'static str]| {
        let mut index = Index::create();
        index.name(name).table("payment");
        for column in columns {
            index.col(*column);
        }
        index
    };
    schema.run(index("uq_payment_biz_trade_no", &["biz", "trade_no"]).unique());
    schema.run(&index("ix_payment_ask_at", &["ask_at"]));
    schema.run(&index("ix_payment_paid_at", &["paid_at"]));
    schema.run(&index("ix_payment_refunded_at", &["refunded_at"]));
    schema.run(&index("ix_payment_parked_at", &["parked_at"]));
}

mod payment {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "payment")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) biz: String,
        pub(super) trade_no: String,
        pub(super) account_id: i64,
        pub(super) amount_fen: i64,
        pub(super) description: String,
        pub(super) kind: String,
        pub(super) state: String,
        pub(super) prepay: Option<String>,
        pub(super) transaction_id: Option<String>,
        pub(super) created_at: i64,
        pub(super) expire_at: i64,
        pub(super) paid_at: Option<i64>,
        pub(super) failed_at: Option<i64>,
        pub(super) refunded_at: Option<i64>,
        pub(super) refund_no: Option<String>,
        pub(super) refund_reason: Option<String>,
        pub(super) refund_attempt: i64,
        pub(super) parked_reason: Option<String>,
        pub(super) parked_at: Option<i64>,
        pub(super) ask_at: Option<i64>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// A window of time and the page within it.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Empty: every one.
    pub(crate) biz: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Id of the last one seen.
    pub(crate) after: i64,
    pub(crate) limit: u64,
}

/// Inserts a new payment; `false` if its `(biz, trade_no)` is there.
pub(crate) async fn insert(db: &impl ConnectionTrait, payment: &Payment, ask: Timestamp) -> Result<bool> {
    let inserted = payment::Entity::insert(row(payment, Some(ask)))
        .exec_without_returning(db)
        .await;
    match inserted {
        Ok(_) => Ok(true),
        Err(error) => match unique_violation(&error) {
            Some(violation) if violation.is_on("payment", &["biz", "trade_no"]) => Ok(false),
            _ => Err(into_error(error)),
        },
    }
}

pub(crate) async fn find(db: &impl ConnectionTrait, biz: &str, trade_no: &str) -> Result<Option<Payment>> {
    let found = payment::Entity::find()
        .filter(payment::Column::Biz.eq(biz))
        .filter(payment::Column::TradeNo.eq(trade_no))
        .one(db)
        .await
        .map_err(into_error)?;
    found.map(read).transpose()
}

/// Reads a payment so that nobody else changes it in the meantime.
pub(crate) async fn lock(db: &impl ConnectionTrait, id: PaymentId) -> Result<Option<Payment>> {
    let found = payment::Entity::find_by_id(id.get())
        .lock_exclusive()
        .one(db)
        .await
        .map_err(into_error)?;
    found.map(read).transpose()
}

/// Stores a payment that was read with [`lock`] and changed; `ask`: when the provider is asked next.
pub(crate) async fn save(db: &impl ConnectionTrait, payment: &Payment, ask: Option<Timestamp>) -> Result<()> {
    let saved = payment::Entity::update(row(payment, ask)).exec(db).await;
    saved.map(drop).map_err(into_error)
}

/// Keeps what the provider gave for the payer, unless somebody was first.
pub(crate) async fn keep_prepay(db: &impl ConnectionTrait, id: PaymentId, prepay: &str) -> Result<()> {
    let kept = payment::Entity::update_many()
        .col_expr(payment::Column::Prepay, Expr::value(prepay))
        .filter(payment::Column::Id.eq(id.get()))
        .filter(payment::Column::Prepay.is_null())
        .exec(db)
        .await;
    kept.map(drop).map_err(into_error)
}

/// Returns payments about which the provider is to be asked by `now`, the most overdue first.
pub(crate) async fn silent(db: &impl ConnectionTrait, now: Timestamp, limit: u64) -> Result<Vec<Payment>> {
    let found = payment::Entity::find()
        .filter(payment::Column::AskAt.lte(micros(now)))
        .order_by_asc(payment::Column::AskAt)
        .limit(limit)
        .all(db)
        .await
        .map_err(into_error)?;
    found.into_iter().map(read).collect()
}

/// Puts the next question about a payment off; `false` if somebody else has.
pub(crate) async fn put_off(db: &impl ConnectionTrait, id: PaymentId, now: Timestamp, ask: Timestamp) -> Result<bool> {
    let put_off = payment::Entity::update_many()
        .col_expr(payment::Column::AskAt, Expr::value(micros(ask)))
        .filter(payment::Column::Id.eq(id.get()))
        .filter(payment::Column::AskAt.lte(micros(now)))
        .exec(db)
        .await
        .map_err(into_error)?;
    Ok(put_off.rows_affected > 0)
}

/// Returns payments that were paid or refunded in the window, by id.
pub(crate) async fn settled(db: &impl ConnectionTrait, page: &Page) -> Result<Vec<Payment>> {
    let within = |column: payment::Column| Condition::all().add(column.gte(page.from)).add(column.lt(page.to));
    let either = Condition::any()
        .add(within(payment::Column::PaidAt))
        .add(within(payment::Column::RefundedAt));
    list(db, page, either).await
}

/// Returns payments that were parked in the window, by id.
pub(crate) async fn parked(db: &impl ConnectionTrait, page: &Page) -> Result<Vec<Payment>> {
    let column = payment::Column::ParkedAt;
    let within = Condition::all().add(column.gte(page.from)).add(column.lt(page.to));
    list(db, page, within).await
}

async fn list(db: &impl ConnectionTrait, page: &Page, condition: Condition) -> Result<Vec<Payment>> {
    let mut query = payment::Entity::find()
        .filter(condition)
        .filter(payment::Column::Id.gt(page.after));
    if !page.biz.is_empty() {
        query = query.filter(payment::Column::Biz.eq(&page.biz));
    }
    let found = query
        .order_by_asc(payment::Column::Id)
        .limit(page.limit)
        .all(db)
        .await
        .map_err(into_error)?;
    found.into_iter().map(read).collect()
}

fn row(payment: &Payment, ask: Option<Timestamp>) -> payment::ActiveModel {
    let refund = payment.refund.as_ref();
    let parked = payment.parked.as_ref();
    payment::ActiveModel {
        id: Set(payment.id.get()),
        biz: Set(payment.order.biz.clone()),
        trade_no: Set(payment.order.trade_no.clone()),
        account_id: Set(payment.order.account.get()),
        amount_fen: Set(payment.order.amount_fen),
        description: Set(payment.order.description.clone()),
        kind: Set(kind_name(payment.order.kind).to_owned()),
        state: Set(state_name(payment.state).to_owned()),
        prepay: Set(payment.prepay.clone()),
        transaction_id: Set(payment.transaction_id.clone()),
        created_at: Set(micros(payment.created)),
        expire_at: Set(micros(payment.expire)),
        paid_at: Set(payment.paid.map(micros)),
        failed_at: Set(payment.failed.map(micros)),
        refunded_at: Set(payment.refunded.map(micros)),
        refund_no: Set(refund.map(|refund| refund.refund_no.clone())),
        refund_reason: Set(refund.map(|refund| refund.reason.clone())),
        refund_attempt: Set(payment.refund_attempt),
        parked_reason: Set(parked.map(|parked| parked.reason.clone())),
        parked_at: Set(parked.map(|parked| micros(parked.at))),
        ask_at: Set(ask.map(micros)),
    }
}

fn read(row: payment::Model) -> Result<Payment> {
    let refund = row.refund_no.map(|refund_no| RefundAsked {
        refund_no,
        reason: row.refund_reason.unwrap_or_default(),
    });
    let parked = row.parked_reason.zip(row.parked_at);
    Ok(Payment {
        id: PaymentId::try_from(row.id)?,
        order: Order {
            biz: row.biz,
            trade_no: row.trade_no,
            account: AccountId::try_from(row.account_id)?,
            amount_fen: row.amount_fen,
            description: row.description,
            kind: kind_of(&row.kind)?,
        },
        state: state_of(&row.state)?,
        prepay: row.prepay,
        transaction_id: row.transaction_id,
        created: timestamp(row.created_at),
        expire: timestamp(row.expire_at),
        paid: row.paid_at.map(timestamp),
        failed: row.failed_at.map(timestamp),
        refunded: row.refunded_at.map(timestamp),
        refund,
        refund_attempt: row.refund_attempt,
        parked: parked.map(|(reason, at)| Parked {
            reason,
            at: timestamp(at),
        }),
    })
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Native => "native",
        Kind::Jsapi => "jsapi",
    }
}

fn kind_of(name: &str) -> Result<Kind> {
    match name {
        "native" => Ok(Kind::Native),
        "jsapi" => Ok(Kind::Jsapi),
        other => Err(Error::internal(format!("no kind of payment is called {other:?}"))),
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Paid => "paid",
        State::Failed => "failed",
        State::Refunded => "refunded",
    }
}

fn state_of(name: &str) -> Result<State> {
    match name {
        "waiting" => Ok(State::Waiting),
        "paid" => Ok(State::Paid),
        "failed" => Ok(State::Failed),
        "refunded" => Ok(State::Refunded),
        other => Err(Error::internal(format!("no state of a payment is called {other:?}"))),
    }
}
