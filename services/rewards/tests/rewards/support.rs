//! What the tests share: rewards, payments and ledger, with the embedded provider.

use std::time::Duration;

use mosaic::sql::sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use mosaic::{App, Context, Module, Result};
use mosaic_api::ledger::v1::{Account, BalanceRequest, LedgerClient};
use mosaic_api::payments::v1::{self as payments_api, PaymentsClient};
use mosaic_api::rewards::v1::{GetRequest, PreRewardRequest, PreRewardResponse, Reward, RewardState, RewardsClient};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys, until};

pub(crate) const PAYER: i64 = 5;
pub(crate) const AUTHOR: i64 = 6;

/// The public port, as the platform has it.
async fn edge(m: &mut Module) -> Result<()> {
    m.router(payments::router(m.runtime().clone(), m.client()));
    m.router(payments::dev_router(m.runtime().clone(), m.client()));
    Ok(())
}

pub(crate) fn builder(shape: Shape) -> TestAppBuilder {
    let app = App::new("content")
        .module("edge", edge)
        .module("payments", payments::install)
        .module("ledger", ledger::install)
        .module("rewards", rewards::install)
        .everywhere("keys", keys);
    TestApp::builder(app).shape(shape)
}

/// Calls in short.
pub(crate) struct Calls<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) cx: Context,
    pub(crate) rewards: RewardsClient,
    pub(crate) payments: PaymentsClient,
    pub(crate) ledger: LedgerClient,
}

impl<'a> Calls<'a> {
    pub(crate) fn of(app: &'a TestApp) -> Self {
        Self {
            app,
            cx: Context::new(app.runtime()),
            rewards: app.client("content"),
            payments: app.client("content"),
            ledger: app.client("content"),
        }
    }

    pub(crate) async fn open(&self, amount_fen: i64) -> PreRewardResponse {
        self.rewards.pre_reward(&self.cx, wish(amount_fen)).await.unwrap()
    }

    pub(crate) async fn get(&self, reward_id: i64, account_id: i64) -> Result<Reward> {
        self.rewards.get(&self.cx, GetRequest { reward_id, account_id }).await
    }

    pub(crate) async fn payment(&self, reward_id: i64) -> payments_api::Payment {
        let request = payments_api::GetRequest {
            biz: "reward".to_owned(),
            trade_no: format!("R{reward_id}"),
        };
        self.payments.get(&self.cx, request).await.unwrap()
    }

    /// Presses the button of the provider's page.
    pub(crate) async fn pay(&self, reward_id: i64, more: &str) {
        let form = format!("out_trade_no={}{more}", self.payment(reward_id).await.out_trade_no);
        let kind = "application/x-www-form-urlencoded";
        let reply = self.app.anonymous().post_text("/dev/wechat/pay", kind, form).await;
        assert_eq!(reply.status, 303, "{}", reply.text);
    }

    pub(crate) async fn refund(&self, reward_id: i64) {
        let request = payments_api::RefundRequest {
            biz: "reward".to_owned(),
            trade_no: format!("R{reward_id}"),
            refund_no: "F1".to_owned(),
            reason: "by mistake".to_owned(),
        };
        self.payments.refund(&self.cx, request).await.unwrap();
    }

    pub(crate) async fn balance(&self, kind: &str, owner: i64) -> i64 {
        let account = Some(Account {
            kind: kind.to_owned(),
            owner,
        });
        self.ledger
            .balance(&self.cx, BalanceRequest { account })
            .await
            .unwrap()
            .balance_fen
    }

    /// Returns the balances of author, payer (as an author), platform and the outside.
    pub(crate) async fn balances(&self) -> (i64, i64, i64, i64) {
        let author = self.balance("author", AUTHOR).await;
        let payer = self.balance("author", PAYER).await;
        (
            author,
            payer,
            self.balance("platform", 0).await,
            self.balance("wechat", 0).await,
        )
    }

    pub(crate) async fn becomes(&self, reward_id: i64, state: RewardState) {
        until("the reward is settled", Duration::from_secs(20), || async {
            self.get(reward_id, PAYER).await.unwrap().state() == state
        })
        .await;
    }
}

pub(crate) fn wish(amount_fen: i64) -> PreRewardRequest {
    PreRewardRequest {
        biz: "article".to_owned(),
        biz_id: 1,
        payer_id: PAYER,
        payee_id: AUTHOR,
        title: "How to <write>".to_owned(),
        amount_fen,
    }
}

/// Waits until the event of the payment and the task that follows from it are done with: nothing changes by itself any more.
pub(crate) async fn settled(app: &TestApp) {
    let db = open(app, "rewards").await;
    let sql = "SELECT 1 FROM mosaic_inbox WHERE NOT EXISTS \
               (SELECT 1 FROM mosaic_task WHERE kind = 'rewards.settle' AND finished_at IS NULL)";
    until(
        "what follows from the payment is done",
        Duration::from_secs(20),
        || async {
            let statement = Statement::from_string(db.get_database_backend(), sql);
            db.query_one_raw(statement).await.unwrap().is_some()
        },
    )
    .await;
    db.close().await.unwrap();
}

async fn open(app: &TestApp, module: &str) -> DatabaseConnection {
    let file = app.data(0).join(format!("{module}.db"));
    let url = format!("sqlite:{}?mode=rw", file.display());
    Database::connect(url).await.unwrap()
}

/// Changes a table of a module behind its back.
pub(crate) async fn tamper(app: &TestApp, module: &str, sql: &str) {
    let db = open(app, module).await;
    assert!(db.execute_unprepared(sql).await.unwrap().rows_affected() > 0, "{sql}");
    db.close().await.unwrap();
}
