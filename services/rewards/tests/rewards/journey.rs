//! A reader pays, an author gets.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{Code, ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_api::rewards::v1::{PreRewardRequest, ReconcileRequest, RewardState};
use mosaic_testing::{FreshDatabase, Shape, TestApp, TestAppBuilder, engine_url, in_every_shape, until};

use crate::support::{AUTHOR, Calls, PAYER, builder, wish};

const APART: Shape = Shape::Apart(&[&["edge", "rewards"], &["payments", "ledger"]]);

in_every_shape!(APART; the_author_gets_nine_tenths_and_the_payer_nothing);

async fn the_author_gets_nine_tenths_and_the_payer_nothing(shape: Shape) {
    journey(builder(shape)).await;
}

async fn journey(builder: TestAppBuilder) {
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let opened = calls.open(99).await;
    assert!(opened.code_url.starts_with("weixin://"), "{opened:?}");
    assert_eq!(calls.open(99).await, opened, "the same code");
    assert_ne!(
        calls.open(98).await.reward_id,
        opened.reward_id,
        "another amount is another reward"
    );
    let reward = calls.get(opened.reward_id, PAYER).await.unwrap();
    assert_eq!(
        (reward.state(), reward.payer_id, reward.payee_id),
        (RewardState::Init, PAYER, AUTHOR)
    );
    for stranger in [AUTHOR, 77] {
        let hidden = calls.get(opened.reward_id, stranger).await.unwrap_err();
        assert_eq!((hidden.code(), hidden.reason()), (Code::NotFound, "REWARD_NOT_FOUND"));
    }
    assert_eq!(calls.balances().await, (0, 0, 0, 0));

    calls.pay(opened.reward_id, "").await;
    // Nobody asks: the event alone brings it to the ledger.
    until("the ledger has it", Duration::from_secs(20), || async {
        calls.balances().await == (90, 0, 9, -99)
    })
    .await;
    calls.becomes(opened.reward_id, RewardState::Payed).await;
    let next = calls.open(99).await;
    assert_ne!(
        next.reward_id, opened.reward_id,
        "what is paid is paid; the next one is new"
    );

    calls.refund(opened.reward_id).await;
    until("the ledger has it back", Duration::from_secs(20), || async {
        calls.balances().await == (0, 0, 0, 0)
    })
    .await;
    calls.becomes(opened.reward_id, RewardState::Failed).await;
    let now = app.runtime().now().as_micros();
    let all = ReconcileRequest {
        from_us: 0,
        to_us: now + 1_000_000,
        with_bills: false,
    };
    let report = calls.rewards.reconcile(&calls.cx, all).await.unwrap();
    assert_eq!(
        (report.disagreements.len(), report.incomplete.as_str()),
        (0, ""),
        "{report:?}"
    );
    assert_eq!(report.compared, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_rewards_himself() {
    let app = builder(Shape::Together).start().await;
    let calls = Calls::of(&app);
    let to_self = PreRewardRequest {
        payee_id: PAYER,
        ..wish(100)
    };
    let refused = calls.rewards.pre_reward(&calls.cx, to_self).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.reason()),
        (Code::InvalidArgument, "REWARD_TO_SELF")
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_taps_are_one_reward() {
    let app = builder(Shape::Together).start().await;
    let calls = Calls::of(&app);
    let opened = futures::future::join_all((0..100).map(|_| calls.open(100))).await;
    assert!(opened.iter().all(|one| *one == opened[0]), "{opened:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_good_for_half_an_hour() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
    let app = builder(Shape::Together).runtime(runtime).start().await;
    let calls = Calls::of(&app);
    let first = calls.open(100).await;
    clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(calls.open(100).await, first);
    clock.advance(Duration::from_secs(60));
    let second = calls.open(100).await;
    assert_ne!((second.reward_id, &second.code_url), (first.reward_id, &first.code_url));
    app.stop().await;
}

/// A lost notification, found by the job of payments: the whole chain follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notification_is_made_good() {
    let app = builder(Shape::Together)
        .set("payments.silent_after", "1ms")
        .start()
        .await;
    let calls = Calls::of(&app);
    let opened = calls.open(100).await;
    calls.pay(opened.reward_id, "&silent=1").await;
    until("the job has asked", Duration::from_secs(75), || async {
        calls.balances().await == (90, 0, 10, -100)
    })
    .await;
    calls.becomes(opened.reward_id, RewardState::Payed).await;
    app.stop().await;
}

/// The event is on its way: who asks brings it on himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_does_not_wait_for_the_event() {
    const APART: Shape = Shape::Apart(&[&["edge", "rewards"], &["payments", "ledger"]]);
    let app: TestApp = builder(APART).set("events.url", "sqlite::memory:").start().await;
    let calls = Calls::of(&app);
    let opened = calls.open(100).await;
    calls.pay(opened.reward_id, "").await;
    // Each process has a bus of its own here, so no event ever comes.
    assert_eq!(
        calls.get(opened.reward_id, PAYER).await.unwrap().state(),
        RewardState::Payed
    );
    assert_eq!(calls.balances().await, (90, 0, 10, -100));
    app.stop().await;
}

async fn on(engine: &str) {
    let Some(url) = engine_url(engine) else { return };
    let database = FreshDatabase::create(&url).await;
    journey(builder(Shape::Together).set("database.url", database.url())).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    on("MOSAIC_TEST_POSTGRES").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    on("MOSAIC_TEST_MYSQL").await;
}
