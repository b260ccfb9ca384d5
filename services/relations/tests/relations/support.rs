//! The module under test, somebody who hears what it tells, and calls in short.

use std::sync::{Arc, Mutex};

use mosaic::events::Handle;
use mosaic::{App, Context, Module, Result, lock};
use mosaic_api::events::FollowChanged;
use mosaic_api::relations::v1::{
    GetStatsRequest, ListFolloweeIdsRequest, ListFollowerIdsRequest, RelationsClient, SetFollowRequest, Stats,
};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys};

/// Keeps what relations tell.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<(i64, i64, bool)>>>);

impl Handle<FollowChanged> for Heard {
    async fn handle(&self, _: &Context, event: FollowChanged) -> Result<()> {
        lock(&self.0).push((event.follower.get(), event.followee.get(), event.is_following));
        Ok(())
    }
}

impl Heard {
    pub(crate) fn all(&self) -> Vec<(i64, i64, bool)> {
        lock(&self.0).clone()
    }
}

pub(crate) fn app(shape: Shape) -> (TestAppBuilder, Heard) {
    let heard = Heard::default();
    let witness = heard.clone();
    let listening = async move |m: &mut Module| {
        m.database(&[]).await?;
        let group = m.group("witness.follows")?.on(Arc::new(witness.clone()));
        m.consume(group);
        Ok(())
    };
    let app = App::new("relations_test")
        .module("relations", relations::install)
        .module("witness", listening)
        .everywhere("keys", keys);
    (TestApp::builder(app).shape(shape), heard)
}

/// Calls relations.
pub(crate) struct Calls<'a> {
    app: &'a TestApp,
    pub(crate) client: RelationsClient,
}

impl<'a> Calls<'a> {
    pub(crate) fn of(app: &'a TestApp) -> Self {
        let client = app.client("content");
        Self { app, client }
    }

    pub(crate) fn cx(&self) -> Context {
        Context::new(self.app.runtime())
    }

    pub(crate) async fn set(&self, follower_id: i64, followee_id: i64, following: bool) -> Result<()> {
        let request = SetFollowRequest {
            follower_id,
            followee_id,
            following,
        };
        self.client.set_follow(&self.cx(), request).await
    }

    pub(crate) async fn stats(&self, account_ids: &[i64], viewer_id: i64) -> Vec<Stats> {
        let request = GetStatsRequest {
            account_ids: account_ids.to_vec(),
            viewer_id,
        };
        self.client.get_stats(&self.cx(), request).await.unwrap().stats
    }

    /// Returns (followers, followees) of an account by its counters.
    pub(crate) async fn counters(&self, account: i64) -> (i64, i64) {
        let stats = self.stats(&[account], 0).await;
        (stats[0].followers, stats[0].followees)
    }

    /// Returns (followers, followees) of an account by its rows.
    pub(crate) async fn rows(&self, account_id: i64) -> (Vec<i64>, Vec<i64>) {
        let (after, limit) = (0, 1000);
        let followers = ListFollowerIdsRequest {
            account_id,
            after,
            limit,
        };
        let followees = ListFolloweeIdsRequest {
            account_id,
            after,
            limit,
        };
        let followers = self.client.list_follower_ids(&self.cx(), followers).await.unwrap();
        let followees = self.client.list_followee_ids(&self.cx(), followees).await.unwrap();
        (followers.account_ids, followees.account_ids)
    }
}
