//! A provider that does not keep to its protocol: bounded, a failure of the provider's, and never taken for an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use mosaic::Code;
use mosaic_api::payments::v1::{GetBillRequest, PaymentState, SyncRequest};
use mosaic_testing::TestApp;
use rsa::Pkcs1v15Sign;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::provider::{KEYS, MERCHANT, Signed, configured, paid, serve, serve_knowing, signed_answer};
use crate::support::{app, client, cx, native, payment};

async fn started(url: &str) -> TestApp {
    configured(TestApp::builder(app()), url)
        .set("payments.wechat_timeout", "300ms")
        .start()
        .await
}

fn endless(pause: Duration, chunk: usize) -> Response {
    let chunks = futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(vec![b'x'; chunk]), ()))
    });
    Response::new(Body::from_stream(chunks))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_is_the_providers_failure_and_nothing_is_stored() {
    type Answer = fn() -> Response;
    let answers: [(&str, Answer); 10] = [
        ("HTML", || "<html>welcome</html>".into_response()),
        ("signed HTML", || signed_answer(200, "<html>welcome</html>")),
        ("unsigned", || r#"{"code_url":"weixin://1"}"#.into_response()),
        ("wrong JSON", || signed_answer(200, r#"{"code":"weixin://1"}"#)),
        ("no JSON", || signed_answer(200, "{")),
        ("a gigabyte", || endless(Duration::ZERO, 1 << 20)),
        ("a byte at a time", || endless(Duration::from_millis(50), 1)),
        ("elsewhere", || Redirect::to("http://127.0.0.1:1/").into_response()),
        ("an old answer", || {
            let signed = Signed::new(1_600_000_000, r#"{"code_url":"weixin://1"}"#.to_owned());
            let mut response = signed_answer(200, signed.body);
            let headers = response.headers_mut();
            headers.insert("wechatpay-timestamp", signed.timestamp.into());
            headers.insert("wechatpay-signature", signed.signature.parse().unwrap());
            response
        }),
        ("a failure", || signed_answer(500, "")),
    ];
    for (name, answer) in answers {
        let server = serve(move |_, _| answer()).await;
        let app = started(&server.url).await;
        let error = client(&app).prepay(&cx(&app), native("T1")).await.unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::Unavailable, "PAYMENT_PROVIDER_UNAVAILABLE"),
            "{name}"
        );
        assert_eq!(payment(&app, "T1").await.state(), PaymentState::Waiting, "{name}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_is_a_no() {
    let server = serve(|_, _| signed_answer(400, r#"{"code":"PARAM_ERROR","message":"secret reasons"}"#)).await;
    let app = started(&server.url).await;
    let error = client(&app).prepay(&cx(&app), native("T1")).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, "PAYMENT_REFUSED")
    );
    assert!(!error.message().contains("secret"), "{error:?}");
    app.stop().await;
}

/// Only the provider's own word says that there is no trade, or that it is paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_concluded_from_what_is_not_signed() {
    let server = serve(|_, uri| {
        let trade = uri.path().rsplit('/').next().unwrap().to_owned();
        match uri.path() {
            "/v3/pay/transactions/native" => signed_answer(200, r#"{"code_url":"weixin://1"}"#),
            _ => paid(&trade).to_string().into_response(),
        }
    })
    .await;
    let app = started(&server.url).await;
    client(&app).prepay(&cx(&app), native("T1")).await.unwrap();
    let ask = SyncRequest {
        biz: "test".to_owned(),
        trade_no: "T1".to_owned(),
    };
    let error = client(&app).sync(&cx(&app), ask).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(payment(&app, "T1").await.state(), PaymentState::Waiting);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_about_another_trade_is_not_ours() {
    let server = serve(|_, uri| match uri.path() {
        "/v3/pay/transactions/native" => signed_answer(200, r#"{"code_url":"weixin://1"}"#),
        _ => signed_answer(200, paid("M1").to_string()),
    })
    .await;
    let app = started(&server.url).await;
    client(&app).prepay(&cx(&app), native("T1")).await.unwrap();
    let ask = SyncRequest {
        biz: "test".to_owned(),
        trade_no: "T1".to_owned(),
    };
    assert_eq!(
        client(&app).sync(&cx(&app), ask).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(payment(&app, "T1").await.state(), PaymentState::Waiting);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_signed_as_wechat_documents_it() {
    let server = serve(|_, uri| match uri.path() {
        "/v3/pay/transactions/native" => signed_answer(200, r#"{"code_url":"weixin://1"}"#),
        _ => signed_answer(404, r#"{"code":"ORDER_NOT_EXIST"}"#),
    })
    .await;
    let app = started(&server.url).await;
    client(&app).prepay(&cx(&app), native("T1")).await.unwrap();
    let ask = SyncRequest {
        biz: "test".to_owned(),
        trade_no: "T1".to_owned(),
    };
    client(&app).sync(&cx(&app), ask).await.unwrap();
    let asked = server.asked.lock().unwrap().clone();
    let out_trade_no = payment(&app, "T1").await.out_trade_no;
    let targets: Vec<_> = asked.iter().map(|(target, ..)| target.clone()).collect();
    let query = format!("GET /v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={MERCHANT}");
    assert_eq!(targets, ["POST /v3/pay/transactions/native".to_owned(), query]);
    for (target, authorization, body) in asked {
        let (scheme, parts) = authorization.split_once(' ').unwrap();
        assert_eq!(scheme, "WECHATPAY2-SHA256-RSA2048");
        let part = |name: &str| {
            let mut parts = parts.split(',').map(|part| part.split_once('=').unwrap());
            parts
                .find(|(key, _)| *key == name)
                .unwrap()
                .1
                .trim_matches('"')
                .to_owned()
        };
        assert_eq!(
            (part("mchid"), part("serial_no")),
            (MERCHANT.to_owned(), "SERIAL".to_owned())
        );
        let (method, path) = target.split_once(' ').unwrap();
        let text = format!(
            "{method}\n{path}\n{}\n{}\n{body}\n",
            part("timestamp"),
            part("nonce_str")
        );
        let signature = base64::engine::general_purpose::STANDARD
            .decode(part("signature"))
            .unwrap();
        let verified = KEYS[0]
            .to_public_key()
            .verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(text), &signature);
        assert!(verified.is_ok(), "{target}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_is_what_its_hash_says_and_lies_at_the_provider() {
    const CSV: &str = "交易时间,公众账号ID,商户号,微信订单号,商户订单号,交易状态,退款金额,订单金额\n\
                       `t,`a,`m,`42,`M7,`SUCCESS,`0.00,`1.00\n总交易单数,x\n`1,`1.00\n";
    let hash: String = Sha1::digest(CSV).iter().map(|byte| format!("{byte:02x}")).collect();
    for (is_good, hash, elsewhere) in [
        (true, hash.clone(), None),
        (false, "0".repeat(40), None),
        (false, hash, Some("http://127.0.0.1:1")),
    ] {
        let server = serve_knowing(|url| {
            let base = elsewhere.unwrap_or(url);
            let answer = json!({
                "hash_type": "SHA1", "hash_value": hash, "download_url": format!("{base}/v3/billdownload/file?token=x"),
            });
            Arc::new(move |_, uri| match uri.path() {
                "/v3/bill/tradebill" => signed_answer(200, answer.to_string()),
                _ => CSV.into_response(),
            })
        })
        .await;
        let app = started(&server.url).await;
        let request = GetBillRequest {
            date: "2026-11-20".to_owned(),
            offset: 0,
        };
        match client(&app).get_bill(&cx(&app), request).await {
            Ok(bill) => assert!(
                is_good && bill.lines.len() == 1 && bill.lines[0].amount_fen == 100,
                "{bill:?}"
            ),
            Err(error) => assert!(!is_good && error.code() == Code::Unavailable, "{error:?}"),
        }
        app.stop().await;
    }
}
