//! Following, lists and counters, in every shape.

use std::time::Duration;

use mosaic::{Code, Result};
use mosaic_api::relations::v1::{
    ListFolloweesRequest, ListFollowerIdsRequest, ListFollowersRequest, ListRelationsResponse,
};
use mosaic_testing::{Shape, until};

use crate::support::{Calls, Heard, app};

const APART: Shape = Shape::Apart(&[&["witness"], &["relations"]]);

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, code: Code, reason: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.reason()), (code, reason));
}

async fn journey(shape: Shape) {
    let (builder, heard) = app(shape);
    let app = builder.set("relations.followees_max", "3").start().await;
    let calls = Calls::of(&app);
    refused(calls.set(1, 1, true).await, Code::InvalidArgument, "SELF_FOLLOW");
    refused(calls.set(1, 1, false).await, Code::InvalidArgument, "SELF_FOLLOW");
    assert_eq!(calls.set(0, 1, true).await.unwrap_err().code(), Code::InvalidArgument);

    // 1 follows 2, 3 and 4, the first of them twice; 3 follows 1.
    for (follower, followee) in [(1, 2), (1, 2), (1, 3), (1, 4), (3, 1)] {
        calls.set(follower, followee, true).await.unwrap();
    }
    refused(
        calls.set(1, 5, true).await,
        Code::FailedPrecondition,
        "TOO_MANY_FOLLOWEES",
    );
    calls.set(1, 4, true).await.unwrap();
    calls.set(2, 1, false).await.unwrap();
    assert_eq!(calls.counters(1).await, (1, 3), "followers, followees");
    assert_eq!(calls.counters(2).await, (1, 0), "is followed, follows nobody");
    assert_eq!(calls.rows(1).await, (vec![3], vec![2, 3, 4]));

    let seen = calls.stats(&[4, 1, 3, 9], 1).await;
    let seen: Vec<_> = seen
        .iter()
        .map(|stats| {
            (
                stats.account_id,
                stats.followers,
                stats.followees,
                stats.is_followed_by_viewer,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(4, 1, 0, true), (1, 1, 3, false), (3, 1, 1, true), (9, 0, 0, false)],
        "in the order asked for, oneself never followed"
    );
    assert!(
        !calls.stats(&[1], 2).await[0].is_followed_by_viewer,
        "2 does not follow 1: 1 follows 2"
    );

    calls.set(1, 3, false).await.unwrap();
    calls.set(1, 3, false).await.unwrap();
    assert_eq!((calls.counters(1).await, calls.counters(3).await), ((1, 2), (0, 1)));
    each_change_is_told_once(&calls, &heard).await;
    app.stop().await;
}

async fn each_change_is_told_once(calls: &Calls<'_>, heard: &Heard) {
    let told = [(1, 2, true), (1, 3, true), (1, 4, true), (3, 1, true), (1, 3, false)];
    until("all is told", Duration::from_secs(10), || async {
        heard.all().len() >= told.len()
    })
    .await;
    // One more change behind them: whatever was told for nothing would be there by then.
    calls.set(1, 5, true).await.unwrap();
    until("the last is told", Duration::from_secs(10), || async {
        heard.all().contains(&(1, 5, true))
    })
    .await;
    let mut heard = heard.all();
    heard.retain(|event| *event != (1, 5, true));
    heard.sort_unstable();
    let mut told = told.to_vec();
    told.sort_unstable();
    assert_eq!(heard, told, "a change is told once, and nothing else is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journey_together() {
    journey(Shape::Together).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journey_strict() {
    journey(Shape::Strict).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journey_apart() {
    journey(APART).await;
}

fn page(response: &ListRelationsResponse) -> (Vec<i64>, i64) {
    let ids = response.relations.iter().map(|relation| relation.account_id).collect();
    (ids, response.next_cursor)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_newest_first_and_page_without_gaps() {
    let (builder, _) = app(Shape::Together);
    let app = builder.start().await;
    let calls = Calls::of(&app);
    for other in [5, 9, 2, 7, 4] {
        calls.set(1, other, true).await.unwrap();
        calls.set(other, 100, true).await.unwrap();
    }
    let (mut followees, mut followers, mut cursors) = (Vec::new(), Vec::new(), (0, 0));
    for want_more in [true, true, false] {
        let request = ListFolloweesRequest {
            account_id: 1,
            cursor: cursors.0,
            limit: 2,
        };
        let (ids, next) = page(&calls.client.list_followees(&calls.cx(), request).await.unwrap());
        followees.extend(ids);
        let request = ListFollowersRequest {
            account_id: 100,
            cursor: cursors.1,
            limit: 2,
        };
        let (ids, other_next) = page(&calls.client.list_followers(&calls.cx(), request).await.unwrap());
        followers.extend(ids);
        assert_eq!((next > 0, other_next > 0), (want_more, want_more));
        cursors = (next, other_next);
    }
    assert_eq!((followees, followers), (vec![4, 7, 2, 9, 5], vec![4, 7, 2, 9, 5]));

    let mut request = ListFollowerIdsRequest {
        account_id: 100,
        after: 0,
        limit: 3,
    };
    let first = calls.client.list_follower_ids(&calls.cx(), request).await.unwrap();
    request.after = 5;
    let second = calls.client.list_follower_ids(&calls.cx(), request).await.unwrap();
    assert_eq!((first.account_ids, second.account_ids), (vec![2, 4, 5], vec![7, 9]));
    request.limit = 1001;
    let refused = calls.client.list_follower_ids(&calls.cx(), request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    app.stop().await;
}
