//! Accounts in the words of the content clients.

use mosaic::{Code, Context, Error, Result};
use mosaic_api::content::v1::{
    self as proto, EditRequest, GetProfileResponse, LoginRequest, LoginResponse, LoginWithCodeRequest, LogoutResponse,
    Profile, RefreshTokenRequest, SendLoginCodeRequest, SignUpRequest,
};
use mosaic_api::identity::v1::{
    self as identity, Credential, CredentialKind, GetCredentialsRequest, IdentityClient, RefreshRequest,
    SendCodeRequest, SignInWithCodeRequest, SignInWithPasswordRequest, Tokens,
};
use mosaic_api::users::v1::{GetProfileRequest, UpdateProfileRequest, UsersClient};

use crate::model::{SignUp, check_edit, check_sign_up, number};
use crate::words::{is_ours, say};

/// What this product's codes are for.
const CODE_BIZ: &str = "login";

pub(crate) struct Users {
    identity: IdentityClient,
    users: UsersClient,
}

impl Users {
    pub(crate) const fn new(identity: IdentityClient, users: UsersClient) -> Self {
        Self { identity, users }
    }
}

#[mosaic::async_trait]
impl proto::Users for Users {
    async fn sign_up(&self, cx: &Context, request: SignUpRequest) -> Result<()> {
        let SignUpRequest {
            email,
            password,
            confirm_password,
        } = request;
        check_sign_up(&SignUp {
            email: &email,
            password: &password,
            confirm_password: &confirm_password,
        })?;
        let request = identity::SignUpRequest {
            credential: Some(credential(email)),
            password,
        };
        let outcome = self.identity.sign_up(cx, request).await;
        outcome.map(drop).map_err(|error| match error.reason() {
            "CREDENTIAL_TAKEN" => say(&error, number::USER_DUPLICATE, "邮箱冲突"),
            "CREDENTIAL_INVALID" | "INVALID_REQUEST" => say(&error, number::USER_INPUT, "非法邮箱格式"),
            "PASSWORD_REFUSED" => say(&error, number::USER_INPUT, "密码过于简单，请更换"),
            _ if is_ours(&error) => say(&error, number::USER_INTERNAL, "系统错误").caused_by(error),
            _ => error,
        })
    }

    async fn login(&self, cx: &Context, request: LoginRequest) -> Result<LoginResponse> {
        let request = SignInWithPasswordRequest {
            credential: Some(credential(request.email)),
            password: request.password,
        };
        let outcome = self.identity.sign_in_with_password(cx, request).await;
        outcome.map(headers).map_err(|error| match error.reason() {
            "CREDENTIAL_UNKNOWN" | "PASSWORD_WRONG" | "CREDENTIAL_INVALID" | "INVALID_REQUEST" => {
                say(&error, number::USER_OR_PASSWORD, "用户名或者密码错误")
            }
            _ => error,
        })
    }

    async fn logout(&self, cx: &Context, (): ()) -> Result<LogoutResponse> {
        self.identity.sign_out(cx, ()).await?;
        Ok(LogoutResponse {
            access_token: Some(String::new()),
            refresh_token: Some(String::new()),
        })
    }

    async fn edit(&self, cx: &Context, request: EditRequest) -> Result<()> {
        let EditRequest {
            nickname,
            birthday,
            about_me,
        } = request;
        check_edit(&nickname, &birthday, &about_me)?;
        let request = UpdateProfileRequest {
            nickname: Some(nickname),
            birthday: Some(birthday),
            about_me: Some(about_me),
            ..UpdateProfileRequest::default()
        };
        let outcome = self.users.update_profile(cx, request).await;
        outcome.map(drop).map_err(|error| match error.reason() {
            "BIRTHDAY_INVALID" => say(&error, number::USER, "生日格式不对"),
            _ => error,
        })
    }

    async fn get_profile(&self, cx: &Context, (): ()) -> Result<GetProfileResponse> {
        let account_id = cx.account()?.get();
        let profile = self.users.get_profile(cx, GetProfileRequest { account_id }).await?;
        let known = self
            .identity
            .get_credentials(cx, GetCredentialsRequest { account_id })
            .await?;
        let find = |kind| known.credentials.iter().find(|credential| credential.kind() == kind);
        let identifier = |kind| {
            find(kind)
                .map(|credential| credential.identifier.clone())
                .unwrap_or_default()
        };
        let profile = Profile {
            email: identifier(CredentialKind::Email),
            phone: identifier(CredentialKind::Mobile),
            nickname: profile.nickname,
            birthday: profile.birthday,
            about_me: profile.about_me,
        };
        Ok(both_shapes(profile))
    }

    async fn refresh_token(&self, cx: &Context, request: RefreshTokenRequest) -> Result<LoginResponse> {
        let invalid = || Error::unauthenticated("REFRESH_INVALID", "the refresh token is not valid");
        let (scheme, token) = request.authorization.split_once(' ').ok_or_else(invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        let request = RefreshRequest {
            refresh_token: token.trim().to_owned(),
        };
        self.identity
            .refresh(cx, request)
            .await
            .map(headers)
            .map_err(|error| match error.code() {
                // A token too long for the contract is a token that is not valid.
                Code::InvalidArgument => invalid(),
                _ => error,
            })
    }

    async fn send_login_code(&self, cx: &Context, request: SendLoginCodeRequest) -> Result<()> {
        let request = SendCodeRequest {
            biz: CODE_BIZ.to_owned(),
            phone: request.phone,
        };
        let outcome = self.identity.send_code(cx, request).await;
        outcome.map_err(|error| match error.reason() {
            "PHONE_INVALID" | "INVALID_REQUEST" => say(&error, number::USER, "请输入手机号码"),
            "CODE_TOO_SOON" | "RECEIVER_LIMIT" => say(&error, number::USER, "短信发送太频繁，请稍后再试"),
            _ => say(&error, number::SYSTEM, "系统错误").caused_by(error),
        })
    }

    async fn login_with_code(&self, cx: &Context, request: LoginWithCodeRequest) -> Result<LoginResponse> {
        let LoginWithCodeRequest { phone, code } = request;
        let request = SignInWithCodeRequest {
            biz: CODE_BIZ.to_owned(),
            phone,
            code,
        };
        let outcome = self.identity.sign_in_with_code(cx, request).await;
        outcome.map(headers).map_err(|error| match error.reason() {
            "CODE_WRONG" | "PHONE_INVALID" | "INVALID_REQUEST" => say(&error, number::USER, "验证码不对，请重新输入"),
            _ => say(&error, number::SYSTEM, "系统异常").caused_by(error),
        })
    }
}

fn credential(email: String) -> Credential {
    Credential {
        kind: CredentialKind::Email.into(),
        identifier: email,
    }
}

/// Tokens travel in headers.
pub(crate) fn headers(tokens: Tokens) -> LoginResponse {
    LoginResponse {
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token,
    }
}

/// Older clients read the fields of the profile at the top, newer ones beneath `data`.
fn both_shapes(profile: Profile) -> GetProfileResponse {
    let Profile {
        email,
        phone,
        nickname,
        birthday,
        about_me,
    } = profile.clone();
    GetProfileResponse {
        code: 0,
        msg: "OK".to_owned(),
        data: Some(profile),
        email,
        phone,
        nickname,
        birthday,
        about_me,
    }
}
