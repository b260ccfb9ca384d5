//! Guessing and messaging: what gets slow, what is capped, what tells nothing.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_api::messaging::v1::{Channel, MessagingClient, SendRequest};
use mosaic_testing::{Shape, TestApp};
use serde_json::json;

use crate::support::{PASSWORD, code_for, content_user, failure, homestay_token, newest_code, platform, start};

/// The platform with a clock that stands still until it is told to move.
async fn still() -> (Arc<ManualClock>, TestApp) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
    (clock, platform(Shape::Together).runtime(runtime).start().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_passwords_for_one_account_are_a_handful_of_tries() {
    let (clock, app) = still().await;
    homestay_token(&app, "13800138000").await;
    let login = async |password: String| {
        let body = json!({"mobile": "13800138000", "password": password});
        app.anonymous().post("/usercenter/v1/user/login", body).await
    };
    let mut statuses = [0; 2];
    for i in 0..1000 {
        let reply = login(format!("guess number {i}")).await;
        let is_closed = reply.status == 429;
        assert!(is_closed || reply.status == 400, "{}", reply.text);
        assert!(
            !is_closed || reply.header("retry-after").parse::<u64>().unwrap() >= 30,
            "{reply:?}"
        );
        statuses[usize::from(is_closed)] += 1;
    }
    assert_eq!(statuses, [5, 995]);
    assert_eq!(
        login(PASSWORD.into()).await.status,
        429,
        "while closed, a right password tells nothing"
    );
    clock.advance(Duration::from_secs(31));
    assert_eq!(login("one more".into()).await.status, 400);
    let wait: u64 = login(PASSWORD.into()).await.header("retry-after").parse().unwrap();
    assert!((50..=60).contains(&wait), "the wait has doubled: {wait}");
    clock.advance(Duration::from_secs(61));
    assert_eq!(login(PASSWORD.into()).await.status, 200);
    assert_eq!(
        login("wrong again".into()).await.status,
        400,
        "a success starts the count anew"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_password_for_a_thousand_accounts_closes_the_address() {
    let app = platform(Shape::Together)
        .set("identity.failures_per_ip", "50")
        .start()
        .await;
    let mut n_tried = 0;
    for i in 0..1000 {
        let body = json!({"email": format!("user{i}@b.com"), "password": PASSWORD});
        let reply = app.anonymous().post("/users/login", body).await;
        if reply.status == 429 {
            assert!(!reply.header("retry-after").is_empty());
            break;
        }
        n_tried += 1;
    }
    assert_eq!(n_tried, 50);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_and_known_users_are_closed_alike() {
    let (_, app) = still().await;
    content_user(&app, "known@b.com").await;
    for email in ["known@b.com", "unknown@b.com"] {
        let mut replies = Vec::new();
        for _ in 0..7 {
            let reply = app
                .anonymous()
                .post("/users/login", json!({"email": email, "password": "wrong"}))
                .await;
            replies.push((reply.status, reply.json()["code"].clone()));
        }
        let want: Vec<_> = (0..7)
            .map(|i| if i < 5 { (200, json!(401_002)) } else { (429, json!(4)) })
            .collect();
        assert_eq!(replies, want, "{email}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_for_one_number_thrice_and_ten_minutes() {
    let (clock, app) = still().await;
    let login = async |phone: &str, code: &str| {
        app.anonymous()
            .post("/users/login_sms", json!({"phone": phone, "code": code}))
            .await
            .json()["code"]
            .clone()
    };
    let code = code_for(&app, "13800138000").await;
    let wrong = if code == "111111" { "222222" } else { "111111" };
    for _ in 0..3 {
        assert_eq!(login("13800138000", wrong).await, 4);
    }
    assert_eq!(login("13800138000", &code).await, 4, "after three tries it is dead");
    clock.advance(Duration::from_secs(61));
    let code = code_for(&app, "13800138000").await;
    clock.advance(Duration::from_secs(599));
    assert_eq!(login("13800138000", &code).await, 0);
    clock.advance(Duration::from_secs(61));
    let code = code_for(&app, "13800138000").await;
    clock.advance(Duration::from_secs(601));
    assert_eq!(login("13800138000", &code).await, 4, "after ten minutes it is over");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_number_gets_one_code_a_minute_and_ten_a_day_however_it_is_spelled() {
    let (clock, app) = still().await;
    let send = async |phone: &str| {
        app.anonymous()
            .post("/users/login_sms/code/send", json!({"phone": phone}))
            .await
            .json()
    };
    let spellings = [
        "13800138000",
        "+8613800138000",
        "0086 138 0013 8000",
        "(138)0013-8000",
        "１３８００１３８０００",
    ];
    let mut n_sent = 0;
    for i in 0..100 {
        let reply = send(spellings[i % 5]).await;
        n_sent += usize::from(reply["code"] == 0);
        assert!(
            reply["code"] == 0 || reply == failure(4, "短信发送太频繁，请稍后再试"),
            "{reply}"
        );
        if i % 2 == 1 {
            clock.advance(Duration::from_secs(61));
        }
    }
    assert_eq!(n_sent, 10);
    let sent = app.anonymous().get("/dev/outbox?to=13800138000").await.json();
    assert_eq!(sent.as_array().unwrap().len(), 10);
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(send("13800138000").await["code"], 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_and_all_together_are_capped_and_other_countries_hear_nothing() {
    let send = async |app: &TestApp, phone: String| {
        app.anonymous()
            .post("/users/login_sms/code/send", json!({"phone": phone}))
            .await
            .json()["code"]
            .clone()
    };
    for (key, cap) in [("identity.codes_per_ip_hour", 15), ("identity.codes_per_hour", 7)] {
        let app = platform(Shape::Together).set(key, cap.to_string()).start().await;
        let mut n_sent = 0;
        for i in 0..40 {
            // An address in a header is nobody's address.
            let caller = app.anonymous().with_header("x-forwarded-for", &format!("9.9.9.{i}"));
            let body = json!({"phone": format!("138001380{i:02}")});
            n_sent += i32::from(caller.post("/users/login_sms/code/send", body).await.json()["code"] == 0);
        }
        assert_eq!(n_sent, cap, "{key}");
        app.stop().await;
    }
    let app = start(Shape::Together).await;
    assert_eq!(send(&app, "+44 7911 123456".into()).await, 0, "the same answer");
    assert_eq!(
        app.anonymous().get("/dev/outbox").await.json(),
        json!([]),
        "and no message"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_is_not_flooded_whoever_asks() {
    let app = platform(Shape::Together)
        .set("messaging.per_receiver_day", "5")
        .start()
        .await;
    let messaging: MessagingClient = app.client("test");
    let cx = mosaic::Context::new(app.runtime());
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        let request = SendRequest {
            channel: Channel::Email.into(),
            to: "victim@b.com".into(),
            template: "invite".into(),
            args: Default::default(),
            good_for_s: 0,
        };
        outcomes.push(
            messaging
                .send(&cx, request)
                .await
                .map_err(|error| error.reason().to_owned()),
        );
    }
    assert!(outcomes[..5].iter().all(Result::is_ok));
    assert!(
        outcomes[5..]
            .iter()
            .all(|outcome| outcome.as_ref().is_err_and(|reason| reason == "RECEIVER_LIMIT"))
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_that_are_refused() {
    let app = start(Shape::Together).await;
    let register = async |i: usize, password: &str| {
        let body = json!({"mobile": format!("138001390{i:02}"), "password": password});
        app.anonymous().post("/usercenter/v1/user/register", body).await
    };
    let refused = [
        "a7#kq2p",
        "password",
        "12345678",
        "iloveyou",
        "qwertyuiop",
        "13800139005",
        "nul\0inside",
        &"x".repeat(129),
    ];
    for (i, password) in refused.iter().enumerate() {
        let reply = register(i, password).await;
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (400, &json!(100_002)),
            "{password}: {}",
            reply.text
        );
    }
    let (long, emoji) = ("kz4 ".repeat(16), "🔑🏠🚲🌊🍎🎈🐟🌙");
    for (i, password) in ["a7#kq2pz", long.as_str(), emoji, &"kq7z".repeat(32)]
        .iter()
        .enumerate()
    {
        assert_eq!(register(20 + i, password).await.status, 200, "{password}");
    }
    // Not cut: all but the last character is another password.
    let body = json!({"mobile": "13800139021", "password": &long[..63]});
    assert_eq!(
        app.anonymous().post("/usercenter/v1/user/login", body).await.status,
        400
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_the_account_that_has_the_number() {
    let app = start(Shape::Together).await;
    let id = {
        let token = homestay_token(&app, "13800138000").await;
        let detail = app
            .anonymous()
            .with_token(&token)
            .post("/usercenter/v1/user/detail", json!({}))
            .await;
        detail.json()["data"]["userInfo"]["id"].clone()
    };
    app.anonymous()
        .post("/users/login_sms/code/send", json!({"phone": "13800138000"}))
        .await;
    let code = newest_code(&app, "13800138000").await;
    let reply = app
        .anonymous()
        .post("/users/login_sms", json!({"phone": "13800138000", "code": code}))
        .await;
    let user = crate::support::User::of(&app.anonymous(), &reply);
    let detail = user.caller.post("/usercenter/v1/user/detail", json!({})).await;
    assert_eq!(
        detail.json()["data"]["userInfo"]["id"],
        id,
        "one account, two doors, two products"
    );
    app.stop().await;
}
