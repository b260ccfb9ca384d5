//! Each kind of disagreement is planted, and found.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_api::ledger::v1::{Account, Entry, PostRequest};
use mosaic_api::payments::v1::{PaymentKind, PrepayRequest};
use mosaic_api::rewards::v1::{DisagreementKind, ListReportsRequest, ReconcileRequest, Report, RewardState};
use mosaic_testing::{Shape, TestApp};

use crate::support::{AUTHOR, Calls, PAYER, builder, settled, tamper};

async fn report(calls: &Calls<'_>, with_bills: bool) -> Report {
    let to_us = calls.app.runtime().now().as_micros() + 1_000_000;
    let request = ReconcileRequest {
        from_us: 0,
        to_us,
        with_bills,
    };
    calls.rewards.reconcile(&calls.cx, request).await.unwrap()
}

/// What disagrees: kind, reward, what should be, what is.
fn found(report: &Report) -> Vec<(DisagreementKind, i64, i64, i64)> {
    let found = report.disagreements.iter();
    found
        .map(|one| (one.kind(), one.reward_id, one.expected_fen, one.found_fen))
        .collect()
}

async fn payed(calls: &Calls<'_>, amount_fen: i64) -> i64 {
    let id = calls.open(amount_fen).await.reward_id;
    calls.pay(id, "").await;
    calls.becomes(id, RewardState::Payed).await;
    settled(calls.app).await;
    id
}

async fn started() -> TestApp {
    builder(Shape::Together).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_agree_and_reports_that_are_kept() {
    let app = started().await;
    let calls = Calls::of(&app);
    calls.open(50).await;
    payed(&calls, 100).await;
    let refunded = payed(&calls, 9).await;
    calls.refund(refunded).await;
    calls.becomes(refunded, RewardState::Failed).await;
    let first = report(&calls, false).await;
    assert_eq!((found(&first), first.compared), (vec![], 2));
    let second = report(&calls, false).await;
    let listed = calls
        .rewards
        .list_reports(&calls.cx, ListReportsRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.reports, [second.clone(), first.clone()]);
    let older = ListReportsRequest {
        cursor: second.report_id,
        limit: 5,
    };
    assert_eq!(
        calls.rewards.list_reports(&calls.cx, older).await.unwrap().reports,
        [first]
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_without_a_reward() {
    let app = started().await;
    let calls = Calls::of(&app);
    let mut ids = Vec::new();
    for trade_no in ["R123", "nonsense"] {
        let request = PrepayRequest {
            biz: "reward".to_owned(),
            trade_no: trade_no.to_owned(),
            account_id: PAYER,
            amount_fen: 70,
            description: "x".to_owned(),
            kind: PaymentKind::Native.into(),
            open_id: String::new(),
        };
        calls.payments.prepay(&calls.cx, request).await.unwrap();
        ids.push(trade_no);
    }
    calls.pay(123, "").await;
    let nonsense = mosaic_api::payments::v1::GetRequest {
        biz: "reward".to_owned(),
        trade_no: "nonsense".to_owned(),
    };
    let out_trade_no = calls.payments.get(&calls.cx, nonsense).await.unwrap().out_trade_no;
    let form = format!("out_trade_no={out_trade_no}");
    app.anonymous()
        .post_text("/dev/wechat/pay", "application/x-www-form-urlencoded", form)
        .await;
    let want = [
        (DisagreementKind::PaymentWithoutReward, 0, 0, 70),
        (DisagreementKind::PaymentWithoutReward, 123, 0, 70),
        (DisagreementKind::PostingMissing, 123, 70, 0),
    ];
    assert_eq!(found(&report(&calls, false).await), want);
    app.stop().await;
}

/// Kind, expected and found amount in fen.
type Found = (DisagreementKind, i64, i64);

/// Whose table is changed, how, and what the reconciler says of it.
const TAMPERED: [(&str, &str, &[Found]); 8] = [
    (
        "rewards",
        "UPDATE reward SET state = 'failed'",
        &[(DisagreementKind::RewardBehindPayment, 100, 0)],
    ),
    (
        "rewards",
        "DELETE FROM reward",
        &[(DisagreementKind::PaymentWithoutReward, 0, 100)],
    ),
    (
        "rewards",
        "UPDATE reward SET amount_fen = 10",
        &[
            (DisagreementKind::PaymentAmountDiffers, 10, 100),
            (DisagreementKind::PostingDiffers, 10, 100),
        ],
    ),
    (
        "payments",
        "DELETE FROM payment",
        &[
            (DisagreementKind::RewardWithoutPayment, 100, 0),
            (DisagreementKind::PostingWithoutPayment, 0, 100),
        ],
    ),
    (
        "payments",
        "UPDATE payment SET state = 'refunded', refunded_at = paid_at",
        &[
            (DisagreementKind::RewardBehindRefund, 0, 100),
            (DisagreementKind::PostingMissing, 100, 0),
        ],
    ),
    (
        "ledger",
        "DELETE FROM posting",
        &[(DisagreementKind::PostingMissing, 100, 0)],
    ),
    (
        "ledger",
        "UPDATE entry SET owner = 5 WHERE kind = 'author'",
        &[(DisagreementKind::PostingDiffers, 100, 100)],
    ),
    (
        "payments",
        "UPDATE payment SET parked_reason = 'paid_twice', parked_at = paid_at",
        &[(DisagreementKind::PaymentParked, 100, 0)],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_book_is_tampered_with() {
    for (module, sql, want) in TAMPERED {
        let app = started().await;
        let calls = Calls::of(&app);
        let id = payed(&calls, 100).await;
        tamper(&app, module, sql).await;
        let want: Vec<_> = want
            .iter()
            .map(|&(kind, expected, found)| (kind, id, expected, found))
            .collect();
        assert_eq!(found(&report(&calls, false).await), want, "{module}: {sql}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posting_without_a_payment() {
    let app = started().await;
    let calls = Calls::of(&app);
    let entry = |kind: &str, owner, amount_fen| Entry {
        account: Some(Account {
            kind: kind.to_owned(),
            owner,
        }),
        amount_fen,
    };
    let request = PostRequest {
        biz: "reward".to_owned(),
        biz_id: "77".to_owned(),
        entries: vec![entry("wechat", 0, -100), entry("author", AUTHOR, 100)],
        floors: Vec::new(),
    };
    calls.ledger.post(&calls.cx, request).await.unwrap();
    let want = [(DisagreementKind::PostingWithoutPayment, 77, 0, 100)];
    assert_eq!(found(&report(&calls, false).await), want);
    app.stop().await;
}

/// Noon in Beijing: the day has its bill once it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_providers_bill_is_compared() {
    let noon: Timestamp = "2026-11-20T04:00:00Z".parse().unwrap();
    for (sql, want) in [
        ("", vec![]),
        (
            "UPDATE embedded_trade SET amount_fen = 99",
            vec![(DisagreementKind::BillAmountDiffers, 100, 99)],
        ),
        (
            "UPDATE embedded_trade SET state = 'NOTPAY'",
            vec![(DisagreementKind::PaymentWithoutBill, 100, 0)],
        ),
        (
            "UPDATE embedded_trade SET out_trade_no = 'M1'",
            vec![
                (DisagreementKind::PaymentWithoutBill, 100, 0),
                (DisagreementKind::BillWithoutPayment, 0, 100),
            ],
        ),
    ] {
        let clock = Arc::new(ManualClock::at(noon));
        let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
        let app = builder(Shape::Together).runtime(runtime).start().await;
        let calls = Calls::of(&app);
        payed(&calls, 100).await;
        if !sql.is_empty() {
            tamper(&app, "payments", sql).await;
        }
        assert_eq!(found(&in_window(&calls, noon).await), [], "the day has not ended");
        clock.advance(Duration::from_secs(24 * 3600));
        let report = in_window(&calls, noon).await;
        let found: Vec<_> = found(&report)
            .into_iter()
            .map(|(kind, _, expected, found)| (kind, expected, found))
            .collect();
        assert_eq!((found, report.incomplete.as_str()), (want, ""), "{sql}");
        app.stop().await;
    }
}

async fn in_window(calls: &Calls<'_>, noon: Timestamp) -> Report {
    let hour = Duration::from_secs(3600);
    let request = ReconcileRequest {
        from_us: noon.minus(hour).as_micros(),
        to_us: noon.plus(hour).as_micros(),
        with_bills: true,
    };
    calls.rewards.reconcile(&calls.cx, request).await.unwrap()
}
