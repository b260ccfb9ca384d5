//! Lists and what events make of them, in every shape.

use std::time::Duration;

use mosaic::{Code, Context};
use mosaic_api::ranking::v1::{GetHotRequest, GetTopRequest, RankingClient};
use mosaic_testing::{Shape, in_every_shape, until};

use crate::support::{BIZ, PATIENCE, app, hot, likes, published, refresh, top, until_top, withdrawn};

const APART: Shape = Shape::Apart(&[&["press"], &["ranking"]]);

in_every_shape!(APART; events_make_the_lists, requests_are_bounded);

async fn events_make_the_lists(shape: Shape) {
    let (builder, press) = app(shape);
    let app = builder.start().await;
    let cx = Context::new(app.runtime());
    assert_eq!(top(&app, 10).await, []);
    assert_eq!(hot(&app, 0).await.computed_at_us, 0);
    assert_eq!(refresh(&app).await, 0, "there is nothing to compute");

    // Liked before anybody said that it is published.
    press.publish(&cx, &[likes(3, 5)]).await;
    let now = app.runtime().now();
    let ago = |secs| now.minus(Duration::from_secs(secs)).as_micros();
    let news = [1, 2, 3].map(|id| published(id, ago(3600)));
    press.publish(&cx, &news).await;
    press
        .publish(
            &cx,
            &[
                published(4, ago(8 * 24 * 3600)),
                likes(4, 1000),
                likes(1, 2),
                likes(1, 2),
            ],
        )
        .await;
    until_top(&app, &[(4, 1000), (3, 5), (1, 2), (2, 0)]).await;
    assert_eq!(top(&app, 2).await, [(4, 1000), (3, 5)]);

    let first = refresh(&app).await;
    let list = hot(&app, 0).await;
    assert_eq!(list.computed_at_us, first);
    let ids: Vec<i64> = list.items.iter().map(|item| item.biz_id).collect();
    assert_eq!(ids, [3, 1, 2], "nothing that is older than a week");
    let expected = 4.0 / 3602.0_f64.powf(1.5);
    assert!((list.items[0].score / expected - 1.0).abs() < 0.05, "{list:?}");
    assert_eq!(hot(&app, 1).await.items.len(), 1);

    // Withdrawn, unliked to equality, and a new version, which is no new item.
    press
        .publish(
            &cx,
            &[
                withdrawn(3),
                likes(3, 50),
                likes(1, 0),
                published(1, ago(3600)),
                likes(4, 1001),
            ],
        )
        .await;
    until_top(&app, &[(4, 1001), (2, 0), (1, 0)]).await;
    assert!(refresh(&app).await > first);
    let ids: Vec<i64> = hot(&app, 0).await.items.iter().map(|item| item.biz_id).collect();
    assert_eq!(ids, [2, 1]);

    // Published again, it has its likes again.
    press.publish(&cx, &[published(3, ago(60))]).await;
    until_top(&app, &[(4, 1001), (3, 50), (2, 0), (1, 0)]).await;
    app.stop().await;
}

async fn requests_are_bounded(shape: Shape) {
    let (builder, _) = app(shape);
    let app = builder.start().await;
    let client: RankingClient = app.client("content");
    let cx = Context::new(app.runtime());
    let top = |biz: &str, n| client.get_top(&cx, GetTopRequest { biz: biz.to_owned(), n });
    for (biz, n, is_good) in [
        (BIZ, 1, true),
        (BIZ, 1000, true),
        (BIZ, 0, false),
        (BIZ, 1001, false),
        ("", 1, false),
    ] {
        let code = top(biz, n).await.err().map(|error| error.code());
        assert_eq!(code, (!is_good).then_some(Code::InvalidArgument), "{biz:?} {n}");
    }
    let request = GetHotRequest {
        biz: BIZ.to_owned(),
        limit: 101,
    };
    let refused = client.get_hot(&cx, request).await;
    assert_eq!(refused.map_err(|error| error.code()), Err(Code::InvalidArgument));
    app.stop().await;
}

/// Two nodes over one database: what one handles or computes, both answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_has_the_lists() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (builder, press) = app(Shape::Apart(&[&["ranking", "press"], &["ranking"]]));
    let url = format!("sqlite:{}/", folder.path().display());
    let app = builder.set("database.url", url).start().await;
    let cx = Context::new(app.runtime());
    let now = app.runtime().now().as_micros();
    press
        .publish(&cx, &[published(1, now), likes(1, 3), published(2, now), likes(2, 4)])
        .await;
    until_top(&app, &[(2, 4), (1, 3)]).await;
    let computed_at = refresh(&app).await;
    for process in app.processes() {
        let client: RankingClient = process.directory().client("content");
        until("both nodes have both lists", PATIENCE, || async {
            let request = GetTopRequest {
                biz: BIZ.to_owned(),
                n: 5,
            };
            let top = client.get_top(&cx, request).await.expect("an answer");
            let request = GetHotRequest {
                biz: BIZ.to_owned(),
                limit: 0,
            };
            let hot = client.get_hot(&cx, request).await.expect("an answer");
            top.items.len() == 2 && hot.computed_at_us == computed_at
        })
        .await;
    }
    app.stop().await;
}
