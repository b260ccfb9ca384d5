//! Sign-in by WeChat scan in the words of the content clients.

use mosaic::{Context, Result};
use mosaic_api::content::v1::{self as proto, LoginResponse, WechatAuthUrlResponse, WechatCallbackRequest};
use mosaic_api::identity::v1::{BeginWechatRequest, IdentityClient, SignInWithWechatRequest};

use crate::model::number;
use crate::users::headers;
use crate::words::say;

pub(crate) struct Oauth2 {
    identity: IdentityClient,
    redirect_uri: String,
}

impl Oauth2 {
    pub(crate) const fn new(identity: IdentityClient, redirect_uri: String) -> Self {
        Self { identity, redirect_uri }
    }
}

#[mosaic::async_trait]
impl proto::Oauth2 for Oauth2 {
    async fn wechat_auth_url(&self, cx: &Context, (): ()) -> Result<WechatAuthUrlResponse> {
        let request = BeginWechatRequest {
            redirect_uri: self.redirect_uri.clone(),
        };
        let begun = self.identity.begin_wechat(cx, request).await;
        let begun = begun.map_err(|error| say(&error, number::SYSTEM, "系统错误").caused_by(error))?;
        Ok(WechatAuthUrlResponse {
            url: begun.url,
            state_token: begun.state_token,
        })
    }

    async fn wechat_callback(&self, cx: &Context, request: WechatCallbackRequest) -> Result<LoginResponse> {
        let WechatCallbackRequest {
            code,
            state,
            state_token,
        } = request;
        let request = SignInWithWechatRequest {
            code,
            state,
            state_token,
        };
        self.identity
            .sign_in_with_wechat(cx, request)
            .await
            .map(headers)
            .map_err(|error| match error.reason() {
                "STATE_INVALID" | "INVALID_REQUEST" => say(&error, number::USER, "非法请求"),
                "WECHAT_REFUSED" => say(&error, number::USER, "授权码有误"),
                _ => say(&error, number::SYSTEM, "系统错误").caused_by(error),
            })
    }
}
