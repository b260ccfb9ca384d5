//! A provider for a laptop: speaks API v3 like WeChat Pay, takes no money.
//!
//! It gets the same requests as WeChat would, byte for byte, checks their signatures, keeps trades in its own table, signs its
//! answers and seals its notifications. So everything but the network is tried here, and what works with it works with
//! WeChat. Somebody pays by pressing a button on the page `/dev/wechat`.
//!
//! Its keys live as long as the process: who signs and who verifies are always in the same one.

mod bill;
mod page;
mod store;
mod v3;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use mosaic::sql::{Database, Schema};
use mosaic::{Context, Result, Runtime};

use crate::model::Merchant;
use crate::wechat::crypto::{ApiKey, SigningKey, answer_text};
use crate::wechat::wire::{NoticeBody, Resource};
use crate::wechat::{Credentials, Keys, Transport};

/// Where the edge mounts it; part of what is signed.
pub(crate) const PATH: &str = "/dev/wechat";
/// Its base URL, for a client in the same process.
pub(crate) const BASE_URL: &str = "http://localhost/dev/wechat";
const MERCHANT_ID: &str = "1900000001";
const MERCHANT_SERIAL: &str = "MOSAICDEVMERCHANT";
const PLATFORM_SERIAL: &str = "PUB_KEY_ID_MOSAICDEV";

struct Pair {
    merchant: SigningKey,
    platform: SigningKey,
    api_key: ApiKey,
}

static PAIR: LazyLock<Pair> = LazyLock::new(|| {
    let runtime = Runtime::system();
    Pair {
        merchant: SigningKey::generate(&runtime),
        platform: SigningKey::generate(&runtime),
        api_key: ApiKey::new(runtime.random_bytes::<32>().to_vec()).expect("32 bytes are the right length"),
    }
});

pub(crate) fn create_trade(schema: &mut Schema) {
    store::create_trade(schema);
}

/// Returns who we are at the embedded provider.
pub(crate) fn keys() -> Keys {
    Arc::new(LazyLock::new(Box::new(|| Credentials {
        merchant_serial: MERCHANT_SERIAL.to_owned(),
        merchant_key: PAIR.merchant.clone(),
        platform_serial: PLATFORM_SERIAL.to_owned(),
        platform_key: PAIR.platform.verifying_key(),
        api_key: PAIR.api_key.clone(),
    })))
}

/// Returns our names there.
pub(crate) fn merchant(app_id: &str) -> Merchant {
    Merchant {
        merchant_id: MERCHANT_ID.to_owned(),
        app_id: app_id.to_owned(),
    }
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Embedded {
    database: Database,
}

/// What the embedded provider does when it is spoken to.
pub(crate) struct Reaction {
    pub(crate) answer: Response<Bytes>,
    /// A notification that it sends.
    pub(crate) notice: Option<Request<Bytes>>,
}

impl Embedded {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Answers a request whose target begins with [`PATH`].
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn react(&self, cx: &Context, request: &Request<Bytes>) -> Result<Reaction> {
        let path = request.uri().path().strip_prefix(PATH).unwrap_or_default();
        let answer = match (request.method(), path) {
            (&Method::GET, "" | "/") => page::list(&self.database).await?,
            (&Method::POST, "/pay") => return page::pay(cx, &self.database, request.body()).await,
            (_, path) if path.starts_with("/v3/") => v3::answer(cx, &self.database, request, path).await?,
            _ => text(StatusCode::NOT_FOUND, "there is no such page"),
        };
        Ok(Reaction { answer, notice: None })
    }
}

#[mosaic::async_trait]
impl Transport for Embedded {
    async fn send(&self, cx: &Context, request: Request<Bytes>, _: u64) -> Result<Response<Bytes>> {
        Ok(self.react(cx, &request).await?.answer)
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// Signs what the provider says.
fn sign(runtime: &Runtime, headers: &mut HeaderMap, body: &[u8]) -> Result<()> {
    let timestamp = runtime.now().as_secs().to_string();
    let nonce = runtime.random_hex::<16>();
    let signature = PAIR.platform.sign(runtime, &answer_text(&timestamp, &nonce, body))?;
    for (name, value) in [
        ("wechatpay-timestamp", timestamp),
        ("wechatpay-nonce", nonce),
        ("wechatpay-signature", signature),
        ("wechatpay-serial", PLATFORM_SERIAL.to_owned()),
        ("content-type", "application/json".to_owned()),
    ] {
        headers.insert(
            name,
            value.parse().expect("digits, letters and Base64 make a header value"),
        );
    }
    Ok(())
}

/// Makes a notification: `kind` and `event` as WeChat names them, `what` sealed within.
fn notice(runtime: &Runtime, kind: &str, event: &str, what: &[u8]) -> Result<Request<Bytes>> {
    let nonce = runtime.random_hex::<6>();
    let body = NoticeBody {
        id: runtime.random_hex::<16>(),
        event_type: event.to_owned(),
        resource: Resource {
            algorithm: "AEAD_AES_256_GCM".to_owned(),
            original_type: kind.to_owned(),
            ciphertext: PAIR.api_key.seal(&nonce, kind, what)?,
            associated_data: kind.to_owned(),
            nonce,
        },
    };
    let body = serde_json::to_vec(&body).map_err(mosaic::Error::internal)?;
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    let (mut head, body) = request.into_parts();
    sign(runtime, &mut head.headers, &body)?;
    Ok(Request::from_parts(head, body))
}
