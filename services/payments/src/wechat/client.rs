//! The client of WeChat Pay: signs requests, believes answers that are signed, and reads them.
//!
//! An answer that is not what the protocol says (HTML, too large, slow, another signature) is the provider's failure:
//! nothing is concluded from it. A breaker stands before all calls, so that a provider that is down costs no waiting.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use mosaic::guard::Outgoing;
use mosaic::{
    Access, Context, Envelope, Error, MethodDescriptor, Result, Runtime, ServiceDescriptor, Shape, Timestamp, hex,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha1::{Digest as _, Sha1};

use super::bill::{self, BillLine};
use super::crypto::{ApiKey, SigningKey, VerifyingKey, request_text};
use super::gate;
use super::notice::{self, Notice, Refusal};
use super::transport::{Transport, unavailable};
use super::wire::{
    BillAnswer, CloseBody, CodeAnswer, Payer, PrepayAnswer, PrepayBody, RefundAmount, RefundBody, RefundWire,
    RefusalBody, TotalAmount, Trade,
};
use crate::model::{CURRENCY, Kind, Merchant, Payment, RefundFact, TradeFact};

/// Largest answer but for bills.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What the breaker knows the provider as.
static PROVIDER: ServiceDescriptor = ServiceDescriptor {
    name: "wechatpay.v3.Pay",
    methods: &[MethodDescriptor {
        service: "wechatpay.v3.Pay",
        name: "Call",
        path: "/wechatpay.v3.Pay/Call",
        index: 0,
        shape: Shape::Unary,
        access: Access::Internal,
        idempotent: true,
        timeout: std::time::Duration::from_secs(5),
        rate: None,
        envelope: Envelope::Plain,
        ok_message: "",
        bare: false,
        http: &[],
    }],
    file_descriptor_set: &[],
    openapi: "",
    sensitive: &[],
};

/// Who we are, and how the provider is known.
pub(crate) struct Credentials {
    pub(crate) merchant_serial: String,
    pub(crate) merchant_key: SigningKey,
    pub(crate) platform_serial: String,
    pub(crate) platform_key: VerifyingKey,
    pub(crate) api_key: ApiKey,
}

/// Credentials that are made when they are first needed: keys of the embedded provider take their time.
pub(crate) type Keys = Arc<LazyLock<Credentials, Box<dyn FnOnce() -> Credentials + Send>>>;

/// Where the provider is, and where it finds us.
pub(crate) struct Addresses {
    /// Base URL of its API.
    pub(crate) api: String,
    /// URL of ours for notifications.
    pub(crate) notify_url: String,
    /// Largest bill.
    pub(crate) bill_bytes_max: u64,
}

/// See the module documentation.
pub(crate) struct WechatPay {
    transport: Box<dyn Transport>,
    keys: Keys,
    merchant: Merchant,
    addresses: Addresses,
    outgoing: Outgoing,
}

/// What a page hands to WeChat's dialogue.
pub(crate) struct JsapiSigned {
    pub(crate) app_id: String,
    pub(crate) timestamp: String,
    pub(crate) nonce: String,
    pub(crate) package: String,
    pub(crate) pay_sign: String,
}

/// How an answer is to be believed.
enum Proof {
    Signed,
    /// By a hash that a signed answer gave.
    Sha1(String),
}

struct Call {
    method: Method,
    /// Path and query, without that of the base URL.
    target: String,
    body: Bytes,
    proof: Proof,
}

impl Call {
    fn get(target: String) -> Self {
        Self {
            method: Method::GET,
            target,
            body: Bytes::new(),
            proof: Proof::Signed,
        }
    }

    fn post(target: impl Into<String>, body: &impl Serialize) -> Result<Self> {
        Ok(Self {
            method: Method::POST,
            target: target.into(),
            body: serde_json::to_vec(body).map_err(Error::internal)?.into(),
            proof: Proof::Signed,
        })
    }
}

impl WechatPay {
    pub(crate) fn new(transport: Box<dyn Transport>, keys: Keys, merchant: Merchant, addresses: Addresses) -> Self {
        Self {
            transport,
            keys,
            merchant,
            addresses,
            outgoing: Outgoing::new(&PROVIDER, mosaic::guard::Rules::default()),
        }
    }

    /// Opens a trade and returns its code, or the id of the prepaid trade.
    ///
    /// # Errors
    /// `Unavailable` if there is no answer that is to be believed; `FailedPrecondition` (`PAYMENT_REFUSED`) if it is a no.
    pub(crate) async fn prepay(&self, cx: &Context, payment: &Payment, open_id: &str) -> Result<String> {
        let order = &payment.order;
        let payer = (order.kind == Kind::Jsapi).then(|| Payer {
            openid: open_id.to_owned(),
        });
        let body = PrepayBody {
            appid: self.merchant.app_id.clone(),
            mchid: self.merchant.merchant_id.clone(),
            description: order.description.clone(),
            out_trade_no: payment.out_trade_no(),
            // The provider reads whole seconds.
            time_expire: Timestamp::from_secs(payment.expire.as_secs()).to_string(),
            notify_url: self.addresses.notify_url.clone(),
            amount: TotalAmount {
                total: order.amount_fen,
                currency: Some(CURRENCY.to_owned()),
            },
            payer,
        };
        match order.kind {
            Kind::Native => {
                let call = Call::post("/v3/pay/transactions/native", &body)?;
                Ok(self.expect::<CodeAnswer>(cx, call).await?.code_url)
            }
            Kind::Jsapi => {
                let call = Call::post("/v3/pay/transactions/jsapi", &body)?;
                Ok(self.expect::<PrepayAnswer>(cx, call).await?.prepay_id)
            }
        }
    }

    /// Signs what the payer's page hands to WeChat's dialogue.
    ///
    /// # Errors
    /// `Internal` if there is no signing.
    pub(crate) fn sign_jsapi(&self, runtime: &Runtime, prepay_id: &str) -> Result<JsapiSigned> {
        let app_id = self.merchant.app_id.clone();
        let timestamp = runtime.now().as_secs().to_string();
        let nonce = runtime.random_hex::<16>();
        let package = format!("prepay_id={prepay_id}");
        let text = format!("{app_id}\n{timestamp}\n{nonce}\n{package}\n");
        let pay_sign = self.keys.merchant_key.sign(runtime, text.as_bytes())?;
        Ok(JsapiSigned {
            app_id,
            timestamp,
            nonce,
            package,
            pay_sign,
        })
    }

    /// Asks about a trade; `None` if the provider has none of this number.
    ///
    /// # Errors
    /// As [`WechatPay::prepay`].
    pub(crate) async fn query(&self, cx: &Context, out_trade_no: &str) -> Result<Option<TradeFact>> {
        let merchant_id = &self.merchant.merchant_id;
        let call = Call::get(format!(
            "/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={merchant_id}"
        ));
        let Some(trade) = self.find::<Trade>(cx, call).await? else {
            return Ok(None);
        };
        match trade.into_fact() {
            Some(fact) if fact.out_trade_no == out_trade_no => Ok(Some(fact)),
            Some(_) => Err(unavailable("the answer is about another trade")),
            None => Err(unavailable("a trade state that is not known")),
        }
    }

    /// Closes a trade: nobody can pay it afterwards.
    ///
    /// # Errors
    /// As [`WechatPay::prepay`]; a trade that was paid is not closed.
    pub(crate) async fn close(&self, cx: &Context, out_trade_no: &str) -> Result<()> {
        let body = CloseBody {
            mchid: self.merchant.merchant_id.clone(),
        };
        let call = Call::post(format!("/v3/pay/transactions/out-trade-no/{out_trade_no}/close"), &body)?;
        self.call(cx, call).await.and_then(accepted).map(drop)
    }

    /// Gives the whole of a payment back.
    ///
    /// # Errors
    /// As [`WechatPay::prepay`].
    pub(crate) async fn refund(&self, cx: &Context, payment: &Payment) -> Result<RefundFact> {
        let (Some(asked), Some(out_refund_no)) = (&payment.refund, payment.out_refund_no()) else {
            return Err(Error::internal("a refund that nobody asked for"));
        };
        let body = RefundBody {
            out_trade_no: payment.out_trade_no(),
            out_refund_no: out_refund_no.clone(),
            reason: asked.reason.clone(),
            notify_url: self.addresses.notify_url.clone(),
            amount: RefundAmount {
                refund: payment.order.amount_fen,
                total: payment.order.amount_fen,
                currency: Some(CURRENCY.to_owned()),
            },
        };
        let call = Call::post("/v3/refund/domestic/refunds", &body)?;
        refund_fact(self.expect(cx, call).await?, &out_refund_no)
    }

    /// Asks about a refund; `None` if the provider has none of this number.
    ///
    /// # Errors
    /// As [`WechatPay::prepay`].
    pub(crate) async fn query_refund(&self, cx: &Context, out_refund_no: &str) -> Result<Option<RefundFact>> {
        let call = Call::get(format!("/v3/refund/domestic/refunds/{out_refund_no}"));
        let refund = self.find::<RefundWire>(cx, call).await?;
        refund.map(|refund| refund_fact(refund, out_refund_no)).transpose()
    }

    /// Returns the bill of a day, `YYYY-MM-DD`.
    ///
    /// # Errors
    /// As [`WechatPay::prepay`]; `Unavailable` for a bill that is not what its hash says, or no bill.
    pub(crate) async fn bill(&self, cx: &Context, date: &str) -> Result<Vec<BillLine>> {
        let call = Call::get(format!("/v3/bill/tradebill?bill_date={date}&bill_type=ALL"));
        let answer: BillAnswer = self.expect(cx, call).await?;
        if !answer.hash_type.eq_ignore_ascii_case("SHA1") {
            return Err(unavailable("a hash that is not known"));
        }
        // The address is the provider's word; our signature goes to the provider and nowhere else.
        let target = answer.download_url.strip_prefix(&self.addresses.api);
        let target = target.filter(|target| target.starts_with('/'));
        let call = Call {
            proof: Proof::Sha1(answer.hash_value.to_ascii_lowercase()),
            ..Call::get(target.ok_or_else(|| unavailable("the bill lies elsewhere"))?.to_owned())
        };
        let csv = self.call(cx, call).await.and_then(accepted)?;
        bill::parse(&csv).map_err(unavailable)
    }

    /// Reads a notification.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) fn notice(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Notice, Refusal> {
        notice::read(&self.keys, headers, body, now)
    }

    async fn expect<T: DeserializeOwned>(&self, cx: &Context, call: Call) -> Result<T> {
        let body = self.call(cx, call).await.and_then(accepted)?;
        serde_json::from_slice(&body).map_err(unavailable)
    }

    async fn find<T: DeserializeOwned>(&self, cx: &Context, call: Call) -> Result<Option<T>> {
        let answer = self.call(cx, call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            // A path that is not there is answered so as well: only the provider's own word says that there is no trade.
            let refusal: RefusalBody = serde_json::from_slice(answer.body()).unwrap_or_default();
            return match refusal.code.as_str() {
                "ORDER_NOT_EXIST" | "ORDERNOTEXIST" | "RESOURCE_NOT_EXISTS" => Ok(None),
                code => Err(unavailable(format!("HTTP 404 {code}"))),
            };
        }
        serde_json::from_slice(&accepted(answer)?)
            .map(Some)
            .map_err(unavailable)
    }

    async fn call(&self, cx: &Context, call: Call) -> Result<Response<Bytes>> {
        let method = &PROVIDER.methods[0];
        self.outgoing.call_local(method, cx, || self.send(cx, call)).await
    }

    async fn send(&self, cx: &Context, call: Call) -> Result<Response<Bytes>> {
        let Call {
            method,
            target,
            body,
            proof,
        } = call;
        let uri: Uri = format!("{}{target}", self.addresses.api)
            .parse()
            .map_err(Error::internal)?;
        let signed_target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let authorization = self.authorization(cx.runtime(), &method, &signed_target, &body)?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "mosaic")
            .body(body)
            .map_err(Error::internal)?;
        let bytes_max = match proof {
            Proof::Signed => ANSWER_BYTES_MAX,
            Proof::Sha1(_) => self.addresses.bill_bytes_max,
        };
        let answer = self.transport.send(cx, request, bytes_max).await?;
        let status = answer.status();
        if status.is_server_error() || status.is_redirection() {
            return Err(unavailable(format!("HTTP {status}")));
        }
        match proof {
            Proof::Sha1(hash) if status.is_success() && hex(Sha1::digest(answer.body())) != hash => {
                Err(unavailable("the bill is not what its hash says"))
            }
            Proof::Sha1(_) => Ok(answer),
            Proof::Signed => {
                let verified = gate::verify(&self.keys, answer.headers(), answer.body(), cx.runtime().now());
                verified.map_err(|forged| unavailable(format!("HTTP {status}: {forged}")))?;
                Ok(answer)
            }
        }
    }

    fn authorization(&self, runtime: &Runtime, method: &Method, target: &str, body: &[u8]) -> Result<String> {
        let timestamp = runtime.now().as_secs().to_string();
        let nonce = runtime.random_hex::<16>();
        let text = request_text(method.as_str(), target, &timestamp, &nonce, body);
        let signature = self.keys.merchant_key.sign(runtime, &text)?;
        let merchant_id = &self.merchant.merchant_id;
        let serial = &self.keys.merchant_serial;
        Ok(format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{merchant_id}\",nonce_str=\"{nonce}\",signature=\"{signature}\",\
             timestamp=\"{timestamp}\",serial_no=\"{serial}\""
        ))
    }
}

/// Returns the body of a yes.
fn accepted(answer: Response<Bytes>) -> Result<Bytes> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let refusal: RefusalBody = serde_json::from_slice(answer.body()).unwrap_or_default();
    let cause = format!("HTTP {status} {}", refusal.code);
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::UNAUTHORIZED {
        return Err(unavailable(cause));
    }
    Err(Error::failed_precondition("PAYMENT_REFUSED", "the payment provider refuses").caused_by(cause))
}

fn refund_fact(refund: RefundWire, out_refund_no: &str) -> Result<RefundFact> {
    match refund.into_fact() {
        Some(fact) if fact.out_refund_no == out_refund_no => Ok(fact),
        Some(_) => Err(unavailable("the answer is about another refund")),
        None => Err(unavailable("a refund state that is not known")),
    }
}
