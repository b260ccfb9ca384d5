//! What the caller has collected and liked, as factors of scores.
//!
//! A courtesy, not a condition: it is given a short time, and if interaction is away or slow the results are those of a stranger.

use std::time::Duration;

use mosaic::search::Query;
use mosaic::{Context, Result};
use mosaic_api::interaction::v1::{InteractionClient, ListCollectedIdsRequest, ListLikedRequest};

use crate::model::item_id;

const COLLECTED: f32 = 4.0;
const LIKED: f32 = 2.0;
const IDS_MAX: u32 = 1000;
const WAITED: Duration = Duration::from_millis(300);

/// See the module documentation.
pub(crate) struct Boosts {
    interaction: InteractionClient,
}

impl Boosts {
    pub(crate) const fn new(interaction: InteractionClient) -> Self {
        Self { interaction }
    }

    /// Returns the query with what `account_id` has collected and liked of `biz`.
    pub(crate) async fn of(&self, cx: &Context, account_id: i64, biz: &str, query: Query) -> Query {
        if account_id == 0 || biz.is_empty() {
            return query;
        }
        let cx = cx.clone().with_timeout(WAITED);
        let collected = self.interaction.list_collected_ids(
            &cx,
            ListCollectedIdsRequest {
                account_id,
                biz: biz.to_owned(),
                limit: IDS_MAX,
            },
        );
        let liked = self.interaction.list_liked(
            &cx,
            ListLikedRequest {
                account_id,
                biz: biz.to_owned(),
                limit: IDS_MAX,
            },
        );
        let (collected, liked) = futures::join!(collected, liked);
        let query = boosted(query, biz, collected.map(|list| list.biz_ids), COLLECTED);
        boosted(query, biz, liked.map(|list| list.biz_ids), LIKED)
    }
}

fn boosted(query: Query, biz: &str, ids: Result<Vec<i64>>, factor: f32) -> Query {
    match ids {
        Ok(ids) => query.boost(ids.into_iter().map(|id| item_id(biz, id)).collect(), factor),
        Err(error) => {
            tracing::warn!(%error, "results come without what the caller likes");
            query
        }
    }
}
