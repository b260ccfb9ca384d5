//! The contract over rules, store and the services beside.

use std::time::Duration;

use mosaic::{AccountId, Context, Error, Result};
use mosaic_api::payments::v1::{PaymentKind, PaymentsClient, PrepayRequest};
use mosaic_api::rewards::v1::{
    GetRequest, ListReportsRequest, ListReportsResponse, PreRewardRequest, PreRewardResponse, ReconcileRequest, Report,
    Reward as Shown, RewardState, Rewards,
};

use crate::model::{BIZ, Reward, RewardError, RewardId, State, Wish};
use crate::reconcile::{Reconciler, Window};
use crate::settle::Settlement;
use crate::store::Store;

/// Characters of a title that the payer reads.
const TITLE_MAX: usize = 60;
const REPORTS_DEFAULT: u32 = 10;

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) settlement: Settlement,
    pub(crate) reconciler: Reconciler,
    pub(crate) payments: PaymentsClient,
    pub(crate) code_cached_for: Duration,
}

impl Service {
    /// Gets the code of a reward from payments; the same one whenever it is asked for.
    async fn code(&self, cx: &Context, reward: &Reward, title: &str) -> Result<String> {
        let title: String = title.chars().filter(|c| !c.is_control()).take(TITLE_MAX).collect();
        let request = PrepayRequest {
            biz: BIZ.to_owned(),
            trade_no: reward.id.trade_no(),
            account_id: reward.wish.payer.get(),
            amount_fen: reward.wish.amount_fen,
            description: described(&title),
            kind: PaymentKind::Native.into(),
            open_id: String::new(),
        };
        let code_url = self.payments.prepay(cx, request).await?.code_url;
        self.store.keep_code(reward.id, &code_url).await?;
        Ok(code_url)
    }
}

/// WeChat counts bytes: 127.
fn described(title: &str) -> String {
    let mut described = format!("打赏-{title}");
    while described.len() > 127 {
        described.pop();
    }
    described
}

#[mosaic::async_trait]
impl Rewards for Service {
    async fn pre_reward(&self, cx: &Context, request: PreRewardRequest) -> Result<PreRewardResponse> {
        let wish = Wish {
            biz: request.biz,
            biz_id: request.biz_id,
            payer: AccountId::try_from(request.payer_id)?,
            payee: AccountId::try_from(request.payee_id)?,
            amount_fen: request.amount_fen,
        };
        let wish = wish.checked()?;
        let good_until = cx.runtime().now().plus(self.code_cached_for);
        let reward = self.store.live(cx.runtime(), &wish, good_until).await?;
        let code_url = match &reward.code_url {
            Some(code_url) => code_url.clone(),
            None => self.code(cx, &reward, &request.title).await?,
        };
        Ok(PreRewardResponse {
            reward_id: reward.id.get(),
            code_url,
        })
    }

    async fn get(&self, cx: &Context, request: GetRequest) -> Result<Shown> {
        let id = RewardId::try_from(request.reward_id)?;
        let payer = AccountId::try_from(request.account_id)?;
        let find = || self.store.find_of(id, payer);
        let reward = find().await?.ok_or(RewardError::NotFound)?;
        if reward.state != State::Init {
            return Ok(shown(reward));
        }
        // The event may be late: payments knows. If it cannot say, what is here is still true of some moment.
        match self.settlement.settle(cx, &reward).await {
            Ok(()) => Ok(shown(find().await?.ok_or(RewardError::NotFound)?)),
            Err(error) => {
                tracing::warn!(reward.id = %id, %error, "cannot ask how a reward stands");
                Ok(shown(reward))
            }
        }
    }

    async fn reconcile(&self, cx: &Context, request: ReconcileRequest) -> Result<Report> {
        if request.from_us >= request.to_us {
            let message = "the window ends before it begins";
            return Err(Error::invalid_argument("WINDOW_INVALID", message));
        }
        let window = Window {
            from: request.from_us,
            to: request.to_us,
        };
        self.reconciler.reconcile(cx, window, request.with_bills).await
    }

    async fn list_reports(&self, _: &Context, request: ListReportsRequest) -> Result<ListReportsResponse> {
        let limit = if request.limit == 0 {
            REPORTS_DEFAULT
        } else {
            request.limit
        };
        let reports = self.reconciler.reports.list(request.cursor, limit.into()).await?;
        Ok(ListReportsResponse { reports })
    }
}

fn shown(reward: Reward) -> Shown {
    let state = match reward.state {
        State::Init => RewardState::Init,
        State::Payed => RewardState::Payed,
        State::Failed | State::Refunded => RewardState::Failed,
    };
    Shown {
        reward_id: reward.id.get(),
        biz_id: reward.wish.biz_id,
        payer_id: reward.wish.payer.get(),
        payee_id: reward.wish.payee.get(),
        amount_fen: reward.wish.amount_fen,
        biz: reward.wish.biz,
        state: state.into(),
        created_at_us: reward.created.as_micros(),
    }
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn a_description_fits_into_what_the_provider_takes() {
        assert_eq!(described("Rust"), "打赏-Rust");
        assert_eq!(described(""), "打赏-");
        let long = described(&"标".repeat(60));
        assert!((120..=127).contains(&long.len()), "{long}");
    }
}
