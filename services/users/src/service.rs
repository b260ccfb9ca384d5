//! The contract over the store.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mosaic::{AccountId, Context, Result};
use mosaic_api::users::v1::{
    GetNicknamesRequest, GetNicknamesResponse, GetProfileRequest, Profile as Shown, UpdateProfileRequest, Users,
};

use crate::model::{Changes, Profile};
use crate::store::Store;

/// See the module documentation.
pub(crate) struct Service {
    store: Store,
}

impl Service {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }

    async fn nickname(&self, id: i64) -> Result<String> {
        let account = AccountId::try_from(id)?;
        let nickname = self.store.look(account, |profile| profile.nickname.clone()).await?;
        Ok(nickname.unwrap_or_else(|| Profile::default_of(account).nickname))
    }
}

#[mosaic::async_trait]
impl Users for Service {
    async fn get_profile(&self, _: &Context, request: GetProfileRequest) -> Result<Shown> {
        let account = AccountId::try_from(request.account_id)?;
        let profile = self.store.profile(account).await?;
        Ok(shown(account, profile.unwrap_or_else(|| Profile::default_of(account))))
    }

    async fn get_nicknames(&self, _: &Context, request: GetNicknamesRequest) -> Result<GetNicknamesResponse> {
        let nicknames = match *request.account_ids {
            // What most ask for is asked for straight.
            [id] => vec![self.nickname(id).await?],
            _ => {
                let nicknames = stream::iter(request.account_ids).map(|id| self.nickname(id));
                // A cold cache costs a query a person.
                nicknames.buffered(8).try_collect().await?
            }
        };
        Ok(GetNicknamesResponse { nicknames })
    }

    async fn update_profile(&self, cx: &Context, request: UpdateProfileRequest) -> Result<Shown> {
        let account = cx.account()?;
        let profile = self.store.change(cx, account, changes(request)).await?;
        Ok(shown(account, profile))
    }
}

fn changes(request: UpdateProfileRequest) -> Changes {
    let UpdateProfileRequest {
        nickname,
        avatar,
        birthday,
        about_me,
        sex,
        signature,
        background,
    } = request;
    Changes {
        nickname,
        avatar,
        birthday,
        about_me,
        sex,
        signature,
        background,
    }
}

fn shown(account: AccountId, profile: Profile) -> Shown {
    let Profile {
        nickname,
        avatar,
        birthday,
        about_me,
        sex,
        signature,
        background,
        updated_at_us,
    } = profile;
    Shown {
        account_id: account.get(),
        nickname,
        avatar,
        birthday,
        about_me,
        sex,
        signature,
        background,
        updated_at_us,
    }
}
