//! What a payment is, and what follows from what the provider says of it.
//!
//! The provider speaks of a trade as often as it likes, in any order: notices that are repeated, late or out of order, and
//! answers to our questions. So there is one rule from (payment, fact) to a verdict, whoever brought the fact. A state
//! changes at most once in each of the steps below, and only by a fact whose merchant, app, currency and amount are those of
//! the payment. Everything that cannot be is not decided here: the payment is parked for a human and keeps its state.
//!
//! ```text
//! Waiting -> Paid -> Refunded
//! Waiting -> Failed
//! ```

use mosaic::{AccountId, Error, Timestamp};

mosaic::id_type! {
    /// Identifies a payment.
    pub(crate) struct PaymentId;
}

/// The only currency there is here.
pub(crate) const CURRENCY: &str = "CNY";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Paid,
    Failed,
    Refunded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Native,
    Jsapi,
}

/// What is to be paid, as a product asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) biz: String,
    pub(crate) trade_no: String,
    pub(crate) account: AccountId,
    pub(crate) amount_fen: i64,
    pub(crate) description: String,
    pub(crate) kind: Kind,
}

/// A refund that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefundAsked {
    /// The product's number.
    pub(crate) refund_no: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) id: PaymentId,
    pub(crate) order: Order,
    pub(crate) state: State,
    /// What the provider gave for the payer: a code or the id of a prepaid trade.
    pub(crate) prepay: Option<String>,
    pub(crate) transaction_id: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) expire: Timestamp,
    pub(crate) paid: Option<Timestamp>,
    pub(crate) failed: Option<Timestamp>,
    pub(crate) refunded: Option<Timestamp>,
    pub(crate) refund: Option<RefundAsked>,
    /// Counts refunds: the provider wants a new number after it has closed one.
    pub(crate) refund_attempt: i64,
    pub(crate) parked: Option<Parked>,
}

/// Why a payment waits for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

impl Payment {
    /// Returns the number under which the provider knows the trade: unique at the merchant, whatever products call theirs.
    pub(crate) fn out_trade_no(&self) -> String {
        format!("M{}", self.id)
    }

    /// Returns the number under which the provider knows the refund.
    pub(crate) fn out_refund_no(&self) -> Option<String> {
        self.refund.as_ref()?;
        Some(format!("{}-{}", self.out_trade_no(), self.refund_attempt))
    }

    /// Is the provider to be asked about it?
    pub(crate) fn is_open(&self) -> bool {
        self.parked.is_none()
            && match self.state {
                State::Waiting => true,
                State::Paid => self.refund.is_some(),
                State::Failed | State::Refunded => false,
            }
    }
}

/// Returns the payment that the provider's number speaks of.
pub(crate) fn payment_of(out_trade_no: &str) -> Option<PaymentId> {
    out_trade_no.strip_prefix('M')?.parse().ok()
}

/// Who we are at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merchant {
    pub(crate) merchant_id: String,
    pub(crate) app_id: String,
}

/// How the provider says a trade stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TradeState {
    /// Nobody has paid yet.
    Open,
    Paid,
    /// Closed, revoked or failed for good.
    Over,
    /// Paid, and given back in part or whole.
    Refunding,
}

/// What the provider says of a trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TradeFact {
    pub(crate) out_trade_no: String,
    pub(crate) merchant: Merchant,
    pub(crate) state: TradeState,
    /// Absent as long as nobody has paid.
    pub(crate) amount: Option<Amount>,
    pub(crate) transaction_id: Option<String>,
    pub(crate) paid: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) fen: i64,
    pub(crate) currency: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefundState {
    Processing,
    Done,
    /// The provider has given up; another one may be asked for.
    Closed,
    /// The money could not be delivered: a human has to.
    Abnormal,
}

/// What the provider says of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefundFact {
    pub(crate) out_trade_no: String,
    pub(crate) out_refund_no: String,
    /// Only notices say it.
    pub(crate) merchant_id: Option<String>,
    pub(crate) state: RefundState,
    pub(crate) refund_fen: i64,
    pub(crate) total_fen: i64,
}

/// What follows from a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Known already, or nothing new.
    Nothing,
    // Waiting -> Paid
    Paid {
        transaction_id: String,
        at: Timestamp,
    },
    // Waiting -> Failed
    Failed,
    // Paid -> Refunded
    Refunded,
    /// Stays paid; the refund may be asked for again.
    RefundOver,
    /// Cannot be: a human has to look.
    Park(&'static str),
}

/// Decides what follows for `payment` from what the provider says of its trade.
pub(crate) fn decide_trade(payment: &Payment, fact: &TradeFact, merchant: &Merchant, now: Timestamp) -> Verdict {
    if fact.merchant.merchant_id != merchant.merchant_id {
        return Verdict::Park("merchant_differs");
    }
    if fact.merchant.app_id != merchant.app_id {
        return Verdict::Park("app_differs");
    }
    if let Some(amount) = &fact.amount {
        if amount.currency != CURRENCY {
            return Verdict::Park("currency_differs");
        }
        if amount.fen != payment.order.amount_fen {
            return Verdict::Park("amount_differs");
        }
    }
    match (payment.state, fact.state) {
        (_, TradeState::Open) | (State::Failed, TradeState::Over) => Verdict::Nothing,
        (State::Waiting, TradeState::Paid) => paid(fact, now),
        (State::Waiting, TradeState::Over) => Verdict::Failed,
        (State::Paid | State::Refunded, TradeState::Paid | TradeState::Refunding) => {
            if fact.transaction_id.is_some() && fact.transaction_id != payment.transaction_id {
                Verdict::Park("paid_twice")
            } else {
                Verdict::Nothing
            }
        }
        (State::Waiting, TradeState::Refunding) => Verdict::Park("refunded_elsewhere"),
        (State::Paid | State::Refunded, TradeState::Over) => Verdict::Park("closed_after_payment"),
        (State::Failed, TradeState::Paid | TradeState::Refunding) => Verdict::Park("paid_after_failure"),
    }
}

fn paid(fact: &TradeFact, now: Timestamp) -> Verdict {
    match (&fact.transaction_id, &fact.amount) {
        (Some(transaction_id), Some(_)) => Verdict::Paid {
            transaction_id: transaction_id.clone(),
            at: fact.paid.unwrap_or(now),
        },
        (None, _) => Verdict::Park("no_transaction"),
        (_, None) => Verdict::Park("no_amount"),
    }
}

/// Decides what follows for `payment` from what the provider says of its refund.
pub(crate) fn decide_refund_fact(payment: &Payment, fact: &RefundFact, merchant: &Merchant) -> Verdict {
    let is_other_merchant = fact.merchant_id.as_ref().is_some_and(|id| *id != merchant.merchant_id);
    if is_other_merchant {
        return Verdict::Park("merchant_differs");
    }
    let attempt = fact
        .out_refund_no
        .rsplit_once('-')
        .and_then(|(_, n)| n.parse::<i64>().ok());
    let is_closed_before = attempt.is_some_and(|attempt| {
        attempt < payment.refund_attempt || (attempt == payment.refund_attempt && payment.refund.is_none())
    });
    if is_closed_before && fact.state == RefundState::Closed {
        return Verdict::Nothing; // a late word about one that was over long ago
    }
    if payment.out_refund_no().as_ref() != Some(&fact.out_refund_no) {
        return Verdict::Park("refund_unknown");
    }
    let is_whole = fact.refund_fen == payment.order.amount_fen && fact.total_fen == payment.order.amount_fen;
    if !is_whole {
        return Verdict::Park("refund_amount_differs");
    }
    match (payment.state, fact.state) {
        (State::Paid, RefundState::Done) => Verdict::Refunded,
        (State::Paid, RefundState::Closed) => Verdict::RefundOver,
        (State::Paid, RefundState::Abnormal) => Verdict::Park("refund_abnormal"),
        (State::Paid, RefundState::Processing) | (State::Refunded, RefundState::Done | RefundState::Processing) => {
            Verdict::Nothing
        }
        (State::Refunded, RefundState::Closed | RefundState::Abnormal) => Verdict::Park("refund_reversed"),
        (State::Waiting | State::Failed, _) => Verdict::Park("refund_unpaid"),
    }
}

/// What a wish for a refund leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefundStep {
    /// It is refunded, by this very wish.
    Done,
    /// It was asked for; ask the provider again, under the same number.
    Again,
    /// Ask the provider, under a new number.
    Begin,
}

/// Why nothing is given back, or prepaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PaymentError {
    #[error("no such payment")]
    NotFound,
    #[error("the trade has another amount, account or kind")]
    Differs,
    #[error("the payment is over")]
    Over,
    #[error("only what was paid can be given back")]
    NotPaid,
    #[error("another refund was asked for")]
    OtherRefund,
    #[error("the payment waits for a human")]
    Parked,
    #[error("a payment in the app needs an open id")]
    NoOpenId,
}

impl From<PaymentError> for Error {
    fn from(error: PaymentError) -> Self {
        let message = error.to_string();
        match error {
            PaymentError::NotFound => Self::not_found("PAYMENT_NOT_FOUND", message),
            PaymentError::Differs => Self::already_exists("PAYMENT_DIFFERS", message),
            PaymentError::Over => Self::failed_precondition("PAYMENT_OVER", message),
            PaymentError::NotPaid => Self::failed_precondition("PAYMENT_NOT_PAID", message),
            PaymentError::OtherRefund => Self::failed_precondition("PAYMENT_OTHER_REFUND", message),
            PaymentError::Parked => Self::failed_precondition("PAYMENT_PARKED", message),
            PaymentError::NoOpenId => Self::invalid_argument("OPEN_ID_NEEDED", message),
        }
    }
}

/// Decides whether what is asked for again is what is there, and still to be paid.
pub(crate) fn check_again(payment: &Payment, order: &Order) -> Result<(), PaymentError> {
    let there = &payment.order;
    let is_same = there.amount_fen == order.amount_fen && there.account == order.account && there.kind == order.kind;
    match (is_same, payment.state) {
        (false, _) => Err(PaymentError::Differs),
        (true, State::Waiting) => Ok(()),
        (true, State::Paid | State::Failed | State::Refunded) => Err(PaymentError::Over),
    }
}

/// Decides what a wish to give everything back leads to.
pub(crate) fn decide_refund(payment: &Payment, refund_no: &str) -> Result<RefundStep, PaymentError> {
    let is_this = payment
        .refund
        .as_ref()
        .is_some_and(|asked| asked.refund_no == refund_no);
    match (payment.state, &payment.refund) {
        (State::Refunded, _) if is_this => Ok(RefundStep::Done),
        (State::Waiting | State::Failed | State::Refunded, _) => Err(PaymentError::NotPaid),
        (State::Paid, _) if payment.parked.is_some() => Err(PaymentError::Parked),
        (State::Paid, Some(_)) if is_this => Ok(RefundStep::Again),
        (State::Paid, Some(_)) => Err(PaymentError::OtherRefund),
        (State::Paid, None) => Ok(RefundStep::Begin),
    }
}

#[cfg(test)]
mod tests;
