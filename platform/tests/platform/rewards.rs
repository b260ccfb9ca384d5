//! A reader pays an author: from the code to the books.

use mosaic::Context;
use mosaic_api::ledger::v1::{Account, BalanceRequest, LedgerClient};
use mosaic_testing::{Shape, TestApp, in_every_shape, until};
use serde_json::{Value, json};

use crate::articles::{PATIENCE, publish, read, two};
use crate::support::{APART, User, failure, start};

in_every_shape!(APART; a_reward_reaches_its_author, what_is_no_reward);

async fn begin(user: &User, article: i64, fen: i64) -> Value {
    let body = json!({"id": article, "amt": fen});
    user.caller.post("/articles/pub/reward", body).await.json()
}

async fn detail(user: &User, rid: i64) -> Value {
    user.caller.post("/reward/detail", json!({"rid": rid})).await.json()
}

async fn balance(app: &TestApp, kind: &str, owner: i64) -> i64 {
    let account = Account {
        kind: kind.to_owned(),
        owner,
    };
    let request = BalanceRequest { account: Some(account) };
    let ledger: LedgerClient = app.client("content");
    ledger
        .balance(&Context::new(app.runtime()), request)
        .await
        .unwrap()
        .balance_fen
}

/// Presses the button beside the only trade that is to be paid, as a person does.
async fn press_pay(app: &TestApp) {
    let page = app.anonymous().get("/dev/wechat").await.text;
    let mut buttons = page.split("name=out_trade_no value=\"").skip(1);
    let trade = buttons.next().and_then(|rest| rest.split('"').next());
    let form = format!("out_trade_no={}", trade.expect("a trade to be paid"));
    assert!(buttons.next().is_none(), "{page}");
    let kind = "application/x-www-form-urlencoded";
    let pressed = app.anonymous().post_text("/dev/wechat/pay", kind, form).await;
    assert_eq!(pressed.status, 303, "{}", pressed.text);
}

async fn a_reward_reaches_its_author(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let article = publish(&author, 0, "值得一读", "内容").await;
    let author_id = read(&reader, article).await["data"]["authorId"].as_i64().unwrap();
    let begun = begin(&reader, article, 199).await;
    assert_eq!((&begun["code"], &begun["msg"]), (&json!(0), &json!("OK")));
    let url = begun["data"]["codeURL"].as_str().expect("a code");
    assert!(url.starts_with("weixin://wxpay/bizpayurl"), "{url}");
    assert_eq!(begin(&reader, article, 199).await, begun, "the code is kept");
    let rid = begun["data"]["rid"].as_i64().expect("a reward");
    let ok = |status: &str| json!({"code": 0, "msg": "OK", "data": status});
    assert_eq!(detail(&reader, rid).await, ok("RewardStatusInit"));

    press_pay(&app).await;
    until("the reward is payed", PATIENCE, || async {
        detail(&reader, rid).await == ok("RewardStatusPayed")
    })
    .await;
    until("the books have it", PATIENCE, || async {
        balance(&app, "author", author_id).await == 180
    })
    .await;
    assert_eq!(balance(&app, "platform", 0).await, 19);
    assert_eq!(balance(&app, "wechat", 0).await, -199);
    assert_eq!(detail(&author, rid).await, failure(5, "系统错误"), "another's");
    app.stop().await;
}

async fn what_is_no_reward(shape: Shape) {
    let app = start(shape).await;
    let (author, reader) = two(&app).await;
    let article = publish(&author, 0, "一", "内容").await;
    for fen in [0, -1, 100_000_001] {
        assert_eq!(begin(&reader, article, fen).await, failure(4, "金额不合法"), "{fen}");
    }
    let own = begin(&author, article, 100).await;
    assert_eq!(own["code"], 4, "{own}");
    assert_eq!(begin(&reader, article + 1, 100).await, failure(5, "系统错误"));
    for rid in [0, -1, 12345] {
        assert_eq!(detail(&reader, rid).await, failure(5, "系统错误"), "{rid}");
    }
    assert_eq!(
        app.anonymous().post("/articles/pub/reward", json!({})).await.status,
        401
    );
    app.stop().await;
}
