//! What is refused, and what happens to who does not wait.

use futures::FutureExt as _;
use futures::future::join_all;
use mosaic::Code;
use mosaic_api::interaction::v1::{GetManyRequest, ListHistoryRequest, ListLikedRequest};

use crate::support::{ARTICLE, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_what_was_taken_is_exact() {
    let plan = Plan::embedded()
        .set("interaction.queue_max", "10")
        .set("interaction.batch_max", "3");
    let bench = plan.start().await;
    let all = join_all((1..=500).map(|account| bench.like(1, account, true))).await;
    let refused: Vec<_> = all.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(!refused.is_empty(), "500 do not fit");
    for error in &refused {
        assert_eq!(
            (error.code(), error.reason()),
            (Code::ResourceExhausted, "INTERACTION_BUSY")
        );
    }
    assert_eq!(bench.get(1, 0).await.likes, 500 - refused.len() as i64);
    bench.check_counters(&[1]).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_leaves_counters_exact() {
    let bench = Plan::embedded().start().await;
    for round in 0..50 {
        let calls = (1..=20).map(|account| bench.like(1, account, (account + round) % 3 != 0));
        // Begun, and dropped wherever they are.
        let mut all = Box::pin(join_all(calls));
        for _ in 0..round % 5 {
            assert!(all.as_mut().now_or_never().is_none() || round % 5 > 1);
            tokio::task::yield_now().await;
        }
    }
    // Behind all of them in the queue.
    bench.like(2, 1, true).await.unwrap();
    bench.check_counters(&[1, 2]).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_bounded() {
    let bench = Plan::embedded().start().await;
    let biz = || ARTICLE.to_owned();
    let history = |limit| ListHistoryRequest {
        account_id: 1,
        biz: biz(),
        before: None,
        limit,
    };
    let liked = |limit| ListLikedRequest {
        account_id: 1,
        biz: biz(),
        limit,
    };
    let many = |n| GetManyRequest {
        biz: biz(),
        biz_ids: (1..=n).collect(),
        account_id: 0,
    };
    for (limit, is_fine) in [(0, false), (1, true), (100, true), (101, false)] {
        assert_eq!(
            bench.client.list_history(&bench.cx, history(limit)).await.is_ok(),
            is_fine
        );
    }
    for (limit, is_fine) in [(0, false), (1000, true), (1001, false)] {
        assert_eq!(bench.client.list_liked(&bench.cx, liked(limit)).await.is_ok(), is_fine);
    }
    for (n, is_fine) in [(0, false), (200, true), (201, false)] {
        assert_eq!(bench.client.get_many(&bench.cx, many(n)).await.is_ok(), is_fine);
    }
    bench.stop().await;
}
