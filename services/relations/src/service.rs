//! The contract over rules and store.

use std::collections::HashSet;

use mosaic::{AccountId, Context, Result};
use mosaic_api::relations::v1::{
    GetStatsRequest, GetStatsResponse, ListFolloweeIdsRequest, ListFolloweesRequest, ListFollowerIdsRequest,
    ListFollowersRequest, ListIdsResponse, ListRelationsResponse, Relation, Relations, SetFollowRequest, Stats,
};

use crate::model::{Pair, Wish};
use crate::store::{Side, Store};

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) store: Store,
}

impl Service {
    async fn list(&self, side: Side, account: i64, cursor: i64, limit: u32) -> Result<ListRelationsResponse> {
        let mut found = self.store.newest(side, account, cursor, limit + 1).await?;
        let has_more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let last = found.last().map_or(0, |row| row.position);
        let relations = found.into_iter().map(|row| Relation {
            account_id: match side {
                Side::Followees => row.followee_id,
                Side::Followers => row.follower_id,
            },
            since_us: row.created_at,
        });
        Ok(ListRelationsResponse {
            relations: relations.collect(),
            next_cursor: if has_more { last } else { 0 },
        })
    }
}

#[mosaic::async_trait]
impl Relations for Service {
    async fn set_follow(&self, cx: &Context, request: SetFollowRequest) -> Result<()> {
        let follower = AccountId::try_from(request.follower_id)?;
        let pair = Pair::new(follower, AccountId::try_from(request.followee_id)?)?;
        let wish = if request.following {
            Wish::Follow
        } else {
            Wish::Unfollow
        };
        self.store.set(cx, pair, wish).await
    }

    async fn get_stats(&self, _: &Context, request: GetStatsRequest) -> Result<GetStatsResponse> {
        let found = self.store.stats(&request.account_ids).await?;
        let followed = match request.viewer_id {
            0 => HashSet::new(),
            viewer => self.store.followed_among(viewer, &request.account_ids).await?,
        };
        let stats = request.account_ids.iter().map(|&account_id| {
            let row = found.get(&account_id);
            Stats {
                account_id,
                followers: row.map_or(0, |row| row.n_followers),
                followees: row.map_or(0, |row| row.n_followees),
                is_followed_by_viewer: followed.contains(&account_id),
            }
        });
        Ok(GetStatsResponse { stats: stats.collect() })
    }

    async fn list_followees(&self, _: &Context, request: ListFolloweesRequest) -> Result<ListRelationsResponse> {
        self.list(Side::Followees, request.account_id, request.cursor, request.limit)
            .await
    }

    async fn list_followers(&self, _: &Context, request: ListFollowersRequest) -> Result<ListRelationsResponse> {
        self.list(Side::Followers, request.account_id, request.cursor, request.limit)
            .await
    }

    async fn list_followee_ids(&self, _: &Context, request: ListFolloweeIdsRequest) -> Result<ListIdsResponse> {
        let ids = self
            .store
            .ids(Side::Followees, request.account_id, request.after, request.limit);
        Ok(ListIdsResponse {
            account_ids: ids.await?,
        })
    }

    async fn list_follower_ids(&self, _: &Context, request: ListFollowerIdsRequest) -> Result<ListIdsResponse> {
        let ids = self
            .store
            .ids(Side::Followers, request.account_id, request.after, request.limit);
        Ok(ListIdsResponse {
            account_ids: ids.await?,
        })
    }
}
