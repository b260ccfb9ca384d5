//! Relations are down: what was brought is read, and what is published meanwhile is brought later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mosaic::{Context, Error, Module, Result, async_trait};
use mosaic_api::relations::v1::{
    GetStatsRequest, GetStatsResponse, ListFolloweeIdsRequest, ListFolloweesRequest, ListFollowerIdsRequest,
    ListFollowersRequest, ListIdsResponse, ListRelationsResponse, Relations, RelationsServer, SetFollowRequest, Stats,
};
use mosaic_testing::Shape;

use crate::support::{World, app_with};

/// The reader 10 follows the authors 100, who has few followers, and 101, who has many; unless it is down.
#[derive(Clone, Default)]
struct Switch {
    is_down: Arc<AtomicBool>,
}

impl Switch {
    fn answer<T>(&self, answer: T) -> Result<T> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("RELATIONS_DOWN", "relations are down"));
        }
        Ok(answer)
    }
}

#[async_trait]
impl Relations for Switch {
    async fn set_follow(&self, _: &Context, _: SetFollowRequest) -> Result<()> {
        self.answer(())
    }

    async fn get_stats(&self, _: &Context, request: GetStatsRequest) -> Result<GetStatsResponse> {
        let stats = request.account_ids.iter().map(|&account_id| Stats {
            account_id,
            followers: if account_id == 101 { 1000 } else { 1 },
            ..Stats::default()
        });
        self.answer(GetStatsResponse { stats: stats.collect() })
    }

    async fn list_followees(&self, _: &Context, _: ListFolloweesRequest) -> Result<ListRelationsResponse> {
        self.answer(ListRelationsResponse::default())
    }

    async fn list_followers(&self, _: &Context, _: ListFollowersRequest) -> Result<ListRelationsResponse> {
        self.answer(ListRelationsResponse::default())
    }

    async fn list_followee_ids(&self, _: &Context, request: ListFolloweeIdsRequest) -> Result<ListIdsResponse> {
        let account_ids = if request.account_id == 10 {
            vec![100, 101]
        } else {
            vec![]
        };
        self.answer(ListIdsResponse { account_ids })
    }

    async fn list_follower_ids(&self, _: &Context, request: ListFollowerIdsRequest) -> Result<ListIdsResponse> {
        let account_ids = if request.after < 10 { vec![10] } else { vec![] };
        self.answer(ListIdsResponse { account_ids })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_is_read_and_pushing_waits() {
    let switch = Switch::default();
    let server = switch.clone();
    let install = async move |m: &mut Module| {
        m.serve(RelationsServer::new(Arc::new(server.clone())));
        Ok(())
    };
    let (builder, press) = app_with(Shape::Together, install);
    let app = builder.start().await;
    let world = World::new(&app, &press);
    world.publish(100, 1).await;
    world.publish(101, 2).await;
    world.shows(10, &[2, 1]).await;
    switch.is_down.store(true, Ordering::SeqCst);
    assert_eq!(
        world.items(10).await,
        [1],
        "what was brought is there, what is pulled is not"
    );
    world.publish(100, 3).await;
    world.withdraw(100, 1).await;
    world.shows(10, &[]).await;
    switch.is_down.store(false, Ordering::SeqCst);
    world.shows(10, &[3, 2]).await;
    app.stop().await;
}
