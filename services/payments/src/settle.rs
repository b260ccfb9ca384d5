//! What the provider says becomes what we know: one transaction for state and event, whoever brought the news.
//!
//! The row is locked, the [rules](crate::model) decide, and the change commits with its event. So notices that come a hundred
//! times at once change a state once, and a notice that finds no row (another merchant's, or a row that is not
//! committed yet) changes nothing and is to be repeated.

use std::time::Duration;

use mosaic::{Context, Result, Timestamp, Transactions, Tx};
use mosaic_api::events::{PaymentOutcome, PaymentSettled};

use crate::model::{
    Merchant, Parked, Payment, PaymentError, PaymentId, RefundFact, State, TradeFact, Verdict, decide_refund_fact,
    decide_trade, payment_of,
};
use crate::store;

/// What the provider says.
#[derive(Debug)]
pub(crate) enum Fact {
    Trade(TradeFact),
    Refund(RefundFact),
    /// We have closed the trade, or the provider never had it, and it cannot be paid any more.
    Expired(PaymentId),
}

impl Fact {
    fn payment(&self) -> Option<PaymentId> {
        match self {
            Self::Trade(fact) => payment_of(&fact.out_trade_no),
            Self::Refund(fact) => payment_of(&fact.out_trade_no),
            Self::Expired(id) => Some(*id),
        }
    }

    fn verdict(&self, payment: &Payment, merchant: &Merchant, now: Timestamp) -> Verdict {
        match self {
            Self::Trade(fact) => decide_trade(payment, fact, merchant, now),
            Self::Refund(fact) => decide_refund_fact(payment, fact, merchant),
            Self::Expired(_) if payment.state == State::Waiting => Verdict::Failed,
            Self::Expired(_) => Verdict::Nothing,
        }
    }
}

/// Applies facts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Settlement {
    pub(crate) transactions: Transactions,
    pub(crate) merchant: Merchant,
    pub(crate) silent_after: Duration,
}

impl Settlement {
    /// Applies `fact` and returns the payment as it is then.
    ///
    /// # Errors
    /// `NotFound` (`PAYMENT_NOT_FOUND`) if the provider speaks of what we do not have (yet).
    pub(crate) async fn apply(&self, cx: &Context, fact: &Fact) -> Result<Payment> {
        let id = fact.payment().ok_or(PaymentError::NotFound)?;
        let (payment, verdict) = self
            .transactions
            .run(|tx| async move {
                let payment = store::lock(&*tx, id).await?.ok_or(PaymentError::NotFound)?;
                let now = cx.runtime().now();
                let verdict = fact.verdict(&payment, &self.merchant, now);
                let payment = self.carry_out(cx, &tx, payment, &verdict).await?;
                Ok((payment, verdict))
            })
            .await?;
        note(&payment, &verdict);
        Ok(payment)
    }

    async fn carry_out(&self, cx: &Context, tx: &Tx, before: Payment, verdict: &Verdict) -> Result<Payment> {
        let now = cx.runtime().now();
        let mut payment = before.clone();
        let outcome = match verdict {
            Verdict::Nothing => None,
            Verdict::Paid { transaction_id, at } => {
                payment.state = State::Paid;
                payment.transaction_id = Some(transaction_id.clone());
                payment.paid = Some(*at);
                Some(PaymentOutcome::Paid)
            }
            Verdict::Failed => {
                payment.state = State::Failed;
                payment.failed = Some(now);
                Some(PaymentOutcome::Failed)
            }
            Verdict::Refunded => {
                payment.state = State::Refunded;
                payment.refunded = Some(now);
                Some(PaymentOutcome::Refunded)
            }
            Verdict::RefundOver => {
                payment.refund = None;
                None
            }
            Verdict::Park(reason) => {
                payment.parked.get_or_insert_with(|| Parked {
                    reason: (*reason).to_owned(),
                    at: now,
                });
                None
            }
        };
        if payment == before {
            return Ok(payment);
        }
        let ask = payment.is_open().then(|| now.plus(self.silent_after));
        store::save(&**tx, &payment, ask).await?;
        if let Some(outcome) = outcome {
            tx.publish(cx, &settled(&payment, outcome)).await?;
        }
        Ok(payment)
    }
}

fn settled(payment: &Payment, outcome: PaymentOutcome) -> PaymentSettled {
    PaymentSettled {
        biz: payment.order.biz.clone(),
        trade_no: payment.order.trade_no.clone(),
        outcome,
        amount_fen: payment.order.amount_fen,
    }
}

fn note(payment: &Payment, verdict: &Verdict) {
    let what = match verdict {
        Verdict::Nothing => return,
        Verdict::Paid { .. } => "paid",
        Verdict::Failed => "failed",
        Verdict::Refunded => "refunded",
        Verdict::RefundOver => "refund_over",
        Verdict::Park(reason) => {
            tracing::error!(payment.id = %payment.id, reason, "a payment is parked: somebody has to look");
            metrics::counter!("payments_parked_total", "reason" => *reason).increment(1);
            return;
        }
    };
    tracing::info!(payment.id = %payment.id, what, "a payment has ended");
    metrics::counter!("payments_settled_total", "outcome" => what).increment(1);
}
