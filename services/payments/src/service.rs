//! The contract over rules, store and provider.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{AccountId, Context, Error, Result};
use mosaic_api::payments::v1::{
    BillLine, GetBillRequest, GetBillResponse, GetRequest, HttpAnswer, HttpRequest, JsapiParams, ListParkedRequest,
    ListParkedResponse, ListSettledRequest, ListSettledResponse, Payment as Shown, PaymentKind, PaymentState, Payments,
    Prepaid, PrepayRequest, RefundRequest, SyncRequest,
};

use crate::embedded::Embedded;
use crate::exchange;
use crate::model::{
    Kind, Order, Payment, PaymentError, PaymentId, RefundAsked, RefundStep, State, check_again, decide_refund,
};
use crate::settle::{Fact, Settlement};
use crate::store::{self, Page};
use crate::sync::Sync;
use crate::wechat::WechatPay;

/// Lines of a bill that one answer has.
const BILL_PAGE: usize = 2_000;
const PAGE_DEFAULT: u32 = 100;

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) desk: Option<Desk>,
    pub(crate) settlement: Settlement,
    pub(crate) expire_after: Duration,
}

/// Where money is taken: absent in a production without a merchant.
pub(crate) struct Desk {
    pub(crate) wechat: Arc<WechatPay>,
    pub(crate) sync: Sync,
    /// The provider itself, if it is the embedded one.
    pub(crate) embedded: Option<Embedded>,
}

impl Service {
    fn desk(&self) -> Result<&Desk> {
        let closed = || Error::failed_precondition("PAYMENTS_OFF", "no payment provider is configured");
        self.desk.as_ref().ok_or_else(closed)
    }

    async fn find(&self, biz: &str, trade_no: &str) -> Result<Payment> {
        let db = self.settlement.transactions.database().connection();
        let found = store::find(db, biz, trade_no).await?;
        Ok(found.ok_or(PaymentError::NotFound)?)
    }

    /// Returns the payment of `order`, new or as it was; the unique index decides who is first.
    async fn open(&self, cx: &Context, order: &Order) -> Result<Payment> {
        let db = self.settlement.transactions.database().connection();
        if let Some(there) = store::find(db, &order.biz, &order.trade_no).await? {
            check_again(&there, order)?;
            return Ok(there);
        }
        let now = cx.runtime().now();
        let payment = Payment {
            id: PaymentId::new(cx.runtime()),
            order: order.clone(),
            state: State::Waiting,
            prepay: None,
            transaction_id: None,
            created: now,
            expire: now.plus(self.expire_after),
            paid: None,
            failed: None,
            refunded: None,
            refund: None,
            refund_attempt: 0,
            parked: None,
        };
        if store::insert(db, &payment, now.plus(self.settlement.silent_after)).await? {
            return Ok(payment);
        }
        let there = self.find(&order.biz, &order.trade_no).await?;
        check_again(&there, order)?;
        Ok(there)
    }

    /// Notes that a refund is wanted, and returns what the provider is to be asked for; `None` if it is done.
    async fn begin_refund(&self, cx: &Context, request: &RefundRequest) -> Result<(Payment, RefundStep)> {
        let id = self.find(&request.biz, &request.trade_no).await?.id;
        self.settlement
            .transactions
            .run(|tx| async move {
                let mut payment = store::lock(&*tx, id).await?.ok_or(PaymentError::NotFound)?;
                let step = decide_refund(&payment, &request.refund_no)?;
                if step == RefundStep::Begin {
                    payment.refund_attempt += 1;
                    payment.refund = Some(RefundAsked {
                        refund_no: request.refund_no.clone(),
                        reason: request.reason.clone(),
                    });
                    let ask = cx.runtime().now().plus(self.settlement.silent_after);
                    store::save(&*tx, &payment, Some(ask)).await?;
                }
                Ok((payment, step))
            })
            .await
    }
}

#[mosaic::async_trait]
impl Payments for Service {
    async fn prepay(&self, cx: &Context, request: PrepayRequest) -> Result<Prepaid> {
        let desk = self.desk()?;
        let open_id = request.open_id.clone();
        let order = order(request)?;
        if order.kind == Kind::Jsapi && open_id.is_empty() {
            return Err(PaymentError::NoOpenId.into());
        }
        let mut payment = self.open(cx, &order).await?;
        if cx.runtime().now() >= payment.expire {
            return Err(PaymentError::Over.into());
        }
        if payment.prepay.is_none() {
            let prepay = desk.wechat.prepay(cx, &payment, &open_id).await?;
            let db = self.settlement.transactions.database().connection();
            store::keep_prepay(db, payment.id, &prepay).await?;
            payment = self.find(&order.biz, &order.trade_no).await?;
        }
        let prepay = payment.prepay.unwrap_or_default();
        let expire_at_us = payment.expire.as_micros();
        match order.kind {
            Kind::Native => Ok(Prepaid {
                code_url: prepay,
                jsapi: None,
                expire_at_us,
            }),
            Kind::Jsapi => Ok(Prepaid {
                code_url: String::new(),
                jsapi: Some(jsapi(cx, &desk.wechat, &prepay)?),
                expire_at_us,
            }),
        }
    }

    async fn get(&self, _: &Context, request: GetRequest) -> Result<Shown> {
        self.find(&request.biz, &request.trade_no).await.map(shown)
    }

    async fn sync(&self, cx: &Context, request: SyncRequest) -> Result<Shown> {
        let payment = self.find(&request.biz, &request.trade_no).await?;
        self.desk()?.sync.ask(cx, payment).await.map(shown)
    }

    async fn refund(&self, cx: &Context, request: RefundRequest) -> Result<Shown> {
        let desk = self.desk()?;
        let (payment, step) = self.begin_refund(cx, &request).await?;
        if step == RefundStep::Done {
            return Ok(shown(payment));
        }
        let fact = desk.wechat.refund(cx, &payment).await?;
        self.settlement.apply(cx, &Fact::Refund(fact)).await.map(shown)
    }

    async fn list_settled(&self, _: &Context, request: ListSettledRequest) -> Result<ListSettledResponse> {
        let ListSettledRequest {
            biz,
            from_us,
            to_us,
            cursor,
            limit,
        } = request;
        let page = page(biz, (from_us, to_us), &cursor, limit)?;
        let found = store::settled(self.settlement.transactions.database().connection(), &page).await?;
        let next_cursor = next_cursor(&found, &page);
        Ok(ListSettledResponse {
            payments: found.into_iter().map(shown).collect(),
            next_cursor,
        })
    }

    async fn list_parked(&self, _: &Context, request: ListParkedRequest) -> Result<ListParkedResponse> {
        let ListParkedRequest {
            biz,
            from_us,
            to_us,
            cursor,
            limit,
        } = request;
        let page = page(biz, (from_us, to_us), &cursor, limit)?;
        let found = store::parked(self.settlement.transactions.database().connection(), &page).await?;
        let next_cursor = next_cursor(&found, &page);
        Ok(ListParkedResponse {
            payments: found.into_iter().map(shown).collect(),
            next_cursor,
        })
    }

    async fn notify(&self, cx: &Context, request: HttpRequest) -> Result<HttpAnswer> {
        let desk = self.desk()?;
        let request = exchange::request(request)?;
        let answer = exchange::notified(cx, &desk.wechat, &self.settlement, &request).await;
        Ok(exchange::answer(answer))
    }

    async fn simulate(&self, cx: &Context, request: HttpRequest) -> Result<HttpAnswer> {
        let none = || Error::not_found("NO_EMBEDDED_PROVIDER", "the payment provider is not the embedded one");
        let desk = self.desk()?;
        let embedded = desk.embedded.as_ref().ok_or_else(none)?;
        let reaction = embedded.react(cx, &exchange::request(request)?).await?;
        if let Some(notice) = reaction.notice {
            let answer = exchange::notified(cx, &desk.wechat, &self.settlement, &notice).await;
            tracing::info!(
                status = answer.status().as_u16(),
                "the embedded provider has sent a notification"
            );
        }
        Ok(exchange::answer(reaction.answer))
    }

    async fn get_bill(&self, cx: &Context, request: GetBillRequest) -> Result<GetBillResponse> {
        let lines = self.desk()?.wechat.bill(cx, &request.date).await?;
        let begin = usize::try_from(request.offset).unwrap_or(usize::MAX).min(lines.len());
        let end = begin.saturating_add(BILL_PAGE).min(lines.len());
        let next_offset = if end < lines.len() {
            u32::try_from(end).unwrap_or(0)
        } else {
            0
        };
        let shown = lines[begin..end].iter().map(|line| BillLine {
            out_trade_no: line.out_trade_no.clone(),
            transaction_id: line.transaction_id.clone(),
            trade_state: line.trade_state.clone(),
            amount_fen: line.amount_fen,
            refund_fen: line.refund_fen,
        });
        Ok(GetBillResponse {
            lines: shown.collect(),
            next_offset,
        })
    }
}

fn order(request: PrepayRequest) -> Result<Order> {
    let kind = match request.kind() {
        PaymentKind::Jsapi => Kind::Jsapi,
        PaymentKind::Native | PaymentKind::Unspecified => Kind::Native,
    };
    Ok(Order {
        biz: request.biz,
        trade_no: request.trade_no,
        account: AccountId::try_from(request.account_id)?,
        amount_fen: request.amount_fen,
        description: request.description,
        kind,
    })
}

fn jsapi(cx: &Context, wechat: &WechatPay, prepay_id: &str) -> Result<JsapiParams> {
    let signed = wechat.sign_jsapi(cx.runtime(), prepay_id)?;
    Ok(JsapiParams {
        app_id: signed.app_id,
        timestamp: signed.timestamp,
        nonce: signed.nonce,
        package: signed.package,
        sign_type: "RSA".to_owned(),
        pay_sign: signed.pay_sign,
    })
}

fn page(biz: String, (from, to): (i64, i64), cursor: &str, limit: u32) -> Result<Page> {
    let invalid = |_| Error::invalid_argument("CURSOR_INVALID", "the cursor is not one of ours");
    let after = if cursor.is_empty() {
        0
    } else {
        cursor.parse().map_err(invalid)?
    };
    let limit = if limit == 0 { PAGE_DEFAULT } else { limit };
    Ok(Page {
        biz,
        from,
        to,
        after,
        limit: limit.into(),
    })
}

fn next_cursor(found: &[Payment], page: &Page) -> String {
    let is_full = found.len() as u64 == page.limit;
    let last = found.last().filter(|_| is_full);
    last.map_or_else(String::new, |payment| payment.id.to_string())
}

fn shown(payment: Payment) -> Shown {
    let us = |time: Option<mosaic::Timestamp>| time.map_or(0, mosaic::Timestamp::as_micros);
    let kind = match payment.order.kind {
        Kind::Native => PaymentKind::Native,
        Kind::Jsapi => PaymentKind::Jsapi,
    };
    let state = match payment.state {
        State::Waiting => PaymentState::Waiting,
        State::Paid => PaymentState::Paid,
        State::Failed => PaymentState::Failed,
        State::Refunded => PaymentState::Refunded,
    };
    Shown {
        out_trade_no: payment.out_trade_no(),
        account_id: payment.order.account.get(),
        amount_fen: payment.order.amount_fen,
        kind: kind.into(),
        state: state.into(),
        created_at_us: payment.created.as_micros(),
        paid_at_us: us(payment.paid),
        failed_at_us: us(payment.failed),
        refunded_at_us: us(payment.refunded),
        biz: payment.order.biz,
        trade_no: payment.order.trade_no,
        transaction_id: payment.transaction_id.unwrap_or_default(),
        refund_no: payment.refund.map_or_else(String::new, |refund| refund.refund_no),
        parked_reason: payment.parked.map_or_else(String::new, |parked| parked.reason),
    }
}
