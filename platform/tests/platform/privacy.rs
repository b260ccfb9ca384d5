//! What nobody may learn: whether somebody exists, and what people trusted us with.

use mosaic_testing::{Shape, TestApp};
use serde_json::json;

use crate::support::{User, content_user, newest_code, platform, start};

/// Known and unknown users: same status, same body, same work. The hash is all that takes time, and times depend on the machine, so
/// hashes are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_does_not_tell_whether_the_user_exists() {
    let app = start(Shape::Together).await;
    content_user(&app, "known@b.com").await;
    for email in ["known@b.com", "unknown@b.com", "known@b.com", "unknown@b.com"] {
        let before = hashes(&app).await;
        let reply = app
            .anonymous()
            .post("/users/login", json!({"email": email, "password": "wrong#world123"}))
            .await;
        assert_eq!(
            reply.parts(),
            (200, json!({"code": 401_002, "msg": "用户名或者密码错误", "data": null}))
        );
        assert_eq!(hashes(&app).await - before, 1, "{email}");
    }
    app.stop().await;
}

/// Returns how many passwords were hashed so far.
async fn hashes(app: &TestApp) -> u64 {
    let metrics = app.admin("/metrics").await.text;
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("mosaic_password_hashes_total "));
    counted.expect("passwords were hashed").trim().parse().unwrap()
}

/// Canaries in every secret field that a client can fill; then everything that was written is searched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_reaches_a_log_a_metric_or_an_error() {
    let app = platform(Shape::Together).set("edge.log_bodies", "true").start().await;
    let (mut written, user) = passwords(&app).await;
    let code = codes(&app, &mut written).await;
    written.push(
        user.caller
            .get("/users/profile?token=Canary1query")
            .await
            .status
            .to_string(),
    );
    written.push(user.caller.post("/users/logout", json!({})).await.text);
    written.push(app.admin("/metrics").await.text);
    let log = mosaic_testing::log();
    assert!(
        log.contains("\"http.route\":\"/users/login\"") && log.contains("***"),
        "bodies are logged, masked"
    );
    // Personal data and codes are no secrets to their owner, but nothing for a log.
    for personal in [EMAIL, "13800138000", "13800138001", &format!("\"{code}\"")] {
        assert_absent(&log, personal);
    }
    written.push(log);
    for text in &written {
        for secret in ["Canary1", user.access.as_str(), user.refresh.as_str()] {
            assert_absent(text, secret);
        }
    }
    app.stop().await;
}

const EMAIL: &str = "canary-mail@example.com";

fn canary(name: &str) -> String {
    format!("Canary1#{name}")
}

/// Fills every password field, rightly and wrongly; returns what was answered and who is signed in.
async fn passwords(app: &TestApp) -> (Vec<String>, User) {
    let anonymous = app.anonymous();
    let password = canary("password");
    let sign_up = json!({"email": EMAIL, "password": password, "confirmPassword": password});
    let mut written = Vec::new();
    for _ in 0..2 {
        written.push(anonymous.post("/users/signup", sign_up.clone()).await.text);
    }
    let login = anonymous
        .post("/users/login", json!({"email": EMAIL, "password": password}))
        .await;
    let wrong = canary("wrong-password");
    for password in [json!(wrong), json!({"x": wrong})] {
        written.push(
            anonymous
                .post("/users/login", json!({"email": EMAIL, "password": password}))
                .await
                .text,
        );
    }
    let register = json!({"mobile": "13800138000", "password": canary("homestay")});
    anonymous.post("/usercenter/v1/user/register", register).await;
    (written, User::of(&anonymous, &login))
}

/// Fills every code field; returns a code that was sent.
async fn codes(app: &TestApp, written: &mut Vec<String>) -> String {
    let anonymous = app.anonymous();
    anonymous
        .post("/users/login_sms/code/send", json!({"phone": "13800138001"}))
        .await;
    let code = newest_code(app, "13800138001").await;
    written.push(
        anonymous
            .post(
                "/users/login_sms",
                json!({"phone": "13800138001", "code": canary("sms")}),
            )
            .await
            .text,
    );
    let mini = json!({"code": canary("wechat"), "iv": canary("iv"), "encryptedData": canary("data")});
    written.push(anonymous.post("/usercenter/v1/user/wxMiniAuth", mini).await.text);
    written.push(
        anonymous
            .get("/oauth2/wechat/callback?code=Canary1oauth&state=x")
            .await
            .text,
    );
    code
}

#[track_caller]
fn assert_absent(text: &str, secret: &str) {
    let at = text.find(secret);
    assert!(at.is_none(), "{secret} in …{}…", around(text, at));
}

fn around(text: &str, at: Option<usize>) -> String {
    let at = at.unwrap_or(0);
    text.chars()
        .skip(text[..at].chars().count().saturating_sub(200))
        .take(500)
        .collect()
}

#[tokio::test]
async fn a_log_line_cannot_be_forged() {
    let app = start(Shape::Together).await;
    let n_before = mosaic_testing::log().lines().count();
    let body = json!({"email": "a\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\u{1b}[31m", "password": "x"});
    app.anonymous().post("/users/login", body).await;
    let caller = app.anonymous().with_header("user-agent", "x\u{9b}31m");
    caller
        .post("/users/login", json!({"email": "x".repeat(50_000), "password": "x"}))
        .await;
    for line in mosaic_testing::log().lines().skip(n_before) {
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON line: {line}"));
        assert_ne!(parsed["message"], "forged");
        assert!(line.len() < 8 * 1024 && !line.contains('\u{1b}'), "{line:.200}");
    }
    app.stop().await;
}
