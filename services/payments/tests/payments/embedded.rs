//! With the embedded provider: from the code to the money and back, in every shape.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{Code, ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_api::payments::v1::{
    GetBillRequest, GetRequest, ListSettledRequest, Payment, PaymentKind, PaymentState, PrepayRequest, RefundRequest,
    SyncRequest,
};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, in_every_shape, until};

use crate::support::{app, client, cx, native, payment, press_pay, told};

const APART: Shape = Shape::Apart(&[&["edge"], &["payments"]]);

in_every_shape!(APART; a_trade_is_paid_once_and_given_back_once);

fn builder(shape: Shape) -> TestAppBuilder {
    TestApp::builder(app()).shape(shape)
}

fn refund(trade_no: &str, refund_no: &str) -> RefundRequest {
    RefundRequest {
        biz: "test".to_owned(),
        trade_no: trade_no.to_owned(),
        refund_no: refund_no.to_owned(),
        reason: "changed my mind".to_owned(),
    }
}

pub(crate) async fn a_trade_is_paid_once_and_given_back_once(shape: Shape) {
    journey(builder(shape)).await;
}

/// Everything that touches tables, once through.
pub(crate) async fn journey(builder: TestAppBuilder) {
    let app = builder.start().await;
    let (payments, cx) = (client(&app), cx(&app));
    let code = payments.prepay(&cx, native("T1")).await.unwrap();
    assert!(code.code_url.starts_with("weixin://wxpay/bizpayurl?pr="), "{code:?}");
    assert_eq!(
        payments.prepay(&cx, native("T1")).await.unwrap(),
        code,
        "the same live prepay"
    );
    let dearer = PrepayRequest {
        amount_fen: 101,
        ..native("T1")
    };
    assert_eq!(
        payments.prepay(&cx, dearer).await.unwrap_err().reason(),
        "PAYMENT_DIFFERS"
    );
    let early = payments.refund(&cx, refund("T1", "F1")).await.unwrap_err();
    assert_eq!(
        (early.code(), early.reason()),
        (Code::FailedPrecondition, "PAYMENT_NOT_PAID")
    );

    let waiting = payment(&app, "T1").await;
    assert_eq!(waiting.state(), PaymentState::Waiting);
    let page = app.anonymous().get("/dev/wechat").await;
    assert!(
        page.text.contains(&waiting.out_trade_no) && page.text.contains("1.00"),
        "{}",
        page.text
    );
    assert!(page.text.contains("a &lt;book&gt; &amp; &quot;more&quot;") && !page.text.contains("<book>"));
    assert_eq!(press_pay(&app, &waiting.out_trade_no, false).await.status, 303);
    let paid = payment(&app, "T1").await;
    assert_eq!((paid.state(), paid.parked_reason.as_str()), (PaymentState::Paid, ""));
    assert!(!paid.transaction_id.is_empty() && paid.paid_at_us > 0);
    assert_eq!(
        press_pay(&app, &waiting.out_trade_no, false).await.status,
        409,
        "paid once"
    );
    assert_eq!(
        payments.prepay(&cx, native("T1")).await.unwrap_err().reason(),
        "PAYMENT_OVER"
    );

    given_back_once(&app).await;
    settled_is_listed(&app, &paid).await;
    let unknown = GetRequest {
        biz: "other".to_owned(),
        trade_no: "T1".to_owned(),
    };
    assert_eq!(payments.get(&cx, unknown).await.unwrap_err().code(), Code::NotFound);
    app.stop().await;
}

async fn given_back_once(app: &TestApp) {
    let (payments, cx) = (client(app), cx(app));
    let refunds = (0..20).map(|_| payments.refund(&cx, refund("T1", "F1")));
    for refunded in futures::future::join_all(refunds).await {
        assert_eq!(refunded.unwrap().state(), PaymentState::Refunded);
    }
    let other = payments.refund(&cx, refund("T1", "F2")).await.unwrap_err();
    assert_eq!(other.reason(), "PAYMENT_NOT_PAID", "given back once");
}

async fn settled_is_listed(app: &TestApp, paid: &Payment) {
    let (payments, cx) = (client(app), cx(app));
    let window = ListSettledRequest {
        biz: "test".to_owned(),
        from_us: paid.paid_at_us,
        to_us: paid.paid_at_us + 1,
        cursor: String::new(),
        limit: 1,
    };
    let settled = payments.list_settled(&cx, window.clone()).await.unwrap();
    assert_eq!(settled.payments, [payment(app, "T1").await]);
    let next = ListSettledRequest {
        cursor: settled.next_cursor,
        ..window
    };
    assert_eq!(payments.list_settled(&cx, next).await.unwrap().payments, []);
    bill_has(app, &paid.out_trade_no).await;
}

async fn bill_has(app: &TestApp, out_trade_no: &str) {
    let beijing = app.runtime().now().plus(Duration::from_secs(8 * 3600)).to_string();
    let date = beijing[..10].to_owned();
    let bill = client(app)
        .get_bill(&cx(app), GetBillRequest { date, offset: 0 })
        .await
        .unwrap();
    let lines: Vec<_> = bill
        .lines
        .iter()
        .filter(|line| line.out_trade_no == out_trade_no)
        .collect();
    let amounts: Vec<_> = lines
        .iter()
        .map(|line| (line.trade_state.as_str(), line.amount_fen, line.refund_fen))
        .collect();
    assert_eq!(amounts, [("SUCCESS", 100, 0), ("REFUND", 0, 100)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_prepays_at_once_are_one_trade() {
    let app = builder(Shape::Together).start().await;
    let (payments, cx) = (client(&app), cx(&app));
    let codes = futures::future::join_all((0..100).map(|_| payments.prepay(&cx, native("T1")))).await;
    let codes: Vec<_> = codes.into_iter().map(|code| code.unwrap().code_url).collect();
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    let page = app.anonymous().get("/dev/wechat").await.text;
    assert_eq!(page.matches("<button>").count(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_in_the_app_is_signed_for_its_page() {
    let app = builder(Shape::Together).start().await;
    let (payments, cx) = (client(&app), cx(&app));
    let jsapi = PrepayRequest {
        kind: PaymentKind::Jsapi.into(),
        ..native("T1")
    };
    assert_eq!(
        payments.prepay(&cx, jsapi.clone()).await.unwrap_err().reason(),
        "OPEN_ID_NEEDED"
    );
    let jsapi = PrepayRequest {
        open_id: "o1".to_owned(),
        ..jsapi
    };
    let first = payments.prepay(&cx, jsapi.clone()).await.unwrap().jsapi.unwrap();
    let second = payments.prepay(&cx, jsapi).await.unwrap().jsapi.unwrap();
    assert!(first.package.starts_with("prepay_id=wx") && first.sign_type == "RSA" && !first.pay_sign.is_empty());
    assert_eq!(first.package, second.package, "one live prepay");
    assert_ne!(first.nonce, second.nonce);
    app.stop().await;
}

/// Both ways: asked by hand, and by the job that looks for silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notification_is_found() {
    let app = builder(Shape::Together)
        .set("payments.silent_after", "1ms")
        .start()
        .await;
    let (payments, cx) = (client(&app), cx(&app));
    for trade_no in ["T1", "T2"] {
        payments.prepay(&cx, native(trade_no)).await.unwrap();
        let out_trade_no = payment(&app, trade_no).await.out_trade_no;
        press_pay(&app, &out_trade_no, true).await;
    }
    assert_eq!(
        payment(&app, "T1").await.state(),
        PaymentState::Waiting,
        "nobody has told us"
    );
    let ask = SyncRequest {
        biz: "test".to_owned(),
        trade_no: "T1".to_owned(),
    };
    assert_eq!(payments.sync(&cx, ask).await.unwrap().state(), PaymentState::Paid);
    until("the job has asked", Duration::from_secs(75), || async {
        payment(&app, "T2").await.state() == PaymentState::Paid
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_pays_in_time_is_closed_and_fails() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
    let app = builder(Shape::Together).runtime(runtime).start().await;
    let (payments, cx) = (client(&app), cx(&app));
    payments.prepay(&cx, native("T1")).await.unwrap();
    let ask = || SyncRequest {
        biz: "test".to_owned(),
        trade_no: "T1".to_owned(),
    };
    clock.advance(Duration::from_secs(35 * 60));
    assert_eq!(
        payments.prepay(&cx, native("T1")).await.unwrap_err().reason(),
        "PAYMENT_OVER"
    );
    assert_eq!(
        payments.sync(&cx, ask()).await.unwrap().state(),
        PaymentState::Waiting,
        "clocks differ"
    );
    clock.advance(Duration::from_secs(31));
    assert_eq!(payments.sync(&cx, ask()).await.unwrap().state(), PaymentState::Failed);
    let failed = payment(&app, "T1").await;
    assert!(failed.failed_at_us > 0 && failed.paid_at_us == 0);
    assert_eq!(
        press_pay(&app, &failed.out_trade_no, false).await.status,
        409,
        "closed at the provider, too"
    );
    assert_eq!(payments.sync(&cx, ask()).await.unwrap(), failed);
    assert_eq!(told(&app).await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_the_merchant_has_not_signed_are_refused() {
    let app = builder(Shape::Together).start().await;
    let reply = app
        .anonymous()
        .get("/dev/wechat/v3/pay/transactions/out-trade-no/M1?mchid=1900000001")
        .await;
    assert_eq!(
        (reply.status, reply.json()["code"].clone()),
        (401, serde_json::json!("SIGN_ERROR"))
    );
    assert!(!reply.header("wechatpay-signature").is_empty());
    assert_eq!(app.anonymous().get("/dev/wechat/nothing").await.status, 404);
    app.stop().await;
}
