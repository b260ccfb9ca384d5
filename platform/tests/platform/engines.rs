//! The same journeys on the engines of production: PostgreSQL, MySQL (MariaDB), Redis.

use mosaic_testing::{FreshDatabase, Shape, TestAppBuilder, engine_url};
use serde_json::json;

use crate::support::{PASSWORD, User, code_for, content_user, failure, homestay_token, ok, platform};

/// Everything that touches tables, counters and codes, once through. People have names of their own in each run: a
/// shared cache keeps what earlier runs counted.
async fn journey(builder: TestAppBuilder) {
    let app = builder.start().await;
    let run = app.runtime().random_digits(8);
    let (email, mobile, phone) = (format!("ann{run}@b.com"), format!("138{run}"), format!("139{run}"));
    let user = content_user(&app, &email).await;
    let body = json!({"email": email, "password": PASSWORD, "confirmPassword": PASSWORD});
    assert_eq!(
        app.anonymous().post("/users/signup", body).await.parts(),
        (200, failure(401_003, "邮箱冲突"))
    );
    let edit = json!({"nickname": "泥鳅 👋", "birthday": "2000-02-29", "aboutMe": "hi"});
    assert_eq!(user.caller.post("/users/edit", edit).await.parts(), (200, ok()));
    assert_eq!(user.caller.get("/users/profile").await.json()["Nickname"], "泥鳅 👋");

    let token = homestay_token(&app, &mobile).await;
    let detail = app
        .anonymous()
        .with_token(&token)
        .post("/usercenter/v1/user/detail", json!({}))
        .await;
    assert_eq!(detail.json()["data"]["userInfo"]["mobile"], mobile);

    let code = code_for(&app, &phone).await;
    let codes = (0..20).map(|_| app.anonymous()).collect::<Vec<_>>();
    let tries = codes
        .iter()
        .map(|caller| caller.post("/users/login_sms", json!({"phone": phone, "code": code})));
    let replies = futures::future::join_all(tries).await;
    assert_eq!(
        replies.iter().filter(|reply| reply.json()["code"] == 0).count(),
        1,
        "one code opens once"
    );

    let refreshed = app
        .anonymous()
        .with_token(&user.refresh)
        .get("/users/refresh_token")
        .await;
    let renewed = User::of(&app.anonymous(), &refreshed);
    assert_eq!(renewed.caller.post("/users/logout", json!({})).await.status, 200);
    assert_eq!(user.caller.get("/users/profile").await.status, 401);
    app.stop().await;
}

/// Runs the journey on the engines that the variables name, in a database of its own.
async fn on(database: &str, cache: Option<&str>) {
    let Some(url) = engine_url(database) else { return };
    let mut builder = platform(Shape::Together);
    if let Some(variable) = cache {
        let Some(url) = engine_url(variable) else { return };
        builder = builder.set("cache.url", url);
    }
    let database = FreshDatabase::create(&url).await;
    journey(builder.set("database.url", database.url())).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    journey(platform(Shape::Together)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_redis() {
    on("MOSAIC_TEST_POSTGRES", Some("MOSAIC_TEST_REDIS")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    on("MOSAIC_TEST_MYSQL", None).await;
}

/// Two instances of the capabilities on one database and one Redis: a sign-out at one is seen by the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_their_engines() {
    let (Some(database), Some(cache)) = (engine_url("MOSAIC_TEST_POSTGRES"), engine_url("MOSAIC_TEST_REDIS")) else {
        return;
    };
    let database = FreshDatabase::create(&database).await;
    let keys = tempfile::tempdir().unwrap();
    let instance = || {
        platform(Shape::Together)
            .set("database.url", database.url())
            .set("cache.url", cache.clone())
            .set("identity.keys_dir", keys.path().display().to_string())
    };
    let (here, there) = (instance().start().await, instance().start().await);
    let user = content_user(&here, &format!("bob{}@b.com", here.runtime().random_digits(8))).await;
    let elsewhere = there.anonymous().with_token(&user.access);
    assert_eq!(
        elsewhere.get("/users/profile").await.status,
        200,
        "a token is good at every instance"
    );
    assert_eq!(user.caller.post("/users/logout", json!({})).await.status, 200);
    let second = std::time::Duration::from_secs(1);
    mosaic_testing::until("the sign-out has arrived", second, || async {
        elsewhere.get("/users/profile").await.status == 401
    })
    .await;
    here.stop().await;
    there.stop().await;
    database.remove().await;
}

/// A cache that is gone slows and breaks nothing that does not need it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_redis_does_not_take_sign_ins_down() {
    let app = platform(Shape::Together)
        .set("cache.url", "redis://127.0.0.1:1")
        .start()
        .await;
    let user = content_user(&app, "a@b.com").await;
    let edit = json!({"nickname": "n", "birthday": "", "aboutMe": ""});
    assert_eq!(user.caller.post("/users/edit", edit).await.parts(), (200, ok()));
    assert_eq!(user.caller.get("/users/profile").await.json()["Nickname"], "n");
    // Codes live in the cache: without it there are none, and that is said.
    let reply = app
        .anonymous()
        .post("/users/login_sms/code/send", json!({"phone": "13800138000"}))
        .await;
    assert_eq!(reply.parts(), (200, failure(5, "系统错误")));
    app.stop().await;
}
