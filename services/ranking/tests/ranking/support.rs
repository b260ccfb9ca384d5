//! A module that publishes what others would.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mosaic::{AccountId, App, Context, Module, Transactions};
use mosaic_api::events::{Item, ItemPublished, ItemWithdrawn, LikesChanged};
use mosaic_api::ranking::v1::{GetHotRequest, GetHotResponse, GetTopRequest, RankingClient, RefreshRequest};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys, until};

/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BIZ: &str = "article";

/// Where the publishing module leaves the door to its outbox.
#[derive(Clone, Default)]
pub(crate) struct Press(Arc<OnceLock<Transactions>>);

impl Press {
    /// Publishes, in one transaction.
    pub(crate) async fn publish(&self, cx: &Context, news: &[News]) {
        let published = self.0.get().expect("an installed module").run(async |tx| {
            for news in news {
                match news {
                    News::Published(event) => tx.publish(cx, event).await?,
                    News::Withdrawn(event) => tx.publish(cx, event).await?,
                    News::Likes(event) => tx.publish(cx, event).await?,
                };
            }
            Ok(())
        });
        published.await.expect("a transaction that commits");
    }
}

pub(crate) enum News {
    Published(ItemPublished),
    Withdrawn(ItemWithdrawn),
    Likes(LikesChanged),
}

fn item(biz_id: i64) -> Item {
    Item {
        biz: BIZ.to_owned(),
        biz_id,
    }
}

fn author() -> AccountId {
    AccountId::try_from(7).expect("a valid id")
}

pub(crate) fn published(biz_id: i64, at_us: i64) -> News {
    News::Published(ItemPublished {
        item: item(biz_id),
        author: author(),
        published_at_us: at_us,
    })
}

pub(crate) fn withdrawn(biz_id: i64) -> News {
    News::Withdrawn(ItemWithdrawn {
        item: item(biz_id),
        author: author(),
    })
}

pub(crate) fn likes(biz_id: i64, likes: i64) -> News {
    News::Likes(LikesChanged {
        item: item(biz_id),
        likes,
    })
}

/// Ranking, and somebody who publishes.
pub(crate) fn app(shape: Shape) -> (TestAppBuilder, Press) {
    let press = Press::default();
    let door = press.clone();
    let install = async move |m: &mut Module| {
        m.database(&[]).await?;
        // In several processes the first one that comes.
        let _ = door.0.set(m.transactions()?);
        Ok(())
    };
    let app = App::new("ranking_test")
        .module("ranking", ranking::install)
        .module("press", install)
        .everywhere("keys", keys);
    (TestApp::builder(app).shape(shape), press)
}

pub(crate) async fn top(app: &TestApp, n: u32) -> Vec<(i64, i64)> {
    let client: RankingClient = app.client("content");
    let request = GetTopRequest { biz: BIZ.to_owned(), n };
    let answer = client
        .get_top(&Context::new(app.runtime()), request)
        .await
        .expect("an answer");
    answer.items.into_iter().map(|item| (item.biz_id, item.likes)).collect()
}

pub(crate) async fn hot(app: &TestApp, limit: u32) -> GetHotResponse {
    let client: RankingClient = app.client("content");
    let request = GetHotRequest {
        biz: BIZ.to_owned(),
        limit,
    };
    client
        .get_hot(&Context::new(app.runtime()), request)
        .await
        .expect("an answer")
}

/// Computes the hot list now and returns when.
pub(crate) async fn refresh(app: &TestApp) -> i64 {
    let client: RankingClient = app.client("content");
    let request = RefreshRequest { biz: BIZ.to_owned() };
    let answer = client.refresh(&Context::new(app.runtime()), request).await;
    answer.expect("a list that can be computed").computed_at_us
}

pub(crate) async fn until_top(app: &TestApp, expected: &[(i64, i64)]) {
    let n = u32::try_from(expected.len() + 1).expect("a small number");
    until("the top list is as expected", PATIENCE, || async {
        top(app, n).await == expected
    })
    .await;
}
