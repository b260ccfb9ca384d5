//! Feed and relations, somebody who publishes, and calls in short.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mosaic::{AccountId, App, Context, Module, Result, Transactions};
use mosaic_api::events::{Item, ItemPublished, ItemWithdrawn};
use mosaic_api::feed::v1::{FeedClient, GetFeedRequest, GetFeedResponse};
use mosaic_api::relations::v1::{RelationsClient, SetFollowRequest};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys, until};

const SOON: Duration = Duration::from_secs(30);

/// Publishes events; the database is that of the module `press`.
#[derive(Clone, Default)]
pub(crate) struct Press(Arc<OnceLock<Transactions>>);

/// More than two followers are many, an inbox holds nine, a task brings an item to one.
pub(crate) fn app(shape: Shape) -> (TestAppBuilder, Press) {
    app_with(shape, relations::install)
}

/// As [`app`] with other relations.
pub(crate) fn app_with(
    shape: Shape,
    relations: impl AsyncFn(&mut Module) -> Result<()> + 'static,
) -> (TestAppBuilder, Press) {
    let press = Press::default();
    let door = press.clone();
    let install = async move |m: &mut Module| {
        m.database(&[]).await?;
        let _ = door.0.set(m.transactions()?);
        Ok(())
    };
    let app = App::new("feed_test")
        .module("feed", feed::install)
        .module("relations", relations)
        .module("press", install)
        .everywhere("keys", keys);
    let builder = TestApp::builder(app)
        .shape(shape)
        .set("feed.push_max_followers", "2")
        .set("feed.push_page", "1")
        .set("feed.inbox_max", "9")
        .set("feed.follow_brings", "4");
    (builder, press)
}

fn item(biz_id: i64) -> Item {
    Item {
        biz: "article".to_owned(),
        biz_id,
    }
}

pub(crate) struct World<'a> {
    app: &'a TestApp,
    press: Press,
    pub(crate) feed: FeedClient,
    relations: RelationsClient,
}

impl<'a> World<'a> {
    pub(crate) fn new(app: &'a TestApp, press: &Press) -> Self {
        Self {
            app,
            press: press.clone(),
            feed: app.client("content"),
            relations: app.client("content"),
        }
    }

    pub(crate) fn cx(&self) -> Context {
        Context::new(self.app.runtime())
    }

    /// Publishes an item whose time is its number.
    pub(crate) async fn publish(&self, author: i64, biz_id: i64) {
        let event = ItemPublished {
            item: item(biz_id),
            author: AccountId::try_from(author).unwrap(),
            published_at_us: biz_id,
        };
        let (cx, event) = (&self.cx(), &event);
        let transactions = self.press.0.get().unwrap();
        transactions
            .run(|tx| async move { tx.publish(cx, event).await.map(drop) })
            .await
            .unwrap();
    }

    pub(crate) async fn withdraw(&self, author: i64, biz_id: i64) {
        let event = ItemWithdrawn {
            item: item(biz_id),
            author: AccountId::try_from(author).unwrap(),
        };
        let (cx, event) = (&self.cx(), &event);
        let transactions = self.press.0.get().unwrap();
        transactions
            .run(|tx| async move { tx.publish(cx, event).await.map(drop) })
            .await
            .unwrap();
    }

    pub(crate) async fn set_follow(&self, follower_id: i64, followee_id: i64, following: bool) {
        let request = SetFollowRequest {
            follower_id,
            followee_id,
            following,
        };
        self.relations.set_follow(&self.cx(), request).await.unwrap();
    }

    pub(crate) async fn follow(&self, follower: i64, followee: i64) {
        self.set_follow(follower, followee, true).await;
    }

    pub(crate) async fn page(&self, account_id: i64, before: &str, limit: u32) -> GetFeedResponse {
        let request = GetFeedRequest {
            account_id,
            before: before.to_owned(),
            limit,
        };
        self.feed.get_feed(&self.cx(), request).await.unwrap()
    }

    /// Returns the numbers of the newest items in a feed.
    pub(crate) async fn items(&self, account: i64) -> Vec<i64> {
        let page = self.page(account, "", 50).await;
        page.entries.iter().map(|entry| entry.biz_id).collect()
    }

    /// Waits until a feed holds exactly `want`.
    pub(crate) async fn shows(&self, account: i64, want: &[i64]) {
        eprintln!(
            "account {account} is to see {want:?}, sees {:?}",
            self.items(account).await
        );
        until("the feed shows what it should", SOON, || async {
            self.items(account).await == want
        })
        .await;
    }
}
