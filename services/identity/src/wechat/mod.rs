//! WeChat as a port: its own protocol over HTTP, and a simulator that speaks the same.
//!
//! Scan login is OAuth 2.0 with names of its own; mini-programs send a code that is changed for a session, and data
//! that is encrypted with that session's key.

mod http;
mod simulator;

use aes::Aes128;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use mosaic::{Context, Error, Result, Secret};
use serde::Deserialize;

pub(crate) use http::HttpWechat;
pub(crate) use simulator::Simulator;

use crate::IdentityConfig;

/// Somebody whom WeChat has identified by scan.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) open_id: String,
    pub(crate) union_id: Option<String>,
}

/// A user of a mini-program.
#[derive(Debug)]
pub(crate) struct MiniSession {
    pub(crate) open_id: String,
    pub(crate) union_id: Option<String>,
    /// Base64 of 16 bytes.
    pub(crate) session_key: Secret<String>,
}

/// What we ask of WeChat.
#[mosaic::async_trait]
pub(crate) trait Wechat: Send + Sync + 'static {
    /// Changes the code of a scan login for who scanned.
    ///
    /// # Errors
    /// `InvalidArgument` (`WECHAT_REFUSED`) for a code that is not good; `Unavailable` if WeChat does not answer.
    async fn exchange_code(&self, cx: &Context, code: &str) -> Result<Person>;

    /// Changes the code of a mini-program for its session.
    ///
    /// # Errors
    /// As [`Wechat::exchange_code`].
    async fn code_to_session(&self, cx: &Context, code: &str) -> Result<MiniSession>;
}

/// Returns where the browser is sent to scan.
pub(crate) fn connect_url(config: &IdentityConfig, redirect_uri: &str, state: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("appid", &config.wechat_app_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("scope", "snsapi_login")
        .append_pair("state", state)
        .finish();
    format!(
        "{}/connect/qrconnect?{query}#wechat_redirect",
        config.wechat_connect.trim_end_matches('/')
    )
}

fn refused(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::invalid_argument("WECHAT_REFUSED", "WeChat did not accept the sign-in").caused_by(cause)
}

/// Decrypts the phone number that a mini-program received for its user: AES-128-CBC with the session's key.
///
/// # Errors
/// `InvalidArgument` (`WECHAT_REFUSED`) whatever is wrong with it.
pub(crate) fn decrypt_phone(session_key: &Secret<String>, iv: &str, encrypted: &str) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PhoneData {
        pure_phone_number: Option<String>,
        phone_number: Option<String>,
        country_code: Option<String>,
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(refused);
    let (key, iv, mut data) = (decode(session_key.expose())?, decode(iv)?, decode(encrypted)?);
    let cipher =
        cbc::Decryptor::<Aes128>::new_from_slices(&key, &iv).map_err(|_| refused("key or iv of wrong length"))?;
    let plain = cipher
        .decrypt_padded_mut::<Pkcs7>(&mut data)
        .map_err(|_| refused("the data do not decrypt"))?;
    let phone: PhoneData = serde_json::from_slice(plain).map_err(refused)?;
    match (phone.country_code, phone.pure_phone_number, phone.phone_number) {
        (Some(country), Some(number), _) => Ok(format!("+{country}{number}")),
        (_, Some(number), _) | (_, None, Some(number)) => Ok(number),
        (_, None, None) => Err(refused("no phone number in the data")),
    }
}

#[cfg(test)]
mod tests;
