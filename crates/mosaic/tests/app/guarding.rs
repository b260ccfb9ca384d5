//! What a contract says of access and rates holds over every road.

use std::time::Duration;

use mosaic::rpc::tonic::metadata::AsciiMetadataValue;
use mosaic::rpc::{PeerKey, error_from_status, http, tonic};
use mosaic::{Code, Runtime};
use mosaic_stage::front::v1::{FRONT, FrontClient};
use mosaic_testing::{Shape, TestApp};
use serde_json::json;

use crate::stage::{APART, Stage, traced};

const PEER_KEY: &str = "a key of thirty-two bytes or more";

/// Calls a method of the front without a message, with headers; returns how it was refused.
async fn call(app: &TestApp, method: &str, headers: &[(&'static str, &str)]) -> Option<Code> {
    let address = format!("http://{}", app.processes()[0].addresses().grpc);
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    for (name, value) in headers {
        request
            .metadata_mut()
            .insert(*name, value.parse::<AsciiMetadataValue>().unwrap());
    }
    let path: http::uri::PathAndQuery = format!("/{}/{method}", FRONT.name).parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    match grpc.unary(request, path, codec).await {
        Ok(_) => None,
        Err(status) => Some(error_from_status(&status).code()),
    }
}

#[tokio::test]
async fn who_may_call_what_is_the_same_over_http_and_grpc() {
    let (yes, no) = (None, Some(Code::PermissionDenied));
    let (who, hidden) = (Some(Code::Unauthenticated), Some(Code::NotFound));
    let stage = Stage::new();
    let app = stage
        .builder(Shape::Together)
        .set("rpc.peer_key", PEER_KEY)
        .start()
        .await;
    let bearer = |token: String| format!("Bearer {token}");
    let (user, admin) = (bearer(stage.token(1, &[])), bearer(stage.token(2, &["admin"])));
    let foreign = bearer(Stage::new().token(1, &["admin"]));
    let peer = PeerKey::new(PEER_KEY.into())
        .unwrap()
        .issue("test", Runtime::system().now());
    let callers: [&[(&'static str, &str)]; 5] = [
        &[],
        &[("authorization", &foreign)],
        &[("authorization", &user)],
        &[("authorization", &admin)],
        &[("x-mosaic-peer", &peer)],
    ];
    let table = [
        ("Anybody", [yes, yes, yes, yes, yes]),
        ("Perhaps", [yes, who, yes, yes, yes]),
        ("Somebody", [who, who, yes, yes, who]),
        ("Admin", [who, who, no, yes, who]),
        ("Inside", [hidden, who, hidden, hidden, yes]),
    ];
    for (method, row) in table {
        for (headers, want) in callers.into_iter().zip(row) {
            assert_eq!(call(&app, method, headers).await, want, "{method} {headers:?}");
            let outside = headers
                .iter()
                .fold(app.anonymous(), |caller, (name, value)| caller.with_header(name, value));
            let path = format!("/front/v1/{}", method.to_lowercase());
            // What is internal has no path, and nobody outside is a service.
            let want = if method == "Inside" {
                404
            } else {
                want.map_or(200, Code::http_status)
            };
            assert_eq!(outside.post(&path, json!({})).await.status, want, "{path} {headers:?}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_established_is_nobody() {
    let stage = Stage::new();
    let app = stage
        .builder(Shape::Together)
        .set("rpc.peer_key", PEER_KEY)
        .start()
        .await;
    let now = Runtime::system().now();
    let ours = PeerKey::new(PEER_KEY.into()).unwrap();
    let theirs = PeerKey::new(PEER_KEY.to_uppercase().into()).unwrap();
    assert_eq!(
        call(&app, "Inside", &[("x-mosaic-peer", &ours.issue("test", now))]).await,
        None
    );
    let bad = [
        theirs.issue("test", now),
        ours.issue("test", now.minus(Duration::from_secs(62))),
        "test".to_owned(),
        "test.99999999999.AAAA".to_owned(),
        String::new(),
    ];
    for token in bad {
        for method in ["Inside", "Anybody", "Somebody"] {
            let code = call(&app, method, &[("x-mosaic-peer", &token)]).await;
            assert_eq!(code, Some(Code::Unauthenticated), "{method} {token:?}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn each_caller_has_the_rate_of_the_contract() {
    for shape in [Shape::Together, Shape::Strict, APART] {
        let stage = Stage::new();
        let app = stage
            .builder(shape)
            .set("edge.trusted_proxies", "127.0.0.1")
            .start()
            .await;
        let from = |ip: &str| app.anonymous().with_header("x-forwarded-for", ip);
        let callers = [
            from("192.0.2.1"),
            from("192.0.2.2"),
            from("192.0.2.1").with_token(&stage.token(1, &[])),
            from("192.0.2.1").with_token(&stage.token(2, &[])),
        ];
        for (position, caller) in callers.iter().enumerate() {
            for turn in 0..3 {
                let reply = caller.post("/front/v1/rarely", json!({})).await;
                assert_eq!(reply.status, 200, "{shape:?} {position} {turn}: {}", reply.text);
            }
            let reply = caller.post("/front/v1/rarely", json!({})).await;
            assert_eq!(
                (reply.status, &reply.json()["reason"]),
                (429, &json!("RATE_LIMITED")),
                "{}",
                reply.text
            );
            assert_eq!(reply.header("content-type"), "application/problem+json");
            // One call every twenty minutes.
            let after: u64 = reply.header("retry-after").parse().unwrap();
            assert!((1190..=1200).contains(&after), "{after}");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn services_have_no_rate_of_their_own_and_strangers_over_grpc_have() {
    let app = Stage::new().start(APART).await;
    let front: FrontClient = app.client("test");
    for _ in 0..10 {
        front.rarely(&traced().0, ()).await.unwrap();
    }
    for turn in 0..5 {
        let want = (turn >= 3).then_some(Code::ResourceExhausted);
        assert_eq!(call(&app, "Rarely", &[]).await, want, "{turn}");
    }
    app.stop().await;
}
