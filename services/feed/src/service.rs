//! The contract: a page of the inbox and of what is pulled, less whom the reader does not follow any more.

use std::collections::HashSet;
use std::time::Duration;

use mosaic::{Context, Result};
use mosaic_api::feed::v1::{Entry as Shown, Feed, GetFeedRequest, GetFeedResponse};
use mosaic_api::relations::v1::{ListFolloweeIdsRequest, RelationsClient};

use crate::model::{Entry, Position, merge};
use crate::store::Store;

/// Ids that relations give at once.
const IDS_PAGE: u32 = 1000;
/// Pages of followees that are asked for: beyond what anybody may follow.
const ID_PAGES_MAX: usize = 20;
/// Relations that take longer are as good as down: a page of the inbox now is worth more than a full one too late.
const RELATIONS_MAX: Duration = Duration::from_secs(1);

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) relations: RelationsClient,
    pub(crate) pull_max_authors: u32,
}

impl Service {
    /// Returns whom `account_id` follows.
    async fn followees(&self, cx: &Context, account_id: i64) -> Result<HashSet<i64>> {
        let cx = &cx.clone().with_timeout(RELATIONS_MAX);
        let mut followees = HashSet::new();
        let mut after = 0;
        for _ in 0..ID_PAGES_MAX {
            let request = ListFolloweeIdsRequest {
                account_id,
                after,
                limit: IDS_PAGE,
            };
            let page = self.relations.list_followee_ids(cx, request).await?.account_ids;
            let is_last = page.len() < IDS_PAGE as usize;
            after = page.last().copied().unwrap_or(after);
            followees.extend(page);
            if is_last {
                break;
            }
        }
        Ok(followees)
    }

    /// Returns more than `limit` entries of the inbox that are older than `before`, or all of them.
    async fn pushed(
        &self,
        account: i64,
        before: Position,
        limit: usize,
        followees: Option<&HashSet<i64>>,
    ) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut before = before;
        // Bounded, for so is an inbox: each round goes on behind the one before.
        while found.len() <= limit {
            let page = self.store.inbox(account, before, limit + 1).await?;
            let is_last = page.len() <= limit;
            before = page.last().map_or(before, |entry| entry.position);
            let is_followed = |entry: &Entry| followees.is_none_or(|ids| ids.contains(&entry.author_id));
            found.extend(page.into_iter().filter(is_followed));
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}

#[mosaic::async_trait]
impl Feed for Service {
    async fn get_feed(&self, cx: &Context, request: GetFeedRequest) -> Result<GetFeedResponse> {
        let before = match request.before.as_str() {
            "" => Position::END,
            cursor => cursor.parse()?,
        };
        let limit = request.limit as usize;
        let account = request.account_id;
        let followees = self.followees(cx, account).await.inspect_err(|error| {
            tracing::warn!(cause = error.cause_chain(), "a feed is made of the inbox alone");
        });
        let followees = followees.ok();
        let pushed = self.pushed(account, before, limit, followees.as_ref()).await?;
        let pulled = match &followees {
            None => Vec::new(),
            Some(followees) => {
                let authors = self.store.pulled_authors(followees, self.pull_max_authors).await?;
                self.store.pulled(&authors, before, limit + 1).await?
            }
        };
        let page = merge(pushed, pulled, limit);
        Ok(GetFeedResponse {
            entries: page.entries.into_iter().map(shown).collect(),
            next: page.next.map_or_else(String::new, |next| next.to_string()),
        })
    }
}

fn shown(entry: Entry) -> Shown {
    Shown {
        biz: entry.biz,
        biz_id: entry.biz_id,
        author_id: entry.author_id,
        published_at_us: entry.position.published_at,
    }
}
