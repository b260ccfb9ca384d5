//! Rewards of readers for authors, in the words of the clients.

use mosaic::{Context, Error, Result};
use mosaic_api::content::v1::{
    self as proto, RewardDetailRequest, RewardDetailResponse, RewardRequest, RewardResponse,
};
use mosaic_api::rewards::v1::{GetRequest, PreRewardRequest, RewardState, RewardsClient};

use crate::articles::BIZ;
use crate::articles::model::{article_id, not_found};
use crate::articles::store::Store;
use crate::model::number;
use crate::words::in_our_words;

/// Most fen of one reward: a million yuan.
const AMOUNT_MAX: i64 = 100_000_000;

/// See the module documentation.
pub(crate) struct Rewards {
    store: Store,
    rewards: RewardsClient,
}

impl Rewards {
    pub(crate) const fn new(store: Store, rewards: RewardsClient) -> Self {
        Self { store, rewards }
    }
}

#[mosaic::async_trait]
impl proto::Rewards for Rewards {
    async fn reward(&self, cx: &Context, request: RewardRequest) -> Result<RewardResponse> {
        let payer = cx.account()?;
        if !(1..=AMOUNT_MAX).contains(&request.amt) {
            return Err(Error::invalid_argument("AMOUNT_INVALID", "金额不合法").numbered(number::USER));
        }
        let article = self.store.published(article_id(request.id)?).await?;
        let article = article.ok_or_else(not_found)?;
        let request = PreRewardRequest {
            biz: BIZ.to_owned(),
            biz_id: article.id.get(),
            payer_id: payer.get(),
            payee_id: article.author.get(),
            title: article.title,
            amount_fen: request.amt,
        };
        let begun = self.rewards.pre_reward(cx, request).await.map_err(in_our_words)?;
        Ok(RewardResponse {
            code_url: begun.code_url,
            rid: begun.reward_id,
        })
    }

    async fn reward_detail(&self, cx: &Context, request: RewardDetailRequest) -> Result<RewardDetailResponse> {
        if request.rid <= 0 {
            return Err(not_found());
        }
        let request = GetRequest {
            reward_id: request.rid,
            account_id: cx.account()?.get(),
        };
        let reward = self.rewards.get(cx, request).await.map_err(in_our_words)?;
        let status = match reward.state() {
            RewardState::Init => "RewardStatusInit",
            RewardState::Payed => "RewardStatusPayed",
            RewardState::Failed => "RewardStatusFailed",
            RewardState::Unknown => "RewardStatusUnknown",
        };
        Ok(RewardDetailResponse {
            status: status.to_owned(),
        })
    }
}
