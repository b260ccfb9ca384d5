//! What is indexed is found, in every shape.

use mosaic_api::interaction::v1::{InteractionClient, SetCollectedRequest, SetLikeRequest};
use mosaic_api::search::v1::SearchRequest;
use mosaic_testing::{Shape, in_every_shape, until};

use crate::support::{APART, Calls, WAIT, alone, app, article, query};

in_every_shape!(APART;
    an_item_is_found_until_it_is_removed,
    people_are_found_by_the_name_they_have,
    what_the_caller_likes_comes_first,
);

async fn an_item_is_found_until_it_is_removed(shape: Shape) {
    let (builder, _) = app(shape);
    let app = builder.start().await;
    let calls = Calls::of(&app);
    let mut tagged = article(2, 1, "二", "some text");
    tagged.tags = vec!["微服务".into()];
    calls.index(tagged).await;
    calls
        .index(article(1, 5, "微服务入门", "How to cut a monolith (a+)+$"))
        .await;
    calls.until_items("微服务", &[1, 2]).await;
    let found = calls.search(query("Monolith")).await.unwrap();
    let [item] = found.items.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (item.biz.as_str(), item.biz_id, item.title.as_str()),
        ("article", 1, "微服务入门")
    );
    assert!(item.score > 0.0);
    assert_eq!(calls.items(query("(a+)+$")).await, [1], "signs are signs");
    for (biz, want) in [("article", 2), ("video", 0)] {
        let only = SearchRequest {
            biz: biz.into(),
            ..query("微服务")
        };
        assert_eq!(calls.items(only).await.len(), want, "{biz}");
    }
    let second = SearchRequest {
        limit: 1,
        offset: 1,
        ..query("微服务")
    };
    assert_eq!(calls.items(second).await, [2]);

    // Late: what is newer stays, and a removal is a version.
    calls.index(article(1, 4, "old", "")).await;
    calls.remove(1, 4).await;
    calls.index(article(3, 1, "old marker", "")).await;
    calls.until_items("old", &[3]).await;
    assert_eq!(calls.items(query("微服务")).await, [1, 2]);
    calls.remove(1, 6).await;
    calls.until_items("微服务", &[2]).await;
    calls.index(article(1, 5, "微服务", "")).await;
    calls.index(article(4, 1, "second marker", "")).await;
    calls.until_items("second", &[4]).await;
    assert_eq!(calls.items(query("微服务")).await, [2], "it does not come back");
    calls.index(article(1, 7, "微服务", "")).await;
    calls.until_items("微服务", &[1, 2]).await;
    app.stop().await;
}

async fn people_are_found_by_the_name_they_have(shape: Shape) {
    let (builder, registrar) = app(shape);
    let app = builder.start().await;
    let calls = Calls::of(&app);
    registrar.register(&app, 7).await;
    until("the account is found", WAIT, || async {
        calls.users("用户000007").await.first().is_some_and(|user| user.0 == 7)
    })
    .await;
    for name in ["Grace Hopper", "格蕾丝"] {
        calls.rename(7, name).await;
        until("the name is found", WAIT, || async {
            calls.users(name).await == [(7, name.to_owned())]
        })
        .await;
    }
    assert!(calls.users("Hopper").await.is_empty());
    assert!(calls.users("用户000007").await.is_empty());
    app.stop().await;
}

async fn what_the_caller_likes_comes_first(shape: Shape) {
    let (builder, _) = app(shape);
    let app = builder.start().await;
    let calls = Calls::of(&app);
    for id in 1..=4 {
        calls.index(article(id, 1, "tea", "time")).await;
    }
    until("all are found", WAIT, || async {
        calls.items(query("tea")).await.len() == 4
    })
    .await;
    let (account_id, biz) = (9, "article".to_owned());
    let interaction: InteractionClient = app.client("content");
    let like = SetLikeRequest {
        biz: biz.clone(),
        biz_id: 2,
        account_id,
        liked: true,
    };
    interaction.set_like(&calls.cx(), like).await.unwrap();
    let collect = SetCollectedRequest {
        biz: biz.clone(),
        biz_id: 3,
        account_id,
        folder_id: 0,
        collected: true,
    };
    interaction.set_collected(&calls.cx(), collect).await.unwrap();
    let his = SearchRequest {
        account_id,
        biz,
        ..query("tea")
    };
    let found = calls.search(his.clone()).await.unwrap().items;
    assert_eq!(found.iter().map(|item| item.biz_id).take(2).collect::<Vec<_>>(), [3, 2]);
    let near = |one: f64, other: f64| (one / other - 1.0).abs() < 1e-3;
    assert!(
        near(found[0].score, 4.0 * found[3].score) && near(found[1].score, 2.0 * found[3].score),
        "{found:?}"
    );
    let strangers = SearchRequest { account_id: 10, ..his };
    let found = calls.search(strangers).await.unwrap().items;
    assert!(near(found[0].score, found[3].score), "{found:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_interaction_everybody_is_a_stranger() {
    let app = alone().start().await;
    let calls = Calls::of(&app);
    calls.index(article(1, 1, "tea", "")).await;
    calls.until_items("tea", &[1]).await;
    let his = SearchRequest {
        account_id: 9,
        biz: "article".into(),
        ..query("tea")
    };
    assert_eq!(calls.items(his).await, [1]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_contract_does_not_allow_is_refused() {
    let app = alone().start().await;
    let calls = Calls::of(&app);
    for request in [
        query(""),
        query(&"x".repeat(257)),
        SearchRequest {
            limit: 51,
            ..query("x")
        },
        SearchRequest {
            offset: 1001,
            ..query("x")
        },
        SearchRequest {
            account_id: -1,
            ..query("x")
        },
        SearchRequest {
            biz: "Not a kind".into(),
            ..query("x")
        },
    ] {
        assert_eq!(calls.search(request).await.unwrap_err().reason(), "INVALID_REQUEST");
    }
    // The longest that is allowed, in the widest characters.
    assert!(calls.items(query(&"\u{20000}".repeat(256))).await.is_empty());
    assert!(calls.items(query("%%%%")).await.is_empty());
    let mut item = article(1, 1, "", "");
    item.version = 0;
    assert_eq!(
        calls.client.index_item(&calls.cx(), item).await.unwrap_err().reason(),
        "INVALID_REQUEST"
    );
    app.stop().await;
}
