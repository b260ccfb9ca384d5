//! Payments that stay silent: the provider is asked, for notices get lost.
//!
//! Each open payment has a time at which it is asked about next. A process that takes one puts that time off first, so that
//! instances do not ask twice and one that the provider chokes on does not stand in front of the others. What nobody has
//! paid in its time is closed at the provider *before* it fails here: a closed trade cannot be paid any more.

use std::sync::Arc;
use std::time::Duration;

use mosaic::tasks::{Periodic, Task, TaskContext};
use mosaic::{Context, Module, Result};
use serde::{Deserialize, Serialize};

use crate::model::{Payment, State, TradeState};
use crate::settle::{Fact, Settlement};
use crate::store;
use crate::wechat::WechatPay;

/// Payments that one run asks about at most; the next run takes the rest.
const BATCH: u64 = 200;
/// Clocks differ: a trade is closed a little after its time.
const CLOSE_AFTER: Duration = Duration::from_secs(30);

/// Asks the provider about payments. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sync {
    pub(crate) wechat: Arc<WechatPay>,
    pub(crate) settlement: Settlement,
}

impl Sync {
    /// Asks about one payment, applies what is said and returns the payment.
    ///
    /// # Errors
    /// Those of the provider and of the database.
    pub(crate) async fn ask(&self, cx: &Context, payment: Payment) -> Result<Payment> {
        match payment.state {
            State::Waiting => self.ask_trade(cx, payment).await,
            State::Paid if payment.refund.is_some() => self.ask_refund(cx, payment).await,
            State::Paid | State::Failed | State::Refunded => Ok(payment),
        }
    }

    async fn ask_trade(&self, cx: &Context, payment: Payment) -> Result<Payment> {
        let out_trade_no = payment.out_trade_no();
        let is_late = cx.runtime().now() > payment.expire.plus(CLOSE_AFTER);
        match self.wechat.query(cx, &out_trade_no).await? {
            Some(fact) if fact.state == TradeState::Open && is_late => {
                // Fails if somebody has paid in between: the next question finds that.
                self.wechat.close(cx, &out_trade_no).await?;
                self.settlement.apply(cx, &Fact::Expired(payment.id)).await
            }
            Some(fact) => self.settlement.apply(cx, &Fact::Trade(fact)).await,
            None if is_late => self.settlement.apply(cx, &Fact::Expired(payment.id)).await,
            None => Ok(payment),
        }
    }

    /// Asks about a refund that was begun, and for it again if the provider has not heard of it.
    async fn ask_refund(&self, cx: &Context, payment: Payment) -> Result<Payment> {
        let Some(out_refund_no) = payment.out_refund_no() else {
            return Ok(payment);
        };
        let fact = match self.wechat.query_refund(cx, &out_refund_no).await? {
            Some(fact) => fact,
            None => self.wechat.refund(cx, &payment).await?,
        };
        self.settlement.apply(cx, &Fact::Refund(fact)).await
    }

    /// Asks about all that are due, a batch of them.
    async fn run(&self, cx: &Context) -> Result<()> {
        let database = self.settlement.transactions.database();
        let now = cx.runtime().now();
        let silent = store::silent(database.connection(), now, BATCH).await?;
        for payment in silent {
            let ask = now.plus(self.settlement.silent_after);
            if !store::put_off(database.connection(), payment.id, now, ask).await? {
                continue;
            }
            let id = payment.id;
            let outcome = match self.ask(cx, payment).await {
                Ok(payment) if payment.is_open() => "open",
                Ok(_) => "settled",
                Err(error) => {
                    tracing::warn!(payment.id = %id, %error, cause = error.cause_chain(), "the provider did not help");
                    "failed"
                }
            };
            metrics::counter!("payments_asked_total", "outcome" => outcome).increment(1);
        }
        Ok(())
    }
}

/// Wires the task and its schedule up.
pub(crate) fn install(m: &mut Module, sync: &Sync) -> Result<()> {
    m.on_task::<AskSilent>(Arc::new(sync.clone()))?;
    m.periodic(Periodic::new("payments.ask_silent", "* * * * *", "UTC", &AskSilent {})?)
}

#[derive(Serialize, Deserialize)]
struct AskSilent {}

impl Task for AskSilent {
    const NAME: &'static str = "payments.ask_silent";
    type Needs = Sync;
    type Output = ();

    async fn run(self, sync: &Sync, cx: &TaskContext) -> Result<()> {
        sync.run(cx).await
    }
}
