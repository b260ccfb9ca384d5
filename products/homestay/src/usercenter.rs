//! Accounts in the words of the homestay clients.

use mosaic::{Context, Error, Result, Timestamp};
use mosaic_api::homestay::v1::{
    self as proto, AccessResponse, DetailRequest, DetailResponse, LoginRequest, RegisterRequest, UserInfo,
    WxMiniAuthRequest,
};
use mosaic_api::identity::v1::{
    Credential, CredentialKind, GetCredentialsRequest, IdentityClient, SignInWithMiniProgramRequest,
    SignInWithPasswordRequest, SignUpRequest, Tokens,
};
use mosaic_api::users::v1::{GetProfileRequest, UsersClient};

/// Business number of a failure that has a text of its own.
const GENERAL: i32 = 100_001;

/// Name of this product's mini-program.
const MINI_PROGRAM: &str = "homestay";

pub(crate) struct Usercenter {
    identity: IdentityClient,
    users: UsersClient,
}

impl Usercenter {
    pub(crate) const fn new(identity: IdentityClient, users: UsersClient) -> Self {
        Self { identity, users }
    }

    async fn sign_in(&self, cx: &Context, mobile: String, password: String) -> Result<AccessResponse> {
        let request = SignInWithPasswordRequest {
            credential: Some(credential(mobile)),
            password,
        };
        let tokens = self
            .identity
            .sign_in_with_password(cx, request)
            .await
            .map_err(in_our_words)?;
        Ok(access(cx.runtime().now(), tokens))
    }
}

#[mosaic::async_trait]
impl proto::Usercenter for Usercenter {
    async fn register(&self, cx: &Context, request: RegisterRequest) -> Result<AccessResponse> {
        let RegisterRequest { mobile, password } = request;
        let sign_up = SignUpRequest {
            credential: Some(credential(mobile.clone())),
            password: password.clone(),
        };
        self.identity.sign_up(cx, sign_up).await.map_err(in_our_words)?;
        self.sign_in(cx, mobile, password).await
    }

    async fn login(&self, cx: &Context, request: LoginRequest) -> Result<AccessResponse> {
        self.sign_in(cx, request.mobile, request.password).await
    }

    async fn detail(&self, cx: &Context, _: DetailRequest) -> Result<DetailResponse> {
        let account_id = cx.account()?.get();
        let profile = self.users.get_profile(cx, GetProfileRequest { account_id }).await?;
        let known = self
            .identity
            .get_credentials(cx, GetCredentialsRequest { account_id })
            .await?;
        let mobile = known
            .credentials
            .into_iter()
            .find(|credential| credential.kind() == CredentialKind::Mobile);
        let user_info = UserInfo {
            id: account_id,
            mobile: mobile.map(|credential| credential.identifier).unwrap_or_default(),
            nickname: profile.nickname,
            sex: profile.sex,
            avatar: profile.avatar,
            info: profile.about_me,
        };
        Ok(DetailResponse {
            user_info: Some(user_info),
        })
    }

    async fn wx_mini_auth(&self, cx: &Context, request: WxMiniAuthRequest) -> Result<AccessResponse> {
        let WxMiniAuthRequest {
            code,
            iv,
            encrypted_data,
        } = request;
        let request = SignInWithMiniProgramRequest {
            app: MINI_PROGRAM.to_owned(),
            code,
            iv,
            encrypted_data,
        };
        let tokens = self
            .identity
            .sign_in_with_mini_program(cx, request)
            .await
            .map_err(in_our_words)?;
        Ok(access(cx.runtime().now(), tokens))
    }
}

fn credential(mobile: String) -> Credential {
    Credential {
        kind: CredentialKind::Mobile.into(),
        identifier: mobile,
    }
}

/// The clients renew at half of the token's life.
fn access(now: Timestamp, tokens: Tokens) -> AccessResponse {
    let life = tokens.access_expires_at - now.as_secs();
    AccessResponse {
        access_token: tokens.access_token,
        access_expire: tokens.access_expires_at,
        refresh_after: now.as_secs() + life / 2,
    }
}

/// Says what identity says as the clients of this product know it; what they do not know stays as it is.
fn in_our_words(error: Error) -> Error {
    let said = |text: &'static str| Error::new(error.code(), error.reason().to_owned(), text).numbered(GENERAL);
    match error.reason() {
        "CREDENTIAL_TAKEN" => said("user has been registered"),
        "CREDENTIAL_UNKNOWN" => said("用户不存在"),
        "PASSWORD_WRONG" => said("账号或密码不正确"),
        "WECHAT_REFUSED" => said("微信授权失败"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_life_is_when_to_renew() {
        let tokens = Tokens {
            access_expires_at: 2_800,
            access_token: "t".into(),
            ..Tokens::default()
        };
        let access = access(Timestamp::from_secs(1_000), tokens);
        assert_eq!((access.access_expire, access.refresh_after), (2_800, 1_900));
    }

    #[test]
    fn known_failures_have_the_clients_words_and_others_stay() {
        let taken = in_our_words(Error::already_exists("CREDENTIAL_TAKEN", "x"));
        assert_eq!(
            (taken.number(), taken.message()),
            (Some(GENERAL), "user has been registered")
        );
        let other = in_our_words(Error::unavailable("DOWN", "x"));
        assert_eq!((other.number(), other.reason()), (None, "DOWN"));
    }
}
