//! What the tests share: shapes, people, their doors.

use mosaic_testing::{Caller, Reply, Shape, TestApp, TestAppBuilder};
use serde_json::{Value, json};

/// Products and the public port in one process, capabilities in two others: who asks comes before whom he asks.
pub(crate) const APART: Shape = Shape::Apart(&[
    &["edge", "homestay", "content"],
    &[
        "interaction",
        "comments",
        "relations",
        "ranking",
        "feed",
        "search",
        "rewards",
    ],
    &["identity", "users", "messaging", "blobs", "payments", "ledger"],
]);

/// The platform with caps that tests of other things do not run into.
pub(crate) fn platform(shape: Shape) -> TestAppBuilder {
    TestApp::builder(platform::app())
        .shape(shape)
        .set("identity.codes_per_ip_hour", "100000")
}

pub(crate) async fn start(shape: Shape) -> TestApp {
    platform(shape).start().await
}

pub(crate) const PASSWORD: &str = "hello#world123";

/// Signs up and in by the content door.
pub(crate) async fn content_user(app: &TestApp, email: &str) -> User {
    let anonymous = app.anonymous();
    let body = json!({"email": email, "password": PASSWORD, "confirmPassword": PASSWORD});
    assert_eq!(anonymous.post("/users/signup", body).await.parts(), (200, ok()));
    content_login(&anonymous, email).await
}

pub(crate) async fn content_login(caller: &Caller, email: &str) -> User {
    let reply = caller
        .post("/users/login", json!({"email": email, "password": PASSWORD}))
        .await;
    assert_eq!(reply.parts(), (200, ok()));
    User::of(caller, &reply)
}

/// `{code: 0, msg: "OK", data: null}`
pub(crate) fn ok() -> Value {
    json!({"code": 0, "msg": "OK", "data": null})
}

/// `{code, msg, data: null}`
pub(crate) fn failure(code: i32, msg: &str) -> Value {
    json!({"code": code, "msg": msg, "data": null})
}

/// Somebody who is signed in.
pub(crate) struct User {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) caller: Caller,
}

impl User {
    pub(crate) fn of(caller: &Caller, reply: &Reply) -> Self {
        let (access, refresh) = (
            reply.header("x-jwt-token").to_owned(),
            reply.header("x-refresh-token").to_owned(),
        );
        assert!(!access.is_empty() && !refresh.is_empty(), "{reply:?}");
        let caller = caller.clone().with_token(&access);
        Self {
            access,
            refresh,
            caller,
        }
    }
}

/// Registers by the homestay door and returns the access token.
pub(crate) async fn homestay_token(app: &TestApp, mobile: &str) -> String {
    let body = json!({"mobile": mobile, "password": PASSWORD});
    let reply = app.anonymous().post("/usercenter/v1/user/register", body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["data"]["accessToken"]
        .as_str()
        .expect("a token")
        .to_owned()
}

/// Asks for a sign-in code and reads it from the outbox.
pub(crate) async fn code_for(app: &TestApp, phone: &str) -> String {
    let reply = app
        .anonymous()
        .post("/users/login_sms/code/send", json!({"phone": phone}))
        .await;
    assert_eq!(
        reply.parts(),
        (200, json!({"code": 0, "msg": "发送成功", "data": null}))
    );
    newest_code(app, phone).await
}

pub(crate) async fn newest_code(app: &TestApp, phone: &str) -> String {
    let sent = app.anonymous().get(&format!("/dev/outbox?to={phone}")).await.json();
    let mut codes = sent
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|message| message["args"]["code"].as_str());
    let code = codes.next().expect("a code in the outbox").to_owned();
    assert_eq!(code.len(), 6);
    code
}
