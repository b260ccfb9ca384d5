//! The accounts of the homestay product.

use mosaic_testing::{Shape, in_every_shape};
use serde_json::json;

use crate::support::{APART, PASSWORD, homestay_token, start};

in_every_shape!(APART; register_login_detail, failures_in_the_clients_words, mini_program);

async fn register_login_detail(shape: Shape) {
    let app = start(shape).await;
    let now = app.runtime().now().as_secs();
    let credentials = json!({"mobile": "13800138000", "password": PASSWORD});
    let registered = app
        .anonymous()
        .post("/usercenter/v1/user/register", credentials.clone())
        .await;
    let body = registered.json();
    assert_eq!(
        (registered.status, &body["code"], &body["msg"]),
        (200, &json!(200), &json!("OK"))
    );
    let expire = body["data"]["accessExpire"].as_i64().unwrap() - now;
    let renew = body["data"]["refreshAfter"].as_i64().unwrap() - now;
    assert!(
        (1795..=1805).contains(&expire) && (895..=905).contains(&renew),
        "{body}"
    );

    let login = app.anonymous().post("/usercenter/v1/user/login", credentials).await;
    let token = login.json()["data"]["accessToken"].as_str().unwrap().to_owned();
    let detail = app
        .anonymous()
        .with_token(&token)
        .post("/usercenter/v1/user/detail", json!({}))
        .await;
    let user = &detail.json()["data"]["userInfo"];
    assert_eq!(
        (detail.status, &user["mobile"], &user["sex"]),
        (200, &json!("13800138000"), &json!(0))
    );
    assert!(user["id"].as_i64().unwrap() > 0 && user["nickname"].as_str().unwrap().starts_with("用户"));
    let names: Vec<_> = user.as_object().unwrap().keys().collect();
    assert_eq!(names, ["avatar", "id", "info", "mobile", "nickname", "sex"]);
    assert_eq!(detail.header("cache-control"), "no-store");
    app.stop().await;
}

async fn failures_in_the_clients_words(shape: Shape) {
    let app = start(shape).await;
    homestay_token(&app, "13800138000").await;
    let post = async |path: &str, mobile: &str, password: &str| {
        let path = format!("/usercenter/v1/user/{path}");
        app.anonymous()
            .post(&path, json!({"mobile": mobile, "password": password}))
            .await
            .parts()
    };
    let general = |msg: &str| (400, json!({"code": 100_001, "msg": msg}));
    assert_eq!(
        post("register", "+86 138 0013 8000", PASSWORD).await,
        general("user has been registered")
    );
    assert_eq!(post("login", "13800138001", PASSWORD).await, general("用户不存在"));
    assert_eq!(
        post("login", "13800138000", "wrong password").await,
        general("账号或密码不正确")
    );
    for (mobile, password) in [
        ("13800138002", "short"),
        ("13800138002", "password"),
        ("12", PASSWORD),
        ("", PASSWORD),
    ] {
        let (status, body) = post("register", mobile, password).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!(100_002)),
            "{mobile} {password}: {body}"
        );
        assert!(body["msg"].as_str().unwrap().starts_with("参数错误 ,"), "{body}");
    }
    let nobody = app.anonymous().post("/usercenter/v1/user/detail", json!({})).await;
    assert_eq!(
        nobody.parts(),
        (401, json!({"code": 100_003, "msg": "token失效，请重新登陆"}))
    );
    app.stop().await;
}

async fn mini_program(shape: Shape) {
    let app = start(shape).await;
    let sign_in = async |code: &str| {
        let body = json!({"code": code, "iv": "", "encryptedData": ""});
        app.anonymous().post("/usercenter/v1/user/wxMiniAuth", body).await
    };
    let id = async |reply: mosaic_testing::Reply| {
        assert_eq!(reply.status, 200, "{}", reply.text);
        let token = reply.json()["data"]["accessToken"].as_str().unwrap().to_owned();
        let detail = app
            .anonymous()
            .with_token(&token)
            .post("/usercenter/v1/user/detail", json!({}))
            .await;
        detail.json()["data"]["userInfo"]["id"].as_i64().unwrap()
    };
    let (ann, again, bob) = (
        id(sign_in("ann").await).await,
        id(sign_in("ann").await).await,
        id(sign_in("bob").await).await,
    );
    assert_eq!(ann, again, "one code of the simulator is one person");
    assert_ne!(ann, bob);
    assert_eq!(
        sign_in("refused").await.parts(),
        (400, json!({"code": 100_001, "msg": "微信授权失败"}))
    );
    let garbage = json!({"code": "ann", "iv": "AAAA", "encryptedData": "%%%"});
    assert_eq!(
        app.anonymous()
            .post("/usercenter/v1/user/wxMiniAuth", garbage)
            .await
            .status,
        400
    );
    app.stop().await;
}
