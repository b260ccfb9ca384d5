//! The JSON of API v3, as far as it is needed: what we send and read, and what the embedded provider reads and sends.

use serde::{Deserialize, Serialize};

use crate::model::{Amount, Merchant, RefundFact, RefundState, TradeFact, TradeState};

/// An amount as asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TotalAmount {
    pub(crate) total: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) currency: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payer {
    pub(crate) openid: String,
}

/// `POST /v3/pay/transactions/{native,jsapi}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PrepayBody {
    pub(crate) appid: String,
    pub(crate) mchid: String,
    pub(crate) description: String,
    pub(crate) out_trade_no: String,
    pub(crate) time_expire: String,
    pub(crate) notify_url: String,
    pub(crate) amount: TotalAmount,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payer: Option<Payer>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CodeAnswer {
    pub(crate) code_url: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PrepayAnswer {
    pub(crate) prepay_id: String,
}

/// `POST .../close`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CloseBody {
    pub(crate) mchid: String,
}

/// A trade, as answered and notified.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trade {
    pub(crate) appid: String,
    pub(crate) mchid: String,
    pub(crate) out_trade_no: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transaction_id: Option<String>,
    pub(crate) trade_state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) success_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<TotalAmount>,
}

impl Trade {
    /// Returns what it says; `None` for a state that this release does not know.
    pub(crate) fn into_fact(self) -> Option<TradeFact> {
        let state = match self.trade_state.as_str() {
            "SUCCESS" => TradeState::Paid,
            "NOTPAY" | "USERPAYING" | "ACCEPT" => TradeState::Open,
            "CLOSED" | "REVOKED" | "PAYERROR" => TradeState::Over,
            "REFUND" => TradeState::Refunding,
            _ => return None,
        };
        // Amounts have a currency in notices and answers; without one there would be nothing to compare.
        let amount = self.amount.map(|amount| Amount {
            fen: amount.total,
            currency: amount.currency.unwrap_or_default(),
        });
        Some(TradeFact {
            out_trade_no: self.out_trade_no,
            merchant: Merchant {
                merchant_id: self.mchid,
                app_id: self.appid,
            },
            state,
            // Some answers about a trade nobody has paid carry an amount without a payer's part; it decides nothing.
            amount: amount.filter(|_| matches!(state, TradeState::Paid | TradeState::Refunding)),
            transaction_id: self.transaction_id.filter(|id| !id.is_empty()),
            paid: self.success_time.and_then(|time| time.parse().ok()),
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefundAmount {
    pub(crate) refund: i64,
    pub(crate) total: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) currency: Option<String>,
}

/// `POST /v3/refund/domestic/refunds`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefundBody {
    pub(crate) out_trade_no: String,
    pub(crate) out_refund_no: String,
    pub(crate) reason: String,
    pub(crate) notify_url: String,
    pub(crate) amount: RefundAmount,
}

/// A refund, as answered (`status`) and notified (`refund_status`, `mchid`).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefundWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mchid: Option<String>,
    pub(crate) out_trade_no: String,
    pub(crate) out_refund_no: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refund_status: Option<String>,
    pub(crate) amount: RefundAmount,
}

impl RefundWire {
    /// Returns what it says; `None` for a state that this release does not know.
    pub(crate) fn into_fact(self) -> Option<RefundFact> {
        let state = match self.status.or(self.refund_status)?.as_str() {
            "SUCCESS" => RefundState::Done,
            "PROCESSING" => RefundState::Processing,
            "CLOSED" => RefundState::Closed,
            "ABNORMAL" => RefundState::Abnormal,
            _ => return None,
        };
        Some(RefundFact {
            out_trade_no: self.out_trade_no,
            out_refund_no: self.out_refund_no,
            merchant_id: self.mchid,
            state,
            refund_fen: self.amount.refund,
            total_fen: self.amount.total,
        })
    }
}

/// A notification: what happened is in the sealed resource.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoticeBody {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) resource: Resource,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resource {
    pub(crate) algorithm: String,
    pub(crate) original_type: String,
    pub(crate) ciphertext: String,
    #[serde(default)]
    pub(crate) associated_data: String,
    pub(crate) nonce: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BillAnswer {
    pub(crate) hash_type: String,
    pub(crate) hash_value: String,
    pub(crate) download_url: String,
}

/// How a refusal looks; also what WeChat wants to read from us when a notification is not taken.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RefusalBody {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
}
