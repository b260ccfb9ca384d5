//! A notification changes a state at most once, and only if it is genuine.

use mosaic_api::payments::v1::{ListParkedRequest, Payment, PaymentState};
use mosaic_testing::{Shape, TestApp};
use serde_json::{Value, json};

use crate::provider::{KEYS, Server, Signed, configured, paid, sealed, serve, signed_answer};
use crate::support::{app, client, cx, native, payment, told};

/// A trade that waits to be paid, and a WeChat that has given its code.
async fn waiting() -> (TestApp, Server, Payment) {
    let server = serve(|_, uri| match uri.path() {
        "/v3/pay/transactions/native" => signed_answer(200, r#"{"code_url":"weixin://1"}"#),
        "/v3/refund/domestic/refunds" => signed_answer(500, ""),
        _ => signed_answer(404, r#"{"code":"ORDER_NOT_EXIST"}"#),
    })
    .await;
    let app = configured(TestApp::builder(app()).shape(Shape::Together), &server.url)
        .start()
        .await;
    client(&app).prepay(&cx(&app), native("T1")).await.unwrap();
    let payment = payment(&app, "T1").await;
    (app, server, payment)
}

fn now(app: &TestApp) -> i64 {
    app.runtime().now().as_secs()
}

fn transaction(what: &Value) -> String {
    sealed("transaction", "TRANSACTION.SUCCESS", what)
}

fn with(mut value: Value, path: &str, to: Value) -> Value {
    *value.pointer_mut(path).unwrap() = to;
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_wechats_is_refused_and_changes_nothing() {
    let (app, _server, before) = waiting().await;
    let body = transaction(&paid(&before.out_trade_no));
    let good = Signed::new(now(&app), body.clone());
    let old = now(&app) - 301;
    let future = now(&app) + 301;
    let mut cases = vec![
        ("another key", Signed::by(&KEYS[2], now(&app), body.clone())),
        ("the merchant's key", Signed::by(&KEYS[0], now(&app), body.clone())),
        ("old", Signed::new(old, body.clone())),
        ("from the future", Signed::new(future, body.clone())),
    ];
    let mut case = |name, change: &dyn Fn(&mut Signed)| {
        let mut signed = good.clone();
        change(&mut signed);
        cases.push((name, signed));
    };
    case("no signature", &|signed| signed.signature = String::new());
    case("no Base64", &|signed| signed.signature = "%%%".to_owned());
    case("a signature of another body", &|signed| {
        signed.signature = Signed::new(signed.timestamp, "{}".to_owned()).signature;
    });
    case("another body", &|signed| signed.body.push(' '));
    case("another nonce", &|signed| signed.nonce.push('x'));
    case("another timestamp", &|signed| signed.timestamp += 1);
    case("another serial", &|signed| {
        signed.serial = "PUB_KEY_ID_OTHER".to_owned()
    });
    case("a timestamp that is none", &|signed| signed.timestamp = i64::MIN);
    for (name, signed) in cases {
        let reply = signed.send(&app).await;
        assert_eq!(reply.status, 401, "{name}: {}", reply.text);
        assert_eq!(payment(&app, "T1").await, before, "{name}");
    }
    let bare = app
        .anonymous()
        .post_text("/payments/wechat/notify", "application/json", body)
        .await;
    assert_eq!((bare.status, bare.json()["code"].clone()), (401, json!("FAIL")));
    assert_eq!((payment(&app, "T1").await, told(&app).await), (before, 0));
    assert_eq!(good.send(&app).await.status, 200, "the good one is good");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once_and_replays_are_one_transition() {
    let (app, _server, before) = waiting().await;
    let good = Signed::new(now(&app), transaction(&paid(&before.out_trade_no)));
    let replies = futures::future::join_all((0..100).map(|_| good.send(&app))).await;
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    let after = payment(&app, "T1").await;
    assert_eq!((after.state(), told(&app).await), (PaymentState::Paid, 1));
    assert_eq!(after.transaction_id, "4200001");
    let at = "2026-11-20T02:00:00Z".parse::<mosaic::Timestamp>().unwrap();
    assert_eq!(
        after.paid_at_us,
        at.as_micros(),
        "the time of payment is the provider's"
    );
    for _ in 0..3 {
        assert_eq!(good.send(&app).await.status, 200, "already known");
    }
    let closed = with(paid(&before.out_trade_no), "/trade_state", json!("NOTPAY"));
    assert_eq!(
        Signed::new(now(&app), transaction(&closed)).send(&app).await.status,
        200,
        "late and out of order"
    );
    assert_eq!((payment(&app, "T1").await, told(&app).await), (after, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_parked_for_a_human() {
    let other = json!("other");
    for (reason, path, to) in [
        ("amount_differs", "/amount/total", json!(99)),
        ("amount_differs", "/amount/total", json!(101)),
        ("currency_differs", "/amount/currency", json!("USD")),
        ("merchant_differs", "/mchid", other.clone()),
        ("app_differs", "/appid", other.clone()),
        ("no_transaction", "/transaction_id", json!("")),
        ("no_amount", "/amount", Value::Null),
    ] {
        let (app, _server, before) = waiting().await;
        let what = with(paid(&before.out_trade_no), path, to);
        let signed = Signed::new(now(&app), transaction(&what));
        for _ in 0..2 {
            assert_eq!(signed.send(&app).await.status, 200, "{reason}: it is with a human now");
        }
        let after = payment(&app, "T1").await;
        let parked = Payment {
            parked_reason: reason.to_owned(),
            ..before
        };
        assert_eq!((&after, told(&app).await), (&parked, 0));
        let request = ListParkedRequest {
            to_us: i64::MAX,
            ..ListParkedRequest::default()
        };
        let listed = client(&app).list_parked(&cx(&app), request).await.unwrap();
        assert_eq!(listed.payments, [after]);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_trade_is_to_be_repeated() {
    let (app, _server, before) = waiting().await;
    // A number that we will give later, one of another system, and one that is none.
    for out_trade_no in ["M1", "X17", "M", "M-5", "M99999999999999999999"] {
        let reply = Signed::new(now(&app), transaction(&paid(out_trade_no)))
            .send(&app)
            .await;
        assert_eq!(
            (reply.status, reply.json()["code"].clone()),
            (404, json!("FAIL")),
            "{out_trade_no}"
        );
    }
    assert_eq!((payment(&app, "T1").await, told(&app).await), (before, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_genuine_and_cannot_be_read_is_to_be_repeated() {
    let (app, _server, before) = waiting().await;
    let good: Value = serde_json::from_str(&transaction(&paid(&before.out_trade_no))).unwrap();
    let strange_state = transaction(&with(paid(&before.out_trade_no), "/trade_state", json!("DANCING")));
    for body in [
        "{}".to_owned(),
        "<html>".to_owned(),
        with(good.clone(), "/resource/nonce", json!("fdasfjihihi!")).to_string(),
        with(good.clone(), "/resource/nonce", json!("short")).to_string(),
        with(good.clone(), "/resource/associated_data", json!("refund")).to_string(),
        with(good.clone(), "/resource/ciphertext", json!("AAAA")).to_string(),
        with(good.clone(), "/resource/original_type", json!("coupon")).to_string(),
        strange_state,
    ] {
        let reply = Signed::new(now(&app), body.clone()).send(&app).await;
        assert_eq!(reply.status, 500, "{body}");
    }
    assert_eq!((payment(&app, "T1").await, told(&app).await), (before, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_and_refund_notices_are_heard() {
    let (app, _server, before) = waiting().await;
    let closed = with(paid(&before.out_trade_no), "/trade_state", json!("CLOSED"));
    let closed = Signed::new(now(&app), transaction(&closed));
    assert_eq!(closed.send(&app).await.status, 200);
    assert_eq!(
        (payment(&app, "T1").await.state(), told(&app).await),
        (PaymentState::Failed, 1)
    );
    let late = Signed::new(now(&app), transaction(&paid(&before.out_trade_no)));
    assert_eq!(late.send(&app).await.status, 200);
    let after = payment(&app, "T1").await;
    assert_eq!(
        (after.state(), after.parked_reason.as_str()),
        (PaymentState::Failed, "paid_after_failure")
    );
    app.stop().await;

    let (app, _server, before) = waiting().await;
    Signed::new(now(&app), transaction(&paid(&before.out_trade_no)))
        .send(&app)
        .await;
    let request = mosaic_api::payments::v1::RefundRequest {
        biz: "test".to_owned(),
        trade_no: "T1".to_owned(),
        refund_no: "F1".to_owned(),
        reason: "r".to_owned(),
    };
    let failed = client(&app).refund(&cx(&app), request).await.unwrap_err();
    assert_eq!(
        failed.reason(),
        "PAYMENT_PROVIDER_UNAVAILABLE",
        "it may have begun there all the same"
    );
    let asked = payment(&app, "T1").await;
    assert_eq!((asked.state(), asked.refund_no.as_str()), (PaymentState::Paid, "F1"));
    let done = json!({
        "mchid": crate::provider::MERCHANT, "out_trade_no": before.out_trade_no, "transaction_id": "4200001",
        "out_refund_no": format!("{}-1", before.out_trade_no), "refund_id": "50", "refund_status": "SUCCESS",
        "amount": {"total": 100, "refund": 100, "payer_total": 100, "payer_refund": 100},
    });
    let less = with(done.clone(), "/amount/refund", json!(99));
    for what in [&done, &done] {
        let signed = Signed::new(now(&app), sealed("refund", "REFUND.SUCCESS", what));
        assert_eq!(signed.send(&app).await.status, 200);
    }
    let refunded = payment(&app, "T1").await;
    assert_eq!((refunded.state(), told(&app).await), (PaymentState::Refunded, 2));
    Signed::new(now(&app), sealed("refund", "REFUND.SUCCESS", &less))
        .send(&app)
        .await;
    assert_eq!(payment(&app, "T1").await.parked_reason, "refund_amount_differs");
    app.stop().await;
}
