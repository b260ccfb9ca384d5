//! What the tests share.

use mosaic::sql::sea_orm::{ConnectionTrait as _, Database, Statement};
use mosaic::{App, Context, Module, Result};
use mosaic_api::payments::v1::{GetRequest, Payment, PaymentKind, PaymentsClient, PrepayRequest};
use mosaic_testing::{Reply, TestApp, keys};

/// The public port, as the platform has it.
pub(crate) async fn edge(m: &mut Module) -> Result<()> {
    m.router(payments::router(m.runtime().clone(), m.client()));
    m.router(payments::dev_router(m.runtime().clone(), m.client()));
    Ok(())
}

pub(crate) fn app() -> App {
    App::new("shop")
        .module("edge", edge)
        .module("payments", payments::install)
        .everywhere("keys", keys)
}

pub(crate) fn client(app: &TestApp) -> PaymentsClient {
    app.client("content")
}

pub(crate) fn cx(app: &TestApp) -> Context {
    Context::new(app.runtime())
}

/// Asks for 100 fen by code.
pub(crate) fn native(trade_no: &str) -> PrepayRequest {
    PrepayRequest {
        biz: "test".to_owned(),
        trade_no: trade_no.to_owned(),
        account_id: 7,
        amount_fen: 100,
        description: "a <book> & \"more\"".to_owned(),
        kind: PaymentKind::Native.into(),
        open_id: String::new(),
    }
}

pub(crate) async fn payment(app: &TestApp, trade_no: &str) -> Payment {
    let request = GetRequest {
        biz: "test".to_owned(),
        trade_no: trade_no.to_owned(),
    };
    client(app)
        .get(&cx(app), request)
        .await
        .expect("a payment that is there")
}

/// Presses the button of a trade; `silent`: without a notification.
pub(crate) async fn press_pay(app: &TestApp, out_trade_no: &str, silent: bool) -> Reply {
    let form = format!("out_trade_no={out_trade_no}{}", if silent { "&silent=1" } else { "" });
    app.anonymous()
        .post_text("/dev/wechat/pay", "application/x-www-form-urlencoded", form)
        .await
}

/// Returns the events of payments in the outbox of the first process: what was told, however it is delivered.
pub(crate) async fn told(app: &TestApp) -> i64 {
    let file = app.data(0).join("payments.db");
    let url = format!("sqlite:{}?mode=ro", file.display());
    let db = Database::connect(url).await.expect("the database of payments");
    let sql = "SELECT (SELECT COUNT(*) FROM mosaic_outbox_waiting) + (SELECT COUNT(*) FROM mosaic_outbox_done) AS n";
    let row = db
        .query_one_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap();
    row.unwrap().try_get("", "n").unwrap()
}
