//! One suite over the simulator and over the real protocol, whose far end is the simulator behind HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use cbc::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use mosaic::{Code, Runtime};
use serde_json::{Value, json};

use super::*;

fn cx() -> Context {
    Context::new(&Runtime::system())
}

fn config(api: &str) -> IdentityConfig {
    let layers = mosaic::config::Layers::default().set("identity.wechat_api", api);
    layers.settings().read::<IdentityConfig>().unwrap()
}

type Params = Query<HashMap<String, String>>;

async fn token(Query(params): Params) -> String {
    let simulated = Simulator.exchange_code(&cx(), &params["code"]).await;
    let answer = |person: Person| json!({"access_token": "t", "openid": person.open_id, "unionid": person.union_id});
    reply(&params, simulated.map(answer)).to_string()
}

async fn session(Query(params): Params) -> String {
    let simulated = Simulator.code_to_session(&cx(), &params["js_code"]).await;
    let answer = |session: MiniSession| json!({"openid": session.open_id, "session_key": session.session_key.expose(), "unionid": session.union_id});
    reply(&params, simulated.map(answer)).to_string()
}

fn reply(params: &HashMap<String, String>, simulated: Result<Value>) -> Value {
    match simulated {
        _ if params["secret"] != "s3cret" => json!({"errcode": 40_125, "errmsg": "invalid appsecret"}),
        Ok(answer) => answer,
        Err(_) => json!({"errcode": 40_029, "errmsg": "invalid code"}),
    }
}

/// Serves a WeChat; the process ends with the test.
async fn serve(group: &mosaic::TaskGroup, router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    group.spawn("wechat", async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

fn group() -> mosaic::TaskGroup {
    mosaic::TaskGroup::new(|panic| panic!("{panic:?}"))
}

async fn contract(wechat: Arc<dyn Wechat>) {
    let (ann, again, bob) = (
        wechat.exchange_code(&cx(), "ann").await.unwrap(),
        wechat.exchange_code(&cx(), "ann").await.unwrap(),
        wechat.exchange_code(&cx(), "bob").await.unwrap(),
    );
    assert_eq!((&ann.open_id, &ann.union_id), (&again.open_id, &again.union_id));
    assert_ne!(ann.open_id, bob.open_id);
    let mini = wechat.code_to_session(&cx(), "ann").await.unwrap();
    assert_eq!(mini.union_id, ann.union_id, "one person in both doors");
    assert_ne!(mini.open_id, ann.open_id);
    for refused in [
        wechat.exchange_code(&cx(), "refused").await.err(),
        wechat.code_to_session(&cx(), "refused").await.err(),
    ] {
        assert_eq!(refused.unwrap().reason(), "WECHAT_REFUSED");
    }
}

#[tokio::test]
async fn the_simulator_keeps_the_contract() {
    contract(Arc::new(Simulator)).await;
}

#[tokio::test]
async fn the_real_protocol_keeps_the_contract() {
    let group = group();
    let router = Router::new()
        .route("/sns/oauth2/access_token", get(token))
        .route("/sns/jscode2session", get(session));
    let url = serve(&group, router).await;
    contract(Arc::new(
        HttpWechat::new(&config(&url), Secret::new("s3cret".into())).unwrap(),
    ))
    .await;
    let wrong = HttpWechat::new(&config(&url), Secret::new("other".into())).unwrap();
    let error = wrong.exchange_code(&cx(), "ann").await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, "WECHAT_UNAVAILABLE")
    );
    assert!(!format!("{error:?}").contains("other"), "the secret is in {error:?}");
}

#[tokio::test]
async fn what_is_no_answer_is_wechats_failure() {
    let group = group();
    let junk = Router::new().route("/sns/oauth2/access_token", get(async || "<html>502</html>"));
    let huge = Router::new().route("/sns/oauth2/access_token", get(async || "x".repeat(1 << 20)));
    let moved = Router::new().route(
        "/sns/oauth2/access_token",
        get(async || axum::response::Redirect::to("/x")),
    );
    for router in [junk, huge, moved, Router::new()] {
        let url = serve(&group, router).await;
        let wechat = HttpWechat::new(&config(&url), Secret::new("s3cret".into())).unwrap();
        let error = wechat.exchange_code(&cx(), "ann").await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        assert!(!format!("{error:?}").contains("s3cret"), "the secret is in {error:?}");
    }
}

#[tokio::test]
async fn the_phone_of_a_mini_program_is_decrypted() {
    let key = Simulator.code_to_session(&cx(), "ann").await.unwrap().session_key;
    let iv = [9; 16];
    let encrypt = |plain: &str| {
        let key = STANDARD.decode(key.expose()).unwrap();
        let cipher = cbc::Encryptor::<Aes128>::new_from_slices(&key, &iv).unwrap();
        let mut buffer = vec![0; plain.len() + 16];
        buffer[..plain.len()].copy_from_slice(plain.as_bytes());
        STANDARD.encode(cipher.encrypt_padded_mut::<Pkcs7>(&mut buffer, plain.len()).unwrap())
    };
    let iv = STANDARD.encode(iv);
    let data = encrypt(r#"{"phoneNumber":"+8613800138000","purePhoneNumber":"13800138000","countryCode":"86"}"#);
    assert_eq!(decrypt_phone(&key, &iv, &data).unwrap(), "+8613800138000");
    for (iv, data) in [
        (iv.as_str(), "AAAA"),
        ("AAAA", data.as_str()),
        (&iv, "%%%"),
        (&iv, ""),
        (&iv, &encrypt("{}")),
    ] {
        assert_eq!(decrypt_phone(&key, iv, data).unwrap_err().reason(), "WECHAT_REFUSED");
    }
}

#[test]
fn the_connect_url_is_as_the_provider_documents_it() {
    let url = connect_url(
        &config("https://api.weixin.qq.com"),
        "http://localhost:8080/oauth2/wechat/callback",
        "s&t",
    );
    assert_eq!(
        url,
        "https://open.weixin.qq.com/connect/qrconnect?appid=wx-mosaic&redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Foauth2\
         %2Fwechat%2Fcallback&response_type=code&scope=snsapi_login&state=s%26t#wechat_redirect"
    );
}
