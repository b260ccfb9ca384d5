//! What holds in every shape and on every engine. Authors have three-digit ids, readers two-digit ones.

use mosaic::Code;
use mosaic_api::feed::v1::GetFeedRequest;
use mosaic_testing::TestAppBuilder;

use crate::support::{Press, World};

pub(crate) async fn all((builder, press): (TestAppBuilder, Press)) {
    let app = builder.start().await;
    let world = World::new(&app, &press);
    a_withdrawn_item_is_gone_and_may_return(&world).await;
    an_author_crosses_the_threshold_both_ways(&world).await;
    pages_meet_without_gaps(&world).await;
    an_unfollowed_author_is_gone(&world).await;
    an_inbox_keeps_the_newest(&world).await;
    app.stop().await;
}

async fn a_withdrawn_item_is_gone_and_may_return(world: &World<'_>) {
    world.follow(10, 100).await;
    world.follow(11, 100).await;
    world.publish(100, 1).await;
    world.publish(100, 2).await;
    world.shows(10, &[2, 1]).await;
    world.shows(11, &[2, 1]).await;
    world.shows(100, &[]).await;
    let entry = world.page(10, "", 1).await.entries.remove(0);
    assert_eq!(
        (entry.biz.as_str(), entry.biz_id, entry.author_id, entry.published_at_us),
        ("article", 2, 100, 2)
    );
    world.withdraw(100, 1).await;
    world.shows(10, &[2]).await;
    world.shows(11, &[2]).await;
    world.publish(100, 1).await;
    world.publish(100, 1).await;
    world.shows(10, &[2, 1]).await;
}

async fn an_author_crosses_the_threshold_both_ways(world: &World<'_>) {
    // Two followers: pushed.
    world.follow(20, 200).await;
    world.follow(21, 200).await;
    world.publish(200, 11).await;
    world.shows(20, &[11]).await;
    // Four: pulled, and seen by who came later; the older one came with following.
    world.follow(22, 200).await;
    world.follow(23, 200).await;
    world.publish(200, 12).await;
    for reader in [20, 21, 22, 23] {
        world.shows(reader, &[12, 11]).await;
    }
    // The pushed one is published anew, which is pulled now: in inboxes and pulled, shown once.
    world.withdraw(200, 11).await;
    world.shows(20, &[12]).await;
    world.publish(200, 11).await;
    world.shows(20, &[12, 11]).await;
    // Two again: pushed, while the pulled ones are still pulled.
    world.set_follow(22, 200, false).await;
    world.set_follow(23, 200, false).await;
    world.publish(200, 13).await;
    world.shows(20, &[13, 12, 11]).await;
    world.shows(21, &[13, 12, 11]).await;
    world.shows(22, &[]).await;
    // A pulled one is withdrawn everywhere.
    world.withdraw(200, 12).await;
    world.shows(20, &[13, 11]).await;
    world.shows(21, &[13, 11]).await;
}

async fn pages_meet_without_gaps(world: &World<'_>) {
    for reader in [30, 31, 32] {
        world.follow(reader, 300).await;
    }
    world.follow(30, 301).await;
    for item in [21, 23, 25] {
        world.publish(300, item).await;
    }
    for item in [22, 24, 26] {
        world.publish(301, item).await;
    }
    world.shows(30, &[26, 25, 24, 23, 22, 21]).await;
    world.withdraw(301, 24).await;
    world.shows(30, &[26, 25, 23, 22, 21]).await;
    let (mut seen, mut before) = (Vec::new(), String::new());
    for want_more in [true, true, false] {
        let page = world.page(30, &before, 2).await;
        seen.extend(page.entries.iter().map(|entry| entry.biz_id));
        assert_eq!(!page.next.is_empty(), want_more);
        before = page.next;
    }
    assert_eq!(seen, [26, 25, 23, 22, 21]);
    let request = GetFeedRequest {
        account_id: 30,
        before: "soon".to_owned(),
        limit: 1,
    };
    let error = world.feed.get_feed(&world.cx(), request).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::InvalidArgument, "FEED_CURSOR_INVALID")
    );
}

async fn an_unfollowed_author_is_gone(world: &World<'_>) {
    world.follow(40, 400).await;
    world.follow(40, 401).await;
    for item in 31..=36 {
        world.publish(400, item).await;
    }
    world.publish(401, 37).await;
    world.shows(40, &[37, 36, 35, 34, 33, 32, 31]).await;
    world.set_follow(40, 400, false).await;
    assert_eq!(world.items(40).await, [37], "at once, whatever is in the inbox");
    // Following again brings the newest four.
    world.follow(40, 400).await;
    world.shows(40, &[37, 36, 35, 34, 33]).await;
}

async fn an_inbox_keeps_the_newest(world: &World<'_>) {
    world.follow(50, 500).await;
    for item in 41..=52 {
        world.publish(500, item).await;
        world
            .shows(50, &((item - 8).max(41)..=item).rev().collect::<Vec<_>>())
            .await;
    }
}
