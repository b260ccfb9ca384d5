//! What holds in every shape and on every engine.

use futures::future::{join, join_all};
use mosaic::{Code, Error};
use mosaic_api::comments::v1::Comment;
use mosaic_testing::TestAppBuilder;

use crate::support::Article;

pub(crate) async fn all(builder: TestAppBuilder) {
    let app = builder.start().await;
    lists_show_roots_with_their_newest_replies(&Article::new(&app, 1)).await;
    texts_come_back_as_they_were(&Article::new(&app, 2)).await;
    only_the_author_deletes_and_the_subtree_goes(&Article::new(&app, 3)).await;
    what_is_not_there_takes_no_reply(&Article::new(&app, 4), &Article::new(&app, 5)).await;
    a_repeated_create_makes_one(&Article::new(&app, 6), &Article::new(&app, 7)).await;
    an_item_that_is_gone_takes_nothing(&Article::new(&app, 8), &Article::new(&app, 9)).await;
    a_deep_tree_goes_at_once(&Article::new(&app, 10)).await;
    racing_replies_and_deletes_leave_no_orphan(&Article::new(&app, 11)).await;
    app.stop().await;
}

#[track_caller]
fn is(error: &Error, code: Code, reason: &str) {
    assert_eq!((error.code(), error.reason()), (code, reason));
}

fn texts<'a>(comments: impl IntoIterator<Item = &'a Comment>) -> Vec<&'a str> {
    comments.into_iter().map(|comment| comment.content.as_str()).collect()
}

async fn lists_show_roots_with_their_newest_replies(article: &Article<'_>) {
    assert!(article.roots(0, 10).await.is_empty());
    let first = article.write(1, 0, "first").await;
    let second = article.write(2, 0, "second").await;
    let third = article.write(3, 0, "third").await;
    let mut parent = first.id;
    for text in ["a", "b", "c", "d"] {
        parent = article.write(4, parent, text).await.id;
    }
    article.write(5, third.id, "x").await;
    let roots = article.roots(0, 50).await;
    let seen: Vec<_> = roots
        .iter()
        .map(|root| {
            let text = root.comment.as_ref().unwrap().content.as_str();
            (text, root.n_replies, texts(&root.newest_replies))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("third", 1, vec!["x"]),
            ("second", 0, vec![]),
            ("first", 4, vec!["d", "c", "b"])
        ]
    );
    assert_eq!(texts(&article.replies(first.id).await), ["a", "b", "c", "d"]);
    let page = article.roots(third.id, 1).await;
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].comment.as_ref().unwrap().id, second.id);
    assert_eq!(article.counts(&[999, article.biz_id, 1]).await, [0, 8, 8]);
    article.assert_sound().await;
}

async fn texts_come_back_as_they_were(article: &Article<'_>) {
    let longest = "泥".repeat(2000);
    for text in [
        "<script>alert('x')</script>&amp;\"",
        " 泥鳅 👋\n\t ",
        "'; DROP TABLE comment; --",
        &longest,
    ] {
        let written = article.write(1, 0, text).await;
        let root = article.roots(0, 1).await.remove(0).comment.unwrap();
        assert_eq!((root.id, root.content.as_str()), (written.id, text));
        assert_eq!(
            (root.account_id, root.biz_id, root.biz.as_str()),
            (1, article.biz_id, "article")
        );
        assert_eq!(root, written, "created and listed alike");
    }
    for text in ["", "a\0b", &"x".repeat(2001)] {
        let error = article.try_write(1, 0, text).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    assert_eq!(article.counts(&[article.biz_id]).await, [4]);
}

async fn only_the_author_deletes_and_the_subtree_goes(article: &Article<'_>) {
    let root = article.write(1, 0, "root").await;
    let a = article.write(2, root.id, "a").await;
    let b = article.write(1, a.id, "b").await;
    article.write(3, b.id, "c").await;
    article.write(3, root.id, "d").await;
    for (id, account) in [(a.id, 1), (root.id, 2), (b.id, 3), (987_654, 1)] {
        is(
            &article.delete(id, account).await.unwrap_err(),
            Code::NotFound,
            "COMMENT_NOT_FOUND",
        );
    }
    article.delete(a.id, 2).await.unwrap();
    assert_eq!(texts(&article.replies(root.id).await), ["d"]);
    article.assert_sound().await;
    is(
        &article.delete(a.id, 2).await.unwrap_err(),
        Code::NotFound,
        "COMMENT_NOT_FOUND",
    );
    article.delete(root.id, 1).await.unwrap();
    assert!(article.roots(0, 10).await.is_empty());
    assert_eq!(article.counts(&[article.biz_id]).await, [0]);
}

async fn what_is_not_there_takes_no_reply(article: &Article<'_>, other: &Article<'_>) {
    let root = article.write(1, 0, "root").await;
    let reply = article.write(1, root.id, "reply").await;
    for parent in [root.id, reply.id] {
        is(
            &other.try_write(1, parent, "stray").await.unwrap_err(),
            Code::NotFound,
            "COMMENT_NOT_FOUND",
        );
    }
    article.delete(root.id, 1).await.unwrap();
    for parent in [root.id, reply.id, 987_654] {
        is(
            &article.try_write(1, parent, "late").await.unwrap_err(),
            Code::NotFound,
            "COMMENT_NOT_FOUND",
        );
    }
    assert_eq!(article.counts(&[article.biz_id, other.biz_id]).await, [0, 0]);
}

async fn a_repeated_create_makes_one(article: &Article<'_>, other: &Article<'_>) {
    let cx = article.cx().with_idempotency_key(Some("Key".into()));
    let create = |draft| article.client.create(&cx, draft);
    let root = article.write(1, 0, "root").await;
    let together = join_all((0..20).map(|_| create(article.draft(1, root.id, "once")))).await;
    let ids: Vec<_> = together.into_iter().map(|created| created.unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(article.counts(&[article.biz_id]).await, [2]);
    for draft in [
        article.draft(1, root.id, "another text"),
        article.draft(1, 0, "once"),
        other.draft(1, 0, "once"),
    ] {
        is(
            &create(draft).await.unwrap_err(),
            Code::FailedPrecondition,
            "IDEMPOTENCY_KEY_REUSED",
        );
    }
    create(article.draft(2, root.id, "once")).await.unwrap();
    let in_capitals = article.cx().with_idempotency_key(Some("KEY".into()));
    let created = article.client.create(&in_capitals, article.draft(1, root.id, "once"));
    assert_ne!(created.await.unwrap().id, ids[0], "another key");
    assert_eq!(article.counts(&[article.biz_id, other.biz_id]).await, [4, 0]);
    article.assert_sound().await;
}

async fn an_item_that_is_gone_takes_nothing(article: &Article<'_>, other: &Article<'_>) {
    let root = article.write(1, 0, "root").await;
    article.write(1, root.id, "reply").await;
    other.write(1, 0, "stays").await;
    article.delete_item().await;
    article.delete_item().await;
    is(
        &article.try_write(1, 0, "late").await.unwrap_err(),
        Code::FailedPrecondition,
        "ITEM_GONE",
    );
    assert!(article.roots(0, 10).await.is_empty());
    assert!(article.replies(root.id).await.is_empty());
    assert_eq!(article.counts(&[article.biz_id, other.biz_id]).await, [0, 1]);
}

async fn a_deep_tree_goes_at_once(article: &Article<'_>) {
    const DEPTH: i64 = 1100;
    let root = article.write(1, 0, "root").await;
    let mut parent = article.write(2, root.id, "stays").await.id;
    let mut top = 0;
    for _ in 0..DEPTH {
        parent = article.write(3, parent, "deep").await.id;
        if top == 0 {
            top = parent;
        }
    }
    assert_eq!(article.counts(&[article.biz_id]).await, [DEPTH + 2]);
    article.delete(top, 3).await.unwrap();
    assert_eq!(texts(&article.replies(root.id).await), ["stays"]);
    article.assert_sound().await;
}

async fn racing_replies_and_deletes_leave_no_orphan(article: &Article<'_>) {
    for round in 0..5 {
        let root = article.write(1, 0, "root").await;
        let middle = article.write(2, root.id, "middle").await;
        let leaf = article.write(2, middle.id, "leaf").await;
        // Every third round the root itself goes.
        let (target, owner) = if round % 3 == 0 { (root.id, 1) } else { (middle.id, 2) };
        let replies =
            join_all((0..100).map(|n| article.try_write(3, leaf.id, if n % 2 == 0 { "even" } else { "odd" })));
        let (replies, deleted) = join(replies, article.delete(target, owner)).await;
        deleted.unwrap();
        for error in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            is(error, Code::NotFound, "COMMENT_NOT_FOUND");
        }
        article.assert_sound().await;
        let written = replies.iter().flatten().map(|reply| reply.id);
        let left = article.replies(root.id).await;
        assert!(written.into_iter().all(|id| left.iter().all(|reply| reply.id != id)));
    }
}
