//! Tokens: what is refused, what ends, what is noticed.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_api::identity::v1::{ChangePasswordRequest, IdentityClient};
use mosaic_testing::{Shape, in_every_shape};
use serde_json::json;

use crate::support::{APART, PASSWORD, User, content_login, content_user, platform, start};

in_every_shape!(APART; malformed_tokens_are_401, forward_auth);

async fn malformed_tokens_are_401(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    let parts: Vec<&str> = user.access.split('.').collect();
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    let swapped = format!("{}.{}.{}", parts[0], parts[1], &user.refresh.split('.').nth(2).unwrap());
    let long = "a".repeat(12_000);
    let headers = [
        "111",
        "Bearer",
        "Bearer ",
        "Bearer 111",
        "Bearer a.b.c",
        "Basic YTpi",
        "Bearer  x",
        "Bearer\tx",
    ];
    let mut bad: Vec<String> = headers.iter().map(|text| (*text).to_owned()).collect();
    bad.extend([&unsigned, &swapped, &long, &user.refresh].map(|token| format!("Bearer {token}")));
    bad.push(format!("Bearer {}", user.access.replace('e', "f")));
    for header in bad {
        let caller = app.anonymous().with_header("authorization", &header);
        let reply = caller.get("/users/profile").await;
        assert_eq!((reply.status, reply.text.as_str()), (401, ""), "{header:.40}");
        let reply = caller.post("/usercenter/v1/user/detail", json!({})).await;
        assert_eq!(reply.status, 401, "{header:.40}");
    }
    let lower = app
        .anonymous()
        .with_header("authorization", &format!("bearer {}", user.access));
    assert_eq!(lower.get("/users/profile").await.status, 200);
    let twice = user
        .caller
        .request(reqwest::Method::GET, "/users/profile")
        .header("authorization", "Bearer x");
    assert_eq!(user.caller.send(twice).await.status, 401);
    app.stop().await;
}

async fn forward_auth(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    let verify = async |caller: mosaic_testing::Caller, uri: &str| {
        let reply = caller
            .with_header("x-original-uri", uri)
            .get("/identity/v1/verify/token")
            .await;
        (reply.status, reply.header("x-user").to_owned())
    };
    let anonymous = || app.anonymous();
    assert_eq!(verify(anonymous(), "/users/login").await, (200, "0".into()));
    assert_eq!(
        verify(anonymous(), "/users/login?next=/users/profile").await,
        (200, "0".into())
    );
    for private in [
        "/users/profile",
        "/nowhere",
        "",
        "/users/login/../profile",
        "users/login",
        "//users/login",
        "/dev/outbox",
    ] {
        assert_eq!(verify(anonymous(), private).await, (401, String::new()), "{private}");
    }
    let (status, account) = verify(user.caller.clone(), "/users/profile").await;
    assert!(status == 200 && account.parse::<i64>().unwrap() > 0);
    assert_eq!(
        verify(anonymous().with_token("a.b.c"), "/users/login").await.0,
        401,
        "a bad token is bad on public paths"
    );
    assert_eq!(app.anonymous().get("/identity/v1/verify/token").await.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn a_used_refresh_token_that_comes_back_ends_the_session() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
    let app = platform(Shape::Together).runtime(runtime).start().await;
    let user = content_user(&app, "a@b.com").await;
    let refresh = async |token: &str| app.anonymous().with_token(token).get("/users/refresh_token").await;
    let renewed = User::of(&app.anonymous(), &refresh(&user.refresh).await);
    // At once: two tabs, not a thief. The one that lost loses, nothing else.
    assert_eq!(refresh(&user.refresh).await.status, 401);
    assert_eq!(renewed.caller.get("/users/profile").await.status, 200);
    clock.advance(Duration::from_secs(11));
    assert_eq!(refresh(&user.refresh).await.status, 401);
    assert_eq!(refresh(&renewed.refresh).await.status, 401, "the whole family is gone");
    assert_eq!(
        renewed.caller.get("/users/profile").await.status,
        401,
        "and its access tokens with it"
    );
    assert!(mosaic_testing::log().contains("a used refresh token came back"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_refreshes_at_once_one_wins() {
    let app = start(Shape::Together).await;
    let user = content_user(&app, "a@b.com").await;
    let callers: Vec<_> = (0..20).map(|_| app.anonymous().with_token(&user.refresh)).collect();
    let all = callers.iter().map(|caller| caller.get("/users/refresh_token"));
    let mut winners = Vec::new();
    for reply in futures::future::join_all(all).await {
        match reply.status {
            200 => winners.push(User::of(&app.anonymous(), &reply)),
            status => assert_eq!(status, 401),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(winners[0].caller.get("/users/profile").await.status, 200);
    app.stop().await;
}

#[tokio::test]
async fn a_refresh_token_is_bound_to_its_user_agent() {
    let app = start(Shape::Together).await;
    content_user(&app, "a@b.com").await;
    let browser = app.anonymous().with_header("user-agent", "browser");
    let user = content_login(&browser, "a@b.com").await;
    let refresh = async |agent: &str| {
        let caller = app
            .anonymous()
            .with_header("user-agent", agent)
            .with_token(&user.refresh);
        caller.get("/users/refresh_token").await.status
    };
    assert_eq!(refresh("thief").await, 401);
    assert_eq!(refresh("browser").await, 200);
    app.stop().await;
}

#[tokio::test]
async fn tokens_end_with_their_time() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
    let app = platform(Shape::Together).runtime(runtime).start().await;
    let user = content_user(&app, "a@b.com").await;
    let status = async || user.caller.get("/users/profile").await.status;
    clock.advance(Duration::from_secs(30 * 60 + 59));
    assert_eq!(status().await, 200, "within the leeway");
    clock.advance(Duration::from_secs(2));
    assert_eq!(status().await, 401);
    let refreshed = app
        .anonymous()
        .with_token(&user.refresh)
        .get("/users/refresh_token")
        .await;
    assert_eq!(refreshed.status, 200);
    let renewed = User::of(&app.anonymous(), &refreshed);
    clock.advance(Duration::from_secs(7 * 86_400 + 61));
    assert_eq!(
        app.anonymous()
            .with_token(&renewed.refresh)
            .get("/users/refresh_token")
            .await
            .status,
        401
    );
    app.stop().await;
}

/// A password that changed and an account that closed void the tokens of before, in every process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_and_a_closed_account_void_older_tokens() {
    let app = start(APART).await;
    let user = content_user(&app, "a@b.com").await;
    let identity: IdentityClient = app.client("test");
    let as_user = async |user: &User| {
        let verified = mosaic::Identity {
            account: mosaic::AccountId::try_from(1).unwrap(),
            session: String::new(),
            roles: Vec::new(),
            token: mosaic::Secret::new(user.access.clone()),
        };
        // Whatever this context claims, the other process believes the token only.
        mosaic::Context::new(app.runtime()).with_caller(mosaic::Caller::Account(Arc::new(verified)))
    };
    let change = |old: &str| ChangePasswordRequest {
        old_password: old.into(),
        new_password: "another#world123".into(),
    };
    let wrong = identity
        .change_password(&as_user(&user).await, change("wrong"))
        .await
        .unwrap_err();
    assert_eq!(wrong.reason(), "PASSWORD_WRONG");
    identity
        .change_password(&as_user(&user).await, change(PASSWORD))
        .await
        .unwrap();
    let void = async |user: &User| {
        mosaic_testing::until("the token is void", Duration::from_secs(2), || async {
            user.caller.get("/users/profile").await.status == 401
        })
        .await;
    };
    void(&user).await;
    assert_eq!(
        app.anonymous()
            .with_token(&user.refresh)
            .get("/users/refresh_token")
            .await
            .status,
        401
    );
    // `iat` has whole seconds: a token of the second of the change is void too.
    let second = user_second(&app);
    mosaic_testing::until("the next second", Duration::from_secs(2), || async {
        user_second(&app) > second
    })
    .await;
    let body = json!({"email": "a@b.com", "password": "another#world123"});
    let again = User::of(
        &app.anonymous(),
        &app.anonymous().post("/users/login", body.clone()).await,
    );
    assert_eq!(again.caller.get("/users/profile").await.status, 200);
    identity.close_account(&as_user(&again).await, ()).await.unwrap();
    void(&again).await;
    assert_eq!(app.anonymous().post("/users/login", body).await.json()["code"], 401_002);
    app.stop().await;
}

fn user_second(app: &mosaic_testing::TestApp) -> i64 {
    app.runtime().now().as_secs()
}
