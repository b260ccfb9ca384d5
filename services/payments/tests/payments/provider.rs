//! A WeChat Pay of our own, written from the documentation and not from the code under test.

use std::sync::{Arc, LazyLock, Mutex};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Uri};
use mosaic_testing::{Reply, TestApp, TestAppBuilder};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, rand_core};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const API_KEY: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const MERCHANT: &str = "1900000109";
pub(crate) const APP: &str = "wxd678efh567hg6787";
pub(crate) const SERIAL: &str = "PUB_KEY_ID_TEST";

/// Randomness for keys of tests.
struct Random(mosaic::Runtime);

impl rand_core::CryptoRng for Random {}
impl rand_core::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.0.random_bytes())
    }
    fn next_u64(&mut self) -> u64 {
        self.0.random_u64()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.random_bytes::<1>()[0];
        }
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// The merchant's key, WeChat's, and a forger's.
pub(crate) static KEYS: LazyLock<[RsaPrivateKey; 3]> = LazyLock::new(|| {
    let key = || RsaPrivateKey::new(&mut Random(mosaic::Runtime::system()), 2048).unwrap();
    [key(), key(), key()]
});

pub(crate) fn sign(key: &RsaPrivateKey, text: &str) -> String {
    let signature = key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(text)).unwrap();
    STANDARD.encode(signature)
}

/// Points payments to `api` as WeChat Pay.
pub(crate) fn configured(builder: TestAppBuilder, api: &str) -> TestAppBuilder {
    let [merchant, wechat, _] = &*KEYS;
    builder
        .set("payments.wechat_api", api)
        .set("payments.wechat_merchant_id", MERCHANT)
        .set("payments.wechat_merchant_serial", "SERIAL")
        .set("payments.wechat_app_id", APP)
        .set("payments.wechat_platform_serial", SERIAL)
        .set("payments.wechat_api_v3_key", API_KEY)
        .set(
            "payments.wechat_merchant_key",
            merchant.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        )
        .set(
            "payments.wechat_platform_key",
            wechat.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
        )
}

/// A trade as WeChat describes it once it is paid.
pub(crate) fn paid(out_trade_no: &str) -> Value {
    json!({
        "appid": APP, "mchid": MERCHANT, "out_trade_no": out_trade_no, "transaction_id": "4200001",
        "trade_type": "NATIVE", "trade_state": "SUCCESS", "bank_type": "OTHERS", "attach": "",
        "success_time": "2026-11-20T10:00:00+08:00", "payer": {"openid": "o1"},
        "amount": {"total": 100, "payer_total": 100, "currency": "CNY", "payer_currency": "CNY"},
    })
}

/// The body of a notification about `what`.
pub(crate) fn sealed(kind: &str, event: &str, what: &Value) -> String {
    let nonce = b"fdasfjihihih";
    let cipher = Aes256Gcm::new_from_slice(API_KEY.as_bytes()).unwrap();
    let msg = what.to_string();
    let payload = Payload {
        msg: msg.as_bytes(),
        aad: kind.as_bytes(),
    };
    let ciphertext = cipher.encrypt(&Nonce::from(*nonce), payload).unwrap();
    json!({
        "id": "EV-1", "create_time": "2026-11-20T10:00:00+08:00", "resource_type": "encrypt-resource",
        "event_type": event, "summary": "x",
        "resource": {
            "original_type": kind, "algorithm": "AEAD_AES_256_GCM", "associated_data": kind, "nonce": "fdasfjihihih",
            "ciphertext": STANDARD.encode(ciphertext),
        },
    })
    .to_string()
}

/// What goes with a body; tests change one thing each.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) timestamp: i64,
    pub(crate) nonce: String,
    pub(crate) serial: String,
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Signed {
    /// Signs as WeChat at `timestamp`.
    pub(crate) fn new(timestamp: i64, body: String) -> Self {
        Self::by(&KEYS[1], timestamp, body)
    }

    pub(crate) fn by(key: &RsaPrivateKey, timestamp: i64, body: String) -> Self {
        let nonce = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".to_owned();
        let signature = sign(key, &format!("{timestamp}\n{nonce}\n{body}\n"));
        Self {
            timestamp,
            nonce,
            serial: SERIAL.to_owned(),
            signature,
            body,
        }
    }

    pub(crate) async fn send(&self, app: &TestApp) -> Reply {
        let caller = app.anonymous();
        let request = caller
            .request(Method::POST, "/payments/wechat/notify")
            .header("content-type", "application/json")
            .header("wechatpay-timestamp", self.timestamp.to_string())
            .header("wechatpay-nonce", &self.nonce)
            .header("wechatpay-serial", &self.serial)
            .header("wechatpay-signature", &self.signature)
            .body(self.body.clone());
        caller.send(request).await
    }
}

type Said = Arc<Mutex<Vec<(String, String, String)>>>;
pub(crate) type Answer = Arc<dyn Fn(&Method, &Uri) -> Response + Send + Sync>;

/// A server that says what a test wants, and keeps what it was asked: method and target, authorization, body.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) asked: Said,
    _tasks: mosaic::TaskGroup,
}

/// Serves `answer`.
pub(crate) async fn serve(answer: impl Fn(&Method, &Uri) -> Response + Send + Sync + 'static) -> Server {
    serve_knowing(|_| Arc::new(answer)).await
}

/// Serves what `make` makes of the server's URL.
pub(crate) async fn serve_knowing(make: impl FnOnce(&str) -> Answer) -> Server {
    let asked = Said::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state: (Said, Answer) = (asked.clone(), make(&url));
    let router = Router::new().fallback(hear).with_state(state);
    let tasks = mosaic::TaskGroup::new(|panic| panic!("{panic:?}"));
    tasks.spawn("wechat", async move { axum::serve(listener, router).await.unwrap() });
    Server {
        url,
        asked,
        _tasks: tasks,
    }
}

async fn hear(
    State((asked, answer)): State<(Said, Answer)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    let body = String::from_utf8(body.to_vec()).unwrap();
    asked
        .lock()
        .unwrap()
        .push((format!("{method} {uri}"), authorization.to_owned(), body));
    answer(&method, &uri)
}

/// An answer that WeChat has signed.
pub(crate) fn signed_answer(status: u16, body: impl Into<String>) -> Response {
    let now = mosaic::Runtime::system().now().as_secs();
    let signed = Signed::new(now, body.into());
    Response::builder()
        .status(status)
        .header("wechatpay-timestamp", signed.timestamp.to_string())
        .header("wechatpay-nonce", signed.nonce)
        .header("wechatpay-serial", signed.serial)
        .header("wechatpay-signature", signed.signature)
        .body(signed.body.into())
        .unwrap()
}
