//! The accounts of the content product.

use mosaic_testing::{Reply, Shape, in_every_shape};
use serde_json::json;

use crate::support::{APART, PASSWORD, User, code_for, content_login, content_user, failure, ok, start};

in_every_shape!(APART;
    sign_up_and_its_failures,
    login_profile_edit,
    logout_ends_the_session_everywhere,
    refresh_rotates,
    codes_by_sms,
    wechat_scan,
);

async fn sign_up_and_its_failures(shape: Shape) {
    let app = start(shape).await;
    content_user(&app, "a@b.com").await;
    let sign_up = async |email: &str, password: &str, confirm: &str| {
        let body = json!({"email": email, "password": password, "confirmPassword": confirm});
        app.anonymous().post("/users/signup", body).await.parts()
    };
    assert_eq!(
        sign_up("A@B.com", PASSWORD, PASSWORD).await,
        (200, failure(401_003, "邮箱冲突"))
    );
    assert_eq!(
        sign_up("a@b", PASSWORD, PASSWORD).await,
        (200, failure(401_001, "非法邮箱格式"))
    );
    assert_eq!(
        sign_up("c@b.com", PASSWORD, "other").await,
        (200, failure(401_001, "两次输入的密码不相等"))
    );
    let weak = (200, failure(401_001, "密码必须包含字母、数字、特殊字符"));
    assert_eq!(sign_up("c@b.com", "helloworld", "helloworld").await, weak);
    assert_eq!(
        app.anonymous()
            .post_text("/users/signup", "application/json", "{")
            .await
            .status,
        400
    );
    app.stop().await;
}

async fn login_profile_edit(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    for (email, password) in [("a@b.com", "wrong"), ("nobody@b.com", PASSWORD), ("", "")] {
        let reply = app
            .anonymous()
            .post("/users/login", json!({"email": email, "password": password}))
            .await;
        assert_eq!(reply.parts(), (200, failure(401_002, "用户名或者密码错误")), "{email}");
    }
    let edit = async |nickname: &str, birthday: &str, about: &str| {
        let body = json!({"nickname": nickname, "birthday": birthday, "aboutMe": about});
        user.caller.post("/users/edit", body).await.parts()
    };
    // Cached before the change, fresh after it.
    let before = user.caller.get("/users/profile").await.json();
    assert!(before["Nickname"].as_str().unwrap().starts_with("用户"), "{before}");
    assert_eq!(edit("泥鳅", "2000-02-29", "hi 👋").await, (200, ok()));
    let want =
        json!({"Email": "a@b.com", "Phone": "", "Nickname": "泥鳅", "Birthday": "2000-02-29", "AboutMe": "hi 👋"});
    let mut both = want.clone();
    both["code"] = json!(0);
    both["msg"] = json!("OK");
    both["data"] = want;
    assert_eq!(user.caller.get("/users/profile").await.parts(), (200, both));
    assert_eq!(edit("", "2000-01-01", "").await, (200, failure(4, "昵称不能为空")));
    assert_eq!(edit("a", "2001-02-29", "").await, (200, failure(4, "生日格式不对")));
    assert_eq!(edit("a", "yesterday", "").await, (200, failure(4, "生日格式不对")));
    assert_eq!(
        edit("a", "2000-01-01", &"x".repeat(1025)).await,
        (200, failure(4, "关于我过长"))
    );
    app.stop().await;
}

async fn logout_ends_the_session_everywhere(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    let other = content_login(&app.anonymous(), "a@b.com").await;
    let reply = user.caller.post("/users/logout", json!({})).await;
    assert_eq!(
        reply.parts(),
        (200, json!({"code": 0, "msg": "退出登录成功", "data": null}))
    );
    for header in ["x-jwt-token", "x-refresh-token"] {
        assert!(
            reply.headers.contains_key(header) && reply.header(header).is_empty(),
            "{header} is cleared"
        );
    }
    let second = std::time::Duration::from_secs(1);
    mosaic_testing::until("the token is void", second, || async {
        user.caller.get("/users/profile").await.status == 401
    })
    .await;
    let refresh = app
        .anonymous()
        .with_token(&user.refresh)
        .get("/users/refresh_token")
        .await;
    assert_eq!((refresh.status, refresh.text.as_str()), (401, ""));
    assert_eq!(
        other.caller.get("/users/profile").await.status,
        200,
        "another session stays"
    );
    app.stop().await;
}

async fn refresh_rotates(shape: Shape) {
    let app = start(shape).await;
    let user = content_user(&app, "a@b.com").await;
    let refresh = async |token: &str| app.anonymous().with_token(token).get("/users/refresh_token").await;
    let first = refresh(&user.refresh).await;
    assert_eq!(first.parts(), (200, ok()));
    let renewed = User::of(&app.anonymous(), &first);
    assert_eq!(renewed.caller.get("/users/profile").await.status, 200);
    let by_post = app
        .anonymous()
        .with_token(&renewed.refresh)
        .post("/users/refresh_token", json!({}))
        .await;
    assert_eq!(by_post.parts(), (200, ok()));
    for bad in [user.access.as_str(), "111", "a.b.c", "", &"x".repeat(10_000)] {
        assert_eq!(refresh(bad).await.status, 401, "{bad:.20}");
    }
    assert_eq!(app.anonymous().get("/users/refresh_token").await.status, 401);
    app.stop().await;
}

async fn codes_by_sms(shape: Shape) {
    let app = start(shape).await;
    let anonymous = app.anonymous();
    let code = code_for(&app, "13800138000").await;
    let send = async |phone: &str| {
        anonymous
            .post("/users/login_sms/code/send", json!({"phone": phone}))
            .await
            .parts()
    };
    assert_eq!(
        send("13800138000").await,
        (200, failure(4, "短信发送太频繁，请稍后再试"))
    );
    assert_eq!(send("").await, (200, failure(4, "请输入手机号码")));
    assert_eq!(send("12").await, (200, failure(4, "请输入手机号码")));
    let login = async |phone: &str, code: &str| {
        anonymous
            .post("/users/login_sms", json!({"phone": phone, "code": code}))
            .await
    };
    let wrong = (200, failure(4, "验证码不对，请重新输入"));
    let other_code = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(login("13800138000", other_code).await.parts(), wrong);
    assert_eq!(
        login("13800138001", &code).await.parts(),
        wrong,
        "a code is for one number"
    );
    let reply = login("+86 138-0013-8000", &code).await;
    assert_eq!(
        reply.parts(),
        (200, json!({"code": 0, "msg": "登录成功", "data": null}))
    );
    let user = User::of(&anonymous, &reply);
    assert_eq!(user.caller.get("/users/profile").await.json()["Phone"], "13800138000");
    assert_eq!(login("13800138000", &code).await.parts(), wrong, "a code is used once");
    app.stop().await;
}

async fn wechat_scan(shape: Shape) {
    let app = start(shape).await;
    let begin = app
        .anonymous()
        .with_header("host", "evil.test")
        .get("/oauth2/wechat/authurl")
        .await;
    let url = begin.json()["data"].as_str().unwrap().to_owned();
    for part in [
        "https://open.weixin.qq.com/connect/qrconnect?appid=",
        "response_type=code",
        "scope=snsapi_login",
    ] {
        assert!(url.contains(part), "{url}");
    }
    assert!(
        url.contains("redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Foauth2%2Fwechat%2Fcallback"),
        "{url}"
    );
    let cookie = begin.header("set-cookie").to_owned();
    for part in ["jwt-state=", "HttpOnly", "Max-Age=600", "Path=/oauth2/wechat/callback"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    let state = url.split("state=").nth(1).unwrap().split('#').next().unwrap();
    let callback = async |query: String, cookie: &str| -> Reply {
        let caller = app.anonymous().with_header("cookie", cookie);
        caller.get(&format!("/oauth2/wechat/callback?{query}")).await
    };
    let user = callback(format!("code=ann&state={state}"), cookie).await;
    assert_eq!(user.parts(), (200, ok()));
    assert_eq!(
        User::of(&app.anonymous(), &user)
            .caller
            .get("/users/profile")
            .await
            .status,
        200
    );
    let illegal = (200, failure(4, "非法请求"));
    assert_eq!(
        callback(format!("code=ann&state={state}"), "other=1").await.parts(),
        illegal
    );
    assert_eq!(callback("code=ann&state=guessed".into(), cookie).await.parts(), illegal);
    assert_eq!(callback("code=ann".into(), cookie).await.parts(), illegal);
    let forged = format!("{cookie}x");
    assert_eq!(
        callback(format!("code=ann&state={state}"), &forged).await.parts(),
        illegal
    );
    app.stop().await;
}

#[tokio::test]
async fn cookies_are_secure_where_connections_are() {
    for (is_secure, suffix) in [("true", "; HttpOnly; Secure"), ("false", "; HttpOnly")] {
        let app = crate::support::platform(Shape::Together)
            .set("edge.secure_cookies", is_secure)
            .start()
            .await;
        let cookie = app
            .anonymous()
            .get("/oauth2/wechat/authurl")
            .await
            .header("set-cookie")
            .to_owned();
        assert!(cookie.ends_with(suffix) && cookie.contains("SameSite=Lax"), "{cookie}");
        app.stop().await;
    }
}
