//! Bodies, parameters and paths that are not as they should be: a clear answer, no panic, no echo.

use mosaic_testing::{Reply, Shape, in_every_shape};
use reqwest::Method;
use serde_json::json;

use crate::support::{APART, PASSWORD, content_user, start};

in_every_shape!(APART;
    json_that_is_none,
    fields_that_nobody_asked_for,
    texts_with_nul,
    paths_and_queries
);

const CANARY: &str = "canary-6f1d2c";

fn assert_refused(reply: &Reply, what: &str) {
    assert!(
        (400..500).contains(&reply.status),
        "{what}: {} {}",
        reply.status,
        reply.text
    );
    assert!(!reply.text.contains(CANARY), "{what} is echoed: {}", reply.text);
    for upstream in ["serde", "expected", "panicked", "sqlx", "axum"] {
        assert!(!reply.text.contains(upstream), "{what}: {}", reply.text);
    }
}

async fn json_that_is_none(shape: Shape) {
    let app = start(shape).await;
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("depth 200", deep(200).into()),
        ("depth 100,000 is too large or too deep", deep(30_000).into()),
        ("NaN", br#"{"mobile":NaN}"#.to_vec()),
        ("infinite", br#"{"mobile":1e400}"#.to_vec()),
        ("BOM", "\u{feff}{}".into()),
        ("UTF-16", "{}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("trailing value", br#"{"mobile":"1"} {"mobile":"2"}"#.to_vec()),
        ("lone surrogate", br#"{"mobile":"\ud800"}"#.to_vec()),
        ("not UTF-8", b"{\"mobile\":\"\xff\"}".to_vec()),
        ("wrong type", format!(r#"{{"mobile":{{"a":"{CANARY}"}}}}"#).into()),
        ("number for text", br#"{"mobile":13800138000}"#.to_vec()),
        ("list", br#"["13800138000","x"]"#.to_vec()),
        ("twice", br#"{"mobile":"1","mobile":"2","password":"x"}"#.to_vec()),
        ("text", format!("\"{CANARY}\"").into()),
    ];
    for path in ["/usercenter/v1/user/register", "/users/signup"] {
        for (what, body) in &bodies {
            let reply = app.anonymous().post_text(path, "application/json", body.clone()).await;
            assert_refused(&reply, what);
            assert_eq!(reply.status, 400, "{what}: both styles say 400");
        }
        let large = format!(r#"{{"mobile":"{}"}}"#, "x".repeat(3 << 20));
        let reply = app.anonymous().post_text(path, "application/json", large).await;
        assert_eq!(reply.status, 413);
        let chunks = futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>("x".repeat(4096))));
        let reply = app
            .anonymous()
            .post_text(path, "application/json", reqwest::Body::wrap_stream(chunks))
            .await;
        assert_eq!(reply.status, 413, "a body whose length is not announced");
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            let reply = app.anonymous().post_text(path, content_type, "{}").await;
            assert_eq!(reply.status, 415, "{content_type}");
        }
        let request = app
            .anonymous()
            .request(Method::POST, path)
            .header("content-type", "application/json");
        let reply = app
            .anonymous()
            .send(request.header("content-encoding", "gzip").body("x"))
            .await;
        assert_eq!(reply.status, 415);
    }
    app.stop().await;
}

async fn fields_that_nobody_asked_for(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    for extra in ["isAdmin", "is_admin", "userId", "accountId", "status"] {
        let mut body = json!({"nickname": "mallory", "birthday": "2000-01-01", "aboutMe": ""});
        body[extra] = json!(1);
        let reply = user.caller.post("/users/edit", body).await;
        assert_refused(&reply, extra);
        let mut body = json!({"mobile": "13800138000", "password": PASSWORD});
        body[extra] = json!(1);
        assert_refused(&app.anonymous().post("/usercenter/v1/user/register", body).await, extra);
    }
    assert_ne!(
        user.caller.get("/users/profile").await.json()["Nickname"],
        "mallory",
        "nothing of it happened"
    );
    app.stop().await;
}

async fn texts_with_nul(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    let body = json!({"nickname": "a\0b", "birthday": "2000-01-01", "aboutMe": ""});
    let reply = user.caller.post("/users/edit", body).await;
    assert_eq!(
        (reply.status, &reply.json()["code"]),
        (200, &json!(4)),
        "{}",
        reply.text
    );
    for field in ["mobile", "password"] {
        let mut body = json!({"mobile": "13800138000", "password": PASSWORD});
        body[field] = json!(format!("{}\0", body[field].as_str().unwrap()));
        let reply = app.anonymous().post("/usercenter/v1/user/register", body).await;
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (400, &json!(100_002)),
            "{}",
            reply.text
        );
    }
    app.stop().await;
}

async fn paths_and_queries(shape: Shape) {
    let app = start(shape).await;
    let many = (0..8_000).map(|i| format!("a{i}=1")).collect::<Vec<_>>().join("&");
    for query in [
        "code=a&code=b&state=s",
        "code=%ff&state=s",
        "code=a&state=%c3%28",
        &many,
    ] {
        let reply = app.anonymous().get(&format!("/oauth2/wechat/callback?{query}")).await;
        assert!(
            matches!(reply.status, 400 | 414 | 431),
            "{query:.40}: {} {}",
            reply.status,
            reply.text
        );
    }
    for path in [
        "/..%2f..%2fetc%2fpasswd",
        "/users/%2e%2e/%2e%2e/etc/passwd",
        "/users/..%252fprofile",
        "/users/%00",
        "/CON",
        "/users/profile/",
        "//users/profile",
        "/%ff",
    ] {
        let reply = app.anonymous().get(path).await;
        assert!(
            matches!(reply.status, 400 | 404),
            "{path}: {} {}",
            reply.status,
            reply.text
        );
        assert!(!reply.text.contains("root:"), "{path}");
    }
    for (method, path) in [
        ("DELETE", "/users/login"),
        ("GET", "/users/login"),
        ("TRACE", "/users/login"),
        ("PUT", "/users/profile"),
    ] {
        let caller = app.anonymous();
        let reply = caller.send(caller.request(method.parse().unwrap(), path)).await;
        assert_eq!(reply.status, 405, "{method} {path}");
    }
    app.stop().await;
}
