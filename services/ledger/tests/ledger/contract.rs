//! The contract, in every shape.

use mosaic::Code;
use mosaic_api::ledger::v1::{Floor, GetPostingRequest, ListPostingsRequest, PostRequest};
use mosaic_testing::{Shape, in_every_shape};

use crate::support::{Calls, account, builder, posting};

const APART: Shape = Shape::Apart(&[&["front"], &["ledger"]]);

in_every_shape!(APART;
    a_posting_is_booked_once_and_as_it_is,
    what_breaks_a_rule_leaves_nothing,
    postings_are_listed_in_pages
);

fn income() -> PostRequest {
    posting("1", &[("wechat", 0, -100), ("author", 7, 90), ("platform", 0, 10)])
}

fn named(biz_id: &str) -> GetPostingRequest {
    GetPostingRequest {
        biz: "test".to_owned(),
        biz_id: biz_id.to_owned(),
    }
}

async fn a_posting_is_booked_once_and_as_it_is(shape: Shape) {
    let app = builder(shape).start().await;
    let Calls { ledger, cx } = &Calls::of(&app);
    let posted = ledger.post(cx, income()).await.unwrap();
    let reordered = PostRequest {
        entries: income().entries.into_iter().rev().collect(),
        ..income()
    };
    let again = ledger.post(cx, reordered).await.unwrap();
    assert_eq!(again, posted, "the same posting again");
    for entries in [
        [("wechat", 0, -100), ("author", 8, 90), ("platform", 0, 10)],
        [("wechat", 0, -100), ("author", 7, 80), ("platform", 0, 20)],
    ] {
        let other = ledger.post(cx, posting("1", &entries)).await.unwrap_err();
        assert_eq!((other.code(), other.reason()), (Code::AlreadyExists, "POSTING_DIFFERS"));
    }
    assert_eq!(ledger.get_posting(cx, named("1")).await.unwrap(), posted);
    let unknown = ledger.get_posting(cx, named("2")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    app.stop().await;
}

async fn what_breaks_a_rule_leaves_nothing(shape: Shape) {
    let app = builder(shape).start().await;
    let calls = Calls::of(&app);
    let Calls { ledger, cx } = &calls;
    ledger.post(cx, income()).await.unwrap();
    let above_fifty = PostRequest {
        floors: vec![Floor {
            account: Some(account("author", 7)),
            min_fen: 50,
        }],
        ..posting("2", &[("author", 7, -41), ("wechat", 0, 41)])
    };
    for (refused, reason) in [
        (
            posting("2", &[("author", 7, -91), ("wechat", 0, 91)]),
            "BALANCE_TOO_LOW",
        ),
        (above_fifty, "BALANCE_TOO_LOW"),
        (
            posting("2", &[("author", 7, -1), ("wechat", 0, 2)]),
            "POSTING_UNBALANCED",
        ),
    ] {
        let error = ledger.post(cx, refused).await.unwrap_err();
        assert_eq!(error.reason(), reason);
        let left = ledger.get_posting(cx, named("2")).await.unwrap_err();
        assert_eq!(left.code(), Code::NotFound, "nothing is left of it");
    }
    let balances = (calls.balance("author", 7).await, calls.balance("wechat", 0).await);
    assert_eq!(balances, (90, -100));
    app.stop().await;
}

async fn postings_are_listed_in_pages(shape: Shape) {
    let app = builder(shape).start().await;
    let Calls { ledger, cx } = &Calls::of(&app);
    let first = ledger.post(cx, income()).await.unwrap();
    let payout = posting("2", &[("author", 7, -90), ("wechat", 0, 90)]);
    let second = ledger.post(cx, payout).await.unwrap();
    let mut cursor = String::new();
    for expected in [vec![first.clone()], vec![second], vec![]] {
        let window = ListPostingsRequest {
            biz: "test".to_owned(),
            from_us: first.at_us,
            to_us: i64::MAX,
            cursor,
            limit: 1,
        };
        let page = ledger.list_postings(cx, window).await.unwrap();
        assert_eq!(page.postings, expected);
        cursor = page.next_cursor;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_of_one_posting_at_once_are_one() {
    let app = builder(Shape::Together).start().await;
    let calls = Calls::of(&app);
    let request = posting("1", &[("wechat", 0, -100), ("author", 7, 100)]);
    let posted = (0..100).map(|_| calls.ledger.post(&calls.cx, request.clone()));
    let posted: Vec<_> = futures::future::join_all(posted)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(posted.iter().all(|posting| *posting == posted[0]));
    assert_eq!(
        (
            calls.balance("author", 7).await,
            calls.sum_of_entries("author", 7).await
        ),
        (100, 100)
    );
    app.stop().await;
}
