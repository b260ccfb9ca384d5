//! Random transfers at once: the sum stays, nobody falls below his floor, and balances are what the entries add up to.

use std::sync::Arc;

use mosaic::{Code, Runtime, SeededRandom, SystemClock};
use mosaic_api::ledger::v1::PostRequest;
use mosaic_testing::{FreshDatabase, Shape, TestAppBuilder, engine_url};

use crate::support::{Calls, builder, posting};

const ACCOUNTS: i64 = 5;
const TRANSFERS: usize = 400;
const AT_ONCE: usize = 20;

fn transfers(dice: &Runtime) -> Vec<PostRequest> {
    let below = |bound: i64| dice.random_below(bound.unsigned_abs()) as i64;
    let mut postings: Vec<PostRequest> = Vec::new();
    for n in 0..TRANSFERS {
        let (from, to, amount) = (below(ACCOUNTS) + 1, below(ACCOUNTS) + 1, below(80) + 1);
        let id = n.to_string();
        postings.push(match below(10) {
            // money that comes in, and goes out
            0..=2 => posting(&id, &[("wechat", 0, -amount), ("author", to, amount)]),
            3 => posting(&id, &[("author", from, -amount), ("wechat", 0, amount)]),
            // one that was asked for before, with whatever content
            4 if n > 0 => postings[below(n as i64) as usize].clone(),
            _ if from == to => posting(&id, &[("author", from, -amount), ("platform", 0, amount)]),
            // two gets, one gives, accounts in no order
            _ => posting(
                &id,
                &[
                    ("platform", 0, 1),
                    ("author", to, amount),
                    ("author", from, -amount - 1),
                ],
            ),
        });
    }
    postings
}

async fn transfers_conserve_money(builder: TestAppBuilder) {
    let seed = Runtime::system().random_u64();
    eprintln!("seed {seed}");
    let dice = Runtime::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(seed)));
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let postings = transfers(&dice);
    let (mut n_posted, mut n_refused) = (0, 0);
    for batch in postings.chunks(AT_ONCE) {
        let posted = futures::future::join_all(
            batch
                .iter()
                .map(|request| calls.ledger.post(&calls.cx, request.clone())),
        );
        for answer in posted.await {
            match answer {
                Ok(_) => n_posted += 1,
                Err(error) => {
                    assert_eq!(
                        (error.code(), error.reason()),
                        (Code::FailedPrecondition, "BALANCE_TOO_LOW")
                    );
                    n_refused += 1;
                }
            }
        }
    }
    assert!(n_posted > 100 && n_refused > 10, "both happen: {n_posted} {n_refused}");
    let mut total = 0;
    let authors = (1..=ACCOUNTS).map(|owner| ("author", owner));
    for (kind, owner) in authors.chain([("platform", 0), ("wechat", 0)]) {
        let balance = calls.balance(kind, owner).await;
        assert_eq!(balance, calls.sum_of_entries(kind, owner).await, "{kind} {owner}");
        assert!(balance >= 0 || kind == "wechat", "{kind} {owner}: {balance}");
        total += balance;
    }
    assert_eq!(total, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    transfers_conserve_money(builder(Shape::Together)).await;
}

async fn on(engine: &str) {
    let Some(url) = engine_url(engine) else { return };
    let database = FreshDatabase::create(&url).await;
    transfers_conserve_money(builder(Shape::Together).set("database.url", database.url())).await;
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
