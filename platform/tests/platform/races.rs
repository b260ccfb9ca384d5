//! Many at once: exactly one effect.

use futures::future::join_all;
use mosaic_testing::{Reply, Shape, in_every_shape};
use serde_json::json;

use crate::support::{APART, PASSWORD, User, start};

in_every_shape!(APART;
    a_hundred_sign_ups_of_one_phone_are_one_account,
    a_hundred_first_sign_ins_are_one_account
);

async fn a_hundred_sign_ups_of_one_phone_are_one_account(shape: Shape) {
    let app = start(shape).await;
    let caller = app.anonymous();
    let body = json!({"mobile": "13800138000", "password": PASSWORD});
    let replies = join_all((0..100).map(|_| caller.post("/usercenter/v1/user/register", body.clone()))).await;
    let (won, lost): (Vec<Reply>, Vec<Reply>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(won.len(), 1, "exactly one account");
    for reply in lost {
        assert_eq!(
            reply.parts(),
            (400, json!({"code": 100_001, "msg": "user has been registered"}))
        );
    }
    assert_eq!(caller.post("/usercenter/v1/user/login", body).await.status, 200);
    app.stop().await;
}

async fn a_hundred_first_sign_ins_are_one_account(shape: Shape) {
    let app = start(shape).await;
    let caller = app.anonymous();
    let body = json!({"code": "ann", "iv": "", "encryptedData": ""});
    let replies = join_all((0..100).map(|_| caller.post("/usercenter/v1/user/wxMiniAuth", body.clone()))).await;
    let mut ids = std::collections::BTreeSet::new();
    for reply in replies {
        assert_eq!(reply.status, 200, "everybody gets in: {}", reply.text);
        let token = reply.json()["data"]["accessToken"].as_str().unwrap().to_owned();
        let detail = caller
            .clone()
            .with_token(&token)
            .post("/usercenter/v1/user/detail", json!({}))
            .await;
        ids.insert(detail.json()["data"]["userInfo"]["id"].as_i64().unwrap());
    }
    assert_eq!(ids.len(), 1, "one person, one account");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_right_codes_at_once_one_opens() {
    let app = start(Shape::Together).await;
    let caller = app.anonymous();
    let code = crate::support::code_for(&app, "13800138000").await;
    let body = json!({"phone": "13800138000", "code": code});
    let replies = join_all((0..100).map(|_| caller.post("/users/login_sms", body.clone()))).await;
    let winners: Vec<_> = replies.iter().filter(|reply| reply.json()["code"] == 0).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(
        User::of(&caller, winners[0]).caller.get("/users/profile").await.status,
        200
    );
    app.stop().await;
}
