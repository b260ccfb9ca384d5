//! The contract, in every shape.

use mosaic::Code;
use mosaic_api::ledger::v1::{Floor, GetPostingRequest, ListPostingsRequest, PostRequest};
use mosaic_testing::Shape;

use crate::support::{Calls, account, builder, posting};

macro_rules! in_every_shape {
    ($($name:ident),* $(,)?) => {
        mod together { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(mosaic_testing::Shape::Together).await })* }
        mod strict { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(mosaic_testing::Shape::Strict).await })* }
        mod apart { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(mosaic_testing::Shape::Apart(&[&["front"], &["ledger"]])).await })* }
    };
}

in_every_shape!(a_posting_is_booked_once_and_as_it_is);

async fn a_posting_is_booked_once_and_as_it_is(shape: Shape) {
    let app = builder(shape).start().await;
    let Calls { ledger, cx } = &Calls::of(&app);
    let calls = Calls::of(&app);
    let income = posting("1", &[("wechat", 0, -100), ("author", 7, 90), ("platform", 0, 10)]);
    let posted = ledger.post(cx, income.clone()).await.unwrap();
    let reordered = PostRequest {
        entries: income.entries.iter().rev().cloned().collect(),
        ..income.clone()
    };
    assert_eq!(
        ledger.post(cx, reordered).await.unwrap(),
        posted,
        "the same posting again"
    );
    for entries in [
        [("wechat", 0, -100), ("author", 8, 90), ("platform", 0, 10)],
        [("wechat", 0, -100), ("author", 7, 80), ("platform", 0, 20)],
    ] {
        let other = ledger.post(cx, posting("1", &entries)).await.unwrap_err();
        assert_eq!((other.code(), other.reason()), (Code::AlreadyExists, "POSTING_DIFFERS"));
    }
    let named = |biz_id: &str| GetPostingRequest {
        biz: "test".to_owned(),
        biz_id: biz_id.to_owned(),
    };
    assert_eq!(ledger.get_posting(cx, named("1")).await.unwrap(), posted);
    assert_eq!(
        ledger.get_posting(cx, named("2")).await.unwrap_err().code(),
        Code::NotFound
    );

    let too_much = ledger
        .post(cx, posting("2", &[("author", 7, -91), ("wechat", 0, 91)]))
        .await
        .unwrap_err();
    assert_eq!(too_much.reason(), "BALANCE_TOO_LOW");
    let strict = PostRequest {
        floors: vec![Floor {
            account: Some(account("author", 7)),
            min_fen: 50,
        }],
        ..posting("2", &[("author", 7, -41), ("wechat", 0, 41)])
    };
    assert_eq!(ledger.post(cx, strict).await.unwrap_err().reason(), "BALANCE_TOO_LOW");
    assert_eq!(
        ledger.get_posting(cx, named("2")).await.unwrap_err().code(),
        Code::NotFound,
        "nothing is left of it"
    );
    assert_eq!(
        (calls.balance("author", 7).await, calls.balance("wechat", 0).await),
        (90, -100)
    );
    let odd = ledger
        .post(cx, posting("2", &[("author", 7, -1), ("wechat", 0, 2)]))
        .await
        .unwrap_err();
    assert_eq!(odd.reason(), "POSTING_UNBALANCED");

    ledger
        .post(cx, posting("2", &[("author", 7, -90), ("wechat", 0, 90)]))
        .await
        .unwrap();
    let window = |cursor: String| ListPostingsRequest {
        biz: "test".to_owned(),
        from_us: posted.at_us,
        to_us: i64::MAX,
        cursor,
        limit: 1,
    };
    let first = ledger.list_postings(cx, window(String::new())).await.unwrap();
    assert_eq!(first.postings, [posted]);
    let second = ledger.list_postings(cx, window(first.next_cursor)).await.unwrap();
    assert_eq!(second.postings[0].biz_id, "2");
    assert!(
        ledger
            .list_postings(cx, window(second.next_cursor))
            .await
            .unwrap()
            .postings
            .is_empty()
    );
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
