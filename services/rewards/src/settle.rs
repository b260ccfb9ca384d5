//! What became of a payment becomes the reward's state, by way of the ledger.
//!
//! The ledger first, the state after it: a reward that says `PAYED` is booked. A crash between the two repeats the posting,
//! which is then the same one.

use std::sync::Arc;

use mosaic::events::HandleIn;
use mosaic::sql::Transaction;
use mosaic::tasks::{Task, TaskContext};
use mosaic::{Context, Module, Result, Timestamp, Transactions};
use mosaic_api::events::PaymentSettled;
use mosaic_api::ledger::v1::{Account, Entry as LedgerEntry, LedgerClient, PostRequest};
use mosaic_api::payments::v1::{GetRequest, Payment, PaymentState, PaymentsClient};
use serde::{Deserialize, Serialize};

use crate::model::{BIZ, Entry, Paid, Reward, RewardError, RewardId, State, entries, reversed};
use crate::store::Store;

/// Brings rewards on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Settlement {
    pub(crate) store: Store,
    pub(crate) payments: PaymentsClient,
    pub(crate) ledger: LedgerClient,
}

impl Settlement {
    /// Asks how the payment of `reward` stands and does what follows.
    ///
    /// # Errors
    /// Those of payments, ledger and database: to be tried again.
    pub(crate) async fn settle(&self, cx: &Context, reward: &Reward) -> Result<()> {
        let request = GetRequest {
            biz: BIZ.to_owned(),
            trade_no: reward.id.trade_no(),
        };
        let payment = self.payments.get(cx, request).await?;
        let now = cx.runtime().now();
        match paid(&payment) {
            Paid::Not => Ok(()),
            Paid::Failed => self.store.settle(now, reward.id, &[State::Init], State::Failed).await,
            Paid::Yes => self.book(cx, now, reward, &payment).await,
            Paid::Refunded => {
                self.book(cx, now, reward, &payment).await?;
                self.post(cx, reward.id.reversal(), reversed(entries(&reward.wish)))
                    .await?;
                let from = [State::Init, State::Payed, State::Failed];
                self.store.settle(now, reward.id, &from, State::Refunded).await
            }
        }
    }

    async fn book(&self, cx: &Context, now: Timestamp, reward: &Reward, payment: &Payment) -> Result<()> {
        if payment.amount_fen != reward.wish.amount_fen {
            // Never booked: it can only be a defect, and the reconciler names it.
            tracing::error!(reward.id = %reward.id, "reward and payment differ in the amount");
            return Ok(());
        }
        self.post(cx, reward.id.posting(), entries(&reward.wish)).await?;
        self.store
            .settle(now, reward.id, &[State::Init, State::Failed], State::Payed)
            .await
    }

    async fn post(&self, cx: &Context, biz_id: String, entries: Vec<Entry>) -> Result<()> {
        let entries = entries.into_iter().map(|(kind, owner, amount_fen)| LedgerEntry {
            account: Some(Account { kind, owner }),
            amount_fen,
        });
        let request = PostRequest {
            biz: BIZ.to_owned(),
            biz_id,
            entries: entries.collect(),
            floors: Vec::new(),
        };
        self.ledger.post(cx, request).await.map(drop)
    }
}

/// Returns how a payment stands.
pub(crate) fn paid(payment: &Payment) -> Paid {
    match payment.state() {
        PaymentState::Waiting | PaymentState::Unspecified => Paid::Not,
        PaymentState::Failed => Paid::Failed,
        PaymentState::Paid => Paid::Yes,
        PaymentState::Refunded => Paid::Refunded,
    }
}

/// Wires the consumer and its task up.
pub(crate) fn install(m: &mut Module, settlement: &Settlement) -> Result<()> {
    m.on_task::<SettleReward>(Arc::new(settlement.clone()))?;
    let transactions = m.transactions()?;
    m.on_event("rewards.payments", Arc::new(OnPayment { transactions }))
}

/// Hears how payments end; the work calls others, so it is a task.
struct OnPayment {
    transactions: Transactions,
}

impl HandleIn<PaymentSettled> for OnPayment {
    async fn handle(&self, cx: &Context, event: PaymentSettled, tx: &Transaction) -> Result<()> {
        if event.biz != BIZ {
            return Ok(());
        }
        let Some(id) = RewardId::of_trade_no(&event.trade_no) else {
            tracing::error!(trade_no = event.trade_no, "a payment for a reward that cannot be one");
            return Ok(());
        };
        self.transactions.within(tx).enqueue(cx, &SettleReward { id }).await?;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct SettleReward {
    id: RewardId,
}

impl Task for SettleReward {
    const NAME: &'static str = "rewards.settle";
    type Needs = Settlement;
    type Output = ();

    async fn run(self, settlement: &Settlement, cx: &TaskContext) -> Result<()> {
        let reward = settlement.store.find(self.id).await?;
        settlement.settle(cx, &reward.ok_or(RewardError::NotFound)?).await
    }
}
