//! Who follows whom, in the words of the clients, and what the followed have published.

use mosaic::{AccountId, Context, Error, Result};
use mosaic_api::content::v1::{
    self as proto, FeedPage, FeedRequest, FollowRequest, FollowStatsRequest, FollowStatsResponse, ListFollowsRequest,
    People,
};
use mosaic_api::feed::v1::{FeedClient, GetFeedRequest};
use mosaic_api::relations::v1::{
    GetStatsRequest, ListFolloweesRequest, ListFollowersRequest, ListRelationsResponse, RelationsClient,
    SetFollowRequest,
};

use crate::articles::model::ArticleId;
use crate::articles::show::{Show, author};
use crate::articles::store::Store;
use crate::articles::{BIZ, page_limit};
use crate::model::number;
use crate::words::in_our_words;

/// See the module documentation.
pub(crate) struct Follows {
    store: Store,
    show: Show,
    relations: RelationsClient,
    feed: FeedClient,
}

impl Follows {
    pub(crate) const fn new(store: Store, show: Show, relations: RelationsClient, feed: FeedClient) -> Self {
        Self {
            store,
            show,
            relations,
            feed,
        }
    }

    async fn set(&self, cx: &Context, request: FollowRequest, following: bool) -> Result<()> {
        let request = SetFollowRequest {
            follower_id: cx.account()?.get(),
            followee_id: account(request.uid)?.get(),
            following,
        };
        self.relations.set_follow(cx, request).await.map_err(in_our_words)
    }

    async fn people(&self, cx: &Context, page: ListRelationsResponse) -> Result<People> {
        let accounts = page
            .relations
            .iter()
            .map(|relation| AccountId::try_from(relation.account_id));
        let accounts = accounts.collect::<Result<Vec<_>>>()?;
        let names = self.show.names(cx, &accounts).await?;
        Ok(People {
            users: accounts.into_iter().map(|account| author(account, &names)).collect(),
            cursor: page.next_cursor,
        })
    }
}

#[mosaic::async_trait]
impl proto::Follows for Follows {
    async fn follow(&self, cx: &Context, request: FollowRequest) -> Result<()> {
        self.set(cx, request, true).await
    }

    async fn cancel(&self, cx: &Context, request: FollowRequest) -> Result<()> {
        self.set(cx, request, false).await
    }

    async fn follow_stats(&self, cx: &Context, request: FollowStatsRequest) -> Result<FollowStatsResponse> {
        let request = GetStatsRequest {
            account_ids: vec![or_caller(cx, request.uid)?.get()],
            viewer_id: cx.account()?.get(),
        };
        let answer = self.relations.get_stats(cx, request).await.map_err(in_our_words)?;
        let stats = answer.stats.into_iter().next().unwrap_or_default();
        Ok(FollowStatsResponse {
            followers: stats.followers,
            followees: stats.followees,
            followed: stats.is_followed_by_viewer,
        })
    }

    async fn followees(&self, cx: &Context, request: ListFollowsRequest) -> Result<People> {
        let request = ListFolloweesRequest {
            account_id: or_caller(cx, request.uid)?.get(),
            cursor: request.cursor,
            limit: page_limit(request.limit)?,
        };
        let page = self.relations.list_followees(cx, request).await;
        self.people(cx, page.map_err(in_our_words)?).await
    }

    async fn followers(&self, cx: &Context, request: ListFollowsRequest) -> Result<People> {
        let request = ListFollowersRequest {
            account_id: or_caller(cx, request.uid)?.get(),
            cursor: request.cursor,
            limit: page_limit(request.limit)?,
        };
        let page = self.relations.list_followers(cx, request).await;
        self.people(cx, page.map_err(in_our_words)?).await
    }

    async fn feed(&self, cx: &Context, request: FeedRequest) -> Result<FeedPage> {
        let viewer = cx.account()?;
        let request = GetFeedRequest {
            account_id: viewer.get(),
            before: request.cursor,
            limit: page_limit(request.limit)?,
        };
        let page = self.feed.get_feed(cx, request).await.map_err(in_our_words)?;
        let ids = page.entries.iter().filter(|entry| entry.biz == BIZ);
        let ids = ids
            .map(|entry| ArticleId::try_from(entry.biz_id))
            .collect::<Result<Vec<_>>>()?;
        let articles = self.store.summaries(&ids).await?;
        Ok(FeedPage {
            articles: self.show.many(cx, articles, Some(viewer)).await?,
            cursor: page.next,
        })
    }
}

fn account(uid: i64) -> Result<AccountId> {
    AccountId::try_from(uid).map_err(|_| Error::invalid_argument("ID_INVALID", "id 参数错误").numbered(number::USER))
}

/// Returns who is asked about: the caller if nobody is named.
fn or_caller(cx: &Context, uid: i64) -> Result<AccountId> {
    if uid == 0 { cx.account() } else { account(uid) }
}
