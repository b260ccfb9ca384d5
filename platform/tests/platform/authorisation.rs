//! Every route and every method, enumerated from the contracts: who gets in and who does not.

use std::collections::BTreeSet;

use mosaic::{Access, MethodDescriptor, ServiceDescriptor};
use mosaic_api::blobs::v1 as blobs;
use mosaic_api::comments::v1 as comments;
use mosaic_api::content::v1 as content;
use mosaic_api::feed::v1 as feed;
use mosaic_api::homestay::v1 as homestay;
use mosaic_api::identity::v1 as identity;
use mosaic_api::interaction::v1 as interaction;
use mosaic_api::ledger::v1 as ledger;
use mosaic_api::messaging::v1 as messaging;
use mosaic_api::payments::v1 as payments;
use mosaic_api::ranking::v1 as ranking;
use mosaic_api::relations::v1 as relations;
use mosaic_api::rewards::v1 as rewards;
use mosaic_api::search::v1 as search;
use mosaic_api::users::v1 as users;
use mosaic_testing::{Caller, Reply, Shape, TestApp, in_every_shape};
use serde_json::json;

use crate::support::{APART, content_login, content_user, start};

in_every_shape!(APART; every_route_asks_who_calls, every_method_asks_who_calls);

/// Every service of the platform; one that is missing here fails `nothing_is_forgotten`.
const SERVICES: [&ServiceDescriptor; 21] = [
    &identity::IDENTITY,
    &users::USERS,
    &messaging::MESSAGING,
    &blobs::BLOBS,
    &interaction::INTERACTION,
    &ranking::RANKING,
    &comments::COMMENTS,
    &relations::RELATIONS,
    &feed::FEED,
    &search::SEARCH,
    &payments::PAYMENTS,
    &ledger::LEDGER,
    &rewards::REWARDS,
    &homestay::USERCENTER,
    &content::USERS,
    &content::OAUTH2,
    &content::ARTICLES,
    &content::COLLECTIONS,
    &content::ARTICLE_COMMENTS,
    &content::FOLLOWS,
    &content::REWARDS,
];

fn methods() -> impl Iterator<Item = &'static MethodDescriptor> {
    SERVICES.into_iter().flat_map(|service| service.methods)
}

/// Calls the route with an empty body of the right kind, which gets as far as the access rule and no further.
async fn call(caller: &Caller, verb: &str, path: &str) -> Reply {
    let verb = if verb == "*" { "GET" } else { verb };
    let request = caller
        .request(verb.parse().unwrap(), path)
        .header("content-type", "application/json");
    caller
        .send(if verb == "GET" {
            request
        } else {
            request.body("not json")
        })
        .await
}

async fn every_route_asks_who_calls(shape: Shape) {
    let app = start(shape).await;
    content_user(&app, "a@b.com").await;
    let anonymous = app.anonymous();
    let garbage = anonymous.clone().with_token("a.b.c");
    for method in methods() {
        for route in method.http {
            let (by_nobody, by_garbage) = (
                call(&anonymous, route.verb, route.path).await,
                call(&garbage, route.verb, route.path).await,
            );
            let what = format!("{} {}", route.verb, route.path);
            match method.access {
                Access::SignedIn | Access::Role(_) => {
                    assert_eq!((by_nobody.status, by_garbage.status), (401, 401), "{what}");
                    // Somebody else's good token gets past the door of a route for the signed in.
                    // A session of its own for each: one of the routes ends it.
                    let user = content_login(&anonymous, "a@b.com").await;
                    let by_user = call(&user.caller, route.verb, route.path).await;
                    let past_the_door = method.access == Access::SignedIn;
                    assert_eq!(by_user.status != 401 && by_user.status != 403, past_the_door, "{what}");
                }
                Access::Optional => assert_eq!(by_garbage.status, 401, "{what}"),
                // The route that takes a refresh token in the place of an access token refuses by itself.
                Access::Public => assert!(
                    by_nobody.status != 401 || route.path == "/users/refresh_token",
                    "{what}"
                ),
                Access::Internal => panic!("{what} must have no route"),
            }
        }
    }
    app.stop().await;
}

/// Over gRPC, straight at each process, past the public port.
async fn every_method_asks_who_calls(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    let mut seen = BTreeSet::new();
    for process in app.processes() {
        let endpoint = format!("http://{}", process.addresses().grpc);
        let channel = mosaic::rpc::tonic::transport::Channel::from_shared(endpoint)
            .unwrap()
            .connect()
            .await
            .unwrap();
        for method in methods() {
            let status = async |headers: &[(&'static str, &str)]| grpc_status(&channel, method, headers).await;
            let nobody = status(&[]).await;
            if nobody == Code::Unimplemented {
                continue; // served by another process
            }
            seen.insert(method.path);
            let garbage = status(&[("authorization", "Bearer a.b.c")]).await;
            let bearer = format!("Bearer {}", user.access);
            // What a client says of itself is nothing: a made-up peer, an account in a header.
            let pretender = status(&[("x-mosaic-peer", "edge.9999999999.AAAA"), ("x-user-id", "1")]).await;
            match method.access {
                Access::SignedIn | Access::Role(_) => {
                    assert_eq!(
                        (nobody, garbage),
                        (Code::Unauthenticated, Code::Unauthenticated),
                        "{}",
                        method.path
                    );
                    assert_eq!(pretender, Code::Unauthenticated, "{}", method.path);
                }
                Access::Internal => {
                    let signed_in = status(&[("authorization", &bearer)]).await;
                    assert_eq!((nobody, signed_in), (Code::NotFound, Code::NotFound), "{}", method.path);
                    assert_eq!(garbage, Code::Unauthenticated, "{}", method.path);
                    assert_eq!(pretender, Code::Unauthenticated, "{}", method.path);
                }
                Access::Optional => assert_eq!(garbage, Code::Unauthenticated, "{}", method.path),
                Access::Public => assert_ne!(nobody, Code::NotFound, "{}", method.path),
            }
        }
    }
    assert_eq!(seen.len(), methods().count(), "each method is served somewhere");
    app.stop().await;
}

use mosaic::rpc::tonic::Code;

/// Calls a method with an empty message; what decodes is enough to reach the access rule.
async fn grpc_status(
    channel: &mosaic::rpc::tonic::transport::Channel,
    method: &'static MethodDescriptor,
    headers: &[(&'static str, &str)],
) -> Code {
    use mosaic::rpc::tonic::client::Grpc;
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = mosaic::rpc::tonic::Request::new(());
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(method.path);
    match grpc.server_streaming(request, path, codec).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn nothing_is_forgotten() {
    let app = start(Shape::Together).await;
    let document = app.anonymous().get("/openapi.json").await.json();
    let documented: BTreeSet<&String> = document["paths"].as_object().unwrap().keys().collect();
    let known: BTreeSet<String> = methods()
        .flat_map(|method| method.http)
        .map(|route| route.path.to_owned())
        .collect();
    assert_eq!(
        documented,
        known.iter().collect(),
        "the document, the descriptors and this test speak of the same routes"
    );
    let served: BTreeSet<&str> = app.processes()[0]
        .services()
        .iter()
        .map(|service| service.name)
        .collect();
    assert_eq!(served, SERVICES.iter().map(|service| service.name).collect());
    app.stop().await;
}

#[tokio::test]
async fn what_is_internal_is_not_outside() {
    let app = start(Shape::Together).await;
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/debug",
        "/identity.v1.Identity/SignUp",
        "/messaging.v1.Messaging/ListSent",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(app.anonymous().get(path).await.status, 404, "{path}");
        let caller = app.anonymous().with_header("x-mosaic-peer", "edge.9999999999.AAAA");
        assert_eq!(caller.post(path, json!({})).await.status, 404, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn claims_of_a_client_are_nothing() {
    let app: TestApp = start(Shape::Together).await;
    let user = content_user(&app, "a@b.com").await;
    let honest = user.caller.get("/users/profile").await.json();
    let liar = user
        .caller
        .clone()
        .with_header("x-user-id", "1")
        .with_header("x-user", "1")
        .with_header("x-mosaic-peer", "x");
    assert_eq!(liar.get("/users/profile").await.json(), honest);
    let nobody = app
        .anonymous()
        .with_header("x-user-id", "1")
        .with_header("x-internal-account", "1");
    assert_eq!(nobody.get("/users/profile").await.status, 401);
    app.stop().await;
}
