//! The contract: each door checks its own proof, then opens a session.

use std::sync::Arc;

use mosaic::auth::{PasswordCheck, Passwords};
use mosaic::rpc::Streaming;
use mosaic::{AccountId, Context, Error, Result, Secret};
use mosaic_api::identity::v1::{
    BeginWechatRequest, BeginWechatResponse, ChangePasswordRequest, Credential, CredentialKind, GetCredentialsRequest,
    GetCredentialsResponse, Identity, Key, Keys, Knowledge, RefreshRequest, SendCodeRequest, SignInWithCodeRequest,
    SignInWithMiniProgramRequest, SignInWithPasswordRequest, SignInWithWechatRequest, SignUpRequest, SignUpResponse,
    Tokens,
};

use crate::IdentityConfig;
use crate::attempts::Attempts;
use crate::codes::Codes;
use crate::keys::SigningKeys;
use crate::model::{Phone, check_password, normalise};
use crate::sessions::Sessions;
use crate::state::StateTokens;
use crate::store::{CredentialKey, Store};
use crate::watch::Broadcast;
use crate::wechat::{self, Wechat};

pub(crate) struct Service {
    pub(crate) config: Arc<IdentityConfig>,
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) codes: Codes,
    pub(crate) attempts: Attempts,
    pub(crate) passwords: Passwords,
    pub(crate) state_tokens: StateTokens,
    pub(crate) wechat: Option<Arc<dyn Wechat>>,
    pub(crate) broadcast: Arc<Broadcast>,
    pub(crate) keys: Arc<SigningKeys>,
}

#[mosaic::async_trait]
impl Identity for Service {
    async fn sign_up(&self, cx: &Context, request: SignUpRequest) -> Result<SignUpResponse> {
        let key = credential_key(request.credential)?;
        check_password(&request.password, &key.identifier)?;
        let hash = self.passwords.hash(Secret::new(request.password)).await?;
        let account = self.store.create_account(cx, &key, Some(&hash), None).await?;
        Ok(SignUpResponse {
            account_id: account.get(),
        })
    }

    async fn sign_in_with_password(&self, cx: &Context, request: SignInWithPasswordRequest) -> Result<Tokens> {
        let key = credential_key(request.credential)?;
        self.attempts.admit(cx, &key).await?;
        match self.check_password(&key, Secret::new(request.password)).await {
            Ok(account) => {
                self.attempts.succeeded(&key).await;
                self.sessions.open(cx, account, false).await
            }
            Err(error) => {
                self.attempts.failed(cx, &key).await;
                Err(error)
            }
        }
    }

    async fn send_code(&self, cx: &Context, request: SendCodeRequest) -> Result<()> {
        self.codes.send(cx, &request.biz, &request.phone.parse()?).await
    }

    async fn sign_in_with_code(&self, cx: &Context, request: SignInWithCodeRequest) -> Result<Tokens> {
        let phone: Phone = request.phone.parse()?;
        self.codes.redeem(&request.biz, &phone, &request.code).await?;
        let key = CredentialKey::new(CredentialKind::Mobile, phone.stored().to_owned());
        self.find_or_create(cx, &key, None).await
    }

    async fn begin_wechat(&self, cx: &Context, request: BeginWechatRequest) -> Result<BeginWechatResponse> {
        self.wechat()?;
        let (state, state_token) = self.state_tokens.issue(cx);
        let url = wechat::connect_url(&self.config, &request.redirect_uri, &state);
        Ok(BeginWechatResponse { url, state_token })
    }

    async fn sign_in_with_wechat(&self, cx: &Context, request: SignInWithWechatRequest) -> Result<Tokens> {
        self.state_tokens.verify(cx, &request.state, &request.state_token)?;
        let person = self.wechat()?.exchange_code(cx, &request.code).await?;
        let key = CredentialKey::new(CredentialKind::WechatOpen, person.open_id);
        self.find_or_create(cx, &key, person.union_id.as_deref()).await
    }

    async fn sign_in_with_mini_program(&self, cx: &Context, request: SignInWithMiniProgramRequest) -> Result<Tokens> {
        let session = self.wechat()?.code_to_session(cx, &request.code).await?;
        let phone = match (request.iv.as_str(), request.encrypted_data.as_str()) {
            ("", "") => None,
            (iv, data) => Some(wechat::decrypt_phone(&session.session_key, iv, data)?.parse::<Phone>()?),
        };
        let key = CredentialKey::new(
            CredentialKind::WechatMini,
            format!("{}:{}", request.app, session.open_id),
        );
        let tokens = self.find_or_create(cx, &key, session.union_id.as_deref()).await?;
        if let Some(phone) = phone {
            // Somebody else's number stays theirs.
            let mobile = CredentialKey::new(CredentialKind::Mobile, phone.stored().to_owned());
            self.store
                .add_credential(cx.runtime(), AccountId::try_from(tokens.account_id)?, &mobile)
                .await?;
        }
        Ok(tokens)
    }

    async fn refresh(&self, cx: &Context, request: RefreshRequest) -> Result<Tokens> {
        self.sessions.refresh(cx, &request.refresh_token).await
    }

    async fn sign_out(&self, cx: &Context, (): ()) -> Result<()> {
        match cx.identity() {
            Some(identity) => self.sessions.end(cx, &identity.session).await,
            None => Ok(()),
        }
    }

    async fn change_password(&self, cx: &Context, request: ChangePasswordRequest) -> Result<()> {
        let account = cx.account()?;
        let Some(stored) = self.store.password_hash(account).await? else {
            return Err(wrong_password());
        };
        if self
            .passwords
            .verify(Secret::new(request.old_password), stored.expose())
            .await?
            == PasswordCheck::Wrong
        {
            return Err(wrong_password());
        }
        for (_, identifier) in self.store.credentials(account).await? {
            check_password(&request.new_password, &identifier)?;
        }
        let hash = self.passwords.hash(Secret::new(request.new_password)).await?;
        let revocation = self.store.change_password(cx.runtime(), account, &hash).await?;
        self.broadcast.revoked(revocation);
        Ok(())
    }

    async fn close_account(&self, cx: &Context, (): ()) -> Result<()> {
        let revocation = self.store.close_account(cx.runtime(), cx.account()?).await?;
        self.broadcast.revoked(revocation);
        Ok(())
    }

    async fn get_credentials(&self, _: &Context, request: GetCredentialsRequest) -> Result<GetCredentialsResponse> {
        let found = self.store.credentials(AccountId::try_from(request.account_id)?).await?;
        let shown = |(kind, identifier): (CredentialKind, String)| Credential {
            kind: kind.into(),
            identifier,
        };
        Ok(GetCredentialsResponse {
            credentials: found.into_iter().map(shown).collect(),
        })
    }

    async fn get_keys(&self, _: &Context, (): ()) -> Result<Keys> {
        let jwks: serde_json::Value =
            serde_json::from_str(&self.keys.issuer().ring().jwks()).map_err(Error::internal)?;
        Ok(Keys {
            keys: jwks["keys"].as_array().into_iter().flatten().map(shown_key).collect(),
        })
    }

    async fn watch(&self, _: &Context, (): ()) -> Result<Streaming<Knowledge>> {
        self.broadcast.watch().await
    }
}

impl Service {
    /// Checks a password at the same cost whether or not the credential is known.
    async fn check_password(&self, key: &CredentialKey, password: Secret<String>) -> Result<AccountId> {
        let stored = self.store.credential(key).await?;
        let unknown = || Error::not_found("CREDENTIAL_UNKNOWN", "no such account");
        let Some(stored) = stored else {
            self.passwords.verify_nothing(password).await?;
            return Err(unknown());
        };
        let Some(hash) = &stored.password_hash else {
            // Known by its phone or by WeChat only: there is no password to be right.
            self.passwords.verify_nothing(password).await?;
            return Err(wrong_password());
        };
        match self.passwords.verify(password.clone(), hash.expose()).await? {
            PasswordCheck::Wrong => return Err(wrong_password()),
            PasswordCheck::Right => {}
            PasswordCheck::RightButOld => {
                let hash = self.passwords.hash(password).await?;
                self.store.set_password(stored.account, &hash).await?;
            }
        }
        Ok(stored.account)
    }

    /// Signs a credential in that has been proven; the first time, it gets an account.
    async fn find_or_create(&self, cx: &Context, key: &CredentialKey, union_id: Option<&str>) -> Result<Tokens> {
        if let Some(stored) = self.store.credential(key).await? {
            return self.sessions.open(cx, stored.account, false).await;
        }
        match self.store.create_account(cx, key, None, union_id).await {
            Ok(account) => self.sessions.open(cx, account, true).await,
            Err(error) if error.reason() == "CREDENTIAL_TAKEN" => {
                // Lost the race against oneself: the account is there now.
                let stored = self.store.credential(key).await?.ok_or(error)?;
                self.sessions.open(cx, stored.account, false).await
            }
            Err(error) => Err(error),
        }
    }

    fn wechat(&self) -> Result<&Arc<dyn Wechat>> {
        let missing = || Error::unimplemented("WECHAT_OFF", "sign-in with WeChat is not set up");
        self.wechat.as_ref().ok_or_else(missing)
    }
}

fn wrong_password() -> Error {
    Error::invalid_argument("PASSWORD_WRONG", "the password is wrong")
}

fn credential_key(credential: Option<Credential>) -> Result<CredentialKey> {
    let missing = || Error::invalid_argument("CREDENTIAL_INVALID", "the credential is missing");
    let credential = credential.ok_or_else(missing)?;
    let identifier = normalise(credential.kind(), &credential.identifier)?;
    Ok(CredentialKey::new(credential.kind(), identifier))
}

fn shown_key(jwk: &serde_json::Value) -> Key {
    let text = |name: &str| jwk[name].as_str().map(str::to_owned);
    Key {
        kty: text("kty").unwrap_or_default(),
        kid: text("kid").unwrap_or_default(),
        alg: text("alg").unwrap_or_default(),
        r#use: text("use").unwrap_or_default(),
        crv: text("crv"),
        x: text("x"),
        n: text("n"),
        e: text("e"),
    }
}
