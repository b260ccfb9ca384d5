//! etcd with passwords, with certificates, and with members that are down or silent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mosaic_registry::{Options, RegistryError, Snapshot, open};
use serde_json::json;

use crate::etcd_server::EtcdServer;
use crate::proxy::Proxy;
use crate::stage::{Process, at, sees, soon};

const ONE: &str = "10.0.0.1:9080";

#[tokio::test]
async fn a_member_that_is_down_is_passed_over() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    // Port 1 refuses.
    let url = format!("etcd://127.0.0.1:1,{}?ttl=2s", server.address());
    let process = Process::open(&url, &Options::default());
    let registration = process.register("users", at(ONE));
    sees(&mut process.watch("users"), &[ONE]).await;
    assert!(registration.is_registered());
}

#[tokio::test]
async fn a_connection_that_died_without_a_word_is_left() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let url = format!("etcd://{},{}?ttl=30s", proxy.address, server.address());
    let process = Process::open(&url, &Options::default());
    let registration = process.register("users", at(ONE));
    soon("to be registered", registration.registered()).await;
    let mut watch = Process::open(&server.url(), &Options::default()).watch("users");
    sees(&mut watch, &[ONE]).await;
    proxy.freeze();
    registration.update(&BTreeMap::from([("weight".to_owned(), "7".to_owned())]));
    let is_light = |snapshot: &Snapshot| snapshot.instances().iter().any(|found| found.weight() == 7);
    soon("the new weight, over the other member", watch.wait_for(is_light)).await;
}

#[tokio::test]
async fn a_user_and_a_password_are_asked_for_a_token() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    server.ask("auth/role/add", json!({ "name": "root" })).await;
    let user = json!({ "name": "root", "password": "p@ss/word" });
    server.ask("auth/user/add", user).await;
    server
        .ask("auth/user/grant", json!({ "user": "root", "role": "root" }))
        .await;
    server.ask("auth/enable", json!({})).await;
    let open_as = |login: &str| {
        Process::open(
            &format!("etcd://{login}{}?ttl=2s", server.address()),
            &Options::default(),
        )
    };

    let process = open_as("root:p%40ss%2Fword@");
    let registration = process.register("users", at(ONE));
    sees(&mut process.watch("users"), &[ONE]).await;
    for login in ["", "root:wrong@"] {
        let stranger = open_as(login);
        let (mut watch, refused) = (stranger.watch("users"), stranger.register("users", at("10.0.0.9:9080")));
        let early = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(early.is_err(), "refused, which is not empty: {early:?}");
        assert!(!refused.is_registered());
    }
    assert!(registration.deregister().await);
    assert!(!format!("{process:?}").contains("p@ss"), "no secret in a debug text");
}

/// Writes a certificate authority, and certificates of the server and of a client.
fn certificates(dir: &Path) -> Vec<String> {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate");
    std::fs::write(dir.join("ca.pem"), ca.pem()).expect("a file");
    let issuer = rcgen::Issuer::new(params, ca_key);
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let signed = params.signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.pem")), signed.pem()).expect("a file");
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
    }
    let file = |name: &str| dir.join(name).display().to_string();
    let mut arguments = vec!["--client-cert-auth".to_owned()];
    for (flag, name) in [
        ("--cert-file", "server.pem"),
        ("--key-file", "server.key"),
        ("--trusted-ca-file", "ca.pem"),
    ] {
        arguments.extend([flag.to_owned(), file(name)]);
    }
    arguments
}

#[tokio::test]
async fn certificates_of_both_sides_are_checked() {
    let Some(server) = EtcdServer::start_with("https", certificates).await else {
        return;
    };
    let file = |name: &str| server.dir().join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let open_with = |query: &str| Process::open(&format!("etcd://{}?{query}", server.address()), &Options::default());

    let process = open_with(&format!("tls=on&ca={ca}&cert={cert}&key={key}"));
    let registration = process.register("users", at(ONE));
    sees(&mut process.watch("users"), &[ONE]).await;
    let strangers = [
        format!("tls=on&ca={ca}"),
        format!("tls=on&cert={cert}&key={key}"),
        format!("tls=on&ca={ca}.missing&cert={cert}&key={key}"),
        "tls=off".to_owned(),
    ];
    for query in strangers {
        let mut watch = open_with(&query).watch("users");
        let early = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(early.is_err(), "{query}: {early:?}");
    }
    assert!(registration.deregister().await);
}

#[tokio::test]
async fn mistakes_in_a_url_are_told() {
    let tasks = mosaic_core::TaskGroup::new(|_| {});
    for url in [
        "etcd://",
        "etcd:///prefix",
        "etcd://a b",
        "etcd://a:0",
        "etcd://user@a",
        "etcd://a?ttl=1s",
        "etcd://a?ttl=x",
        "etcd://a?tls=yes",
        "etcd://a?ca=file",
        "etcd://a?tls=on&cert=file",
        "etcd://a?timeout=1s",
    ] {
        let opened = open(url, &Options::default(), &mosaic_core::Runtime::system(), &tasks);
        assert!(matches!(opened, Err(RegistryError::Url(_))), "{url}");
    }
    for url in [
        "etcd://a",
        "etcd://a,b:1,[::1],[::1]:2/x/y?ttl=1m&tls=on&ca=c&cert=d&key=e",
    ] {
        let opened = open(url, &Options::default(), &mosaic_core::Runtime::system(), &tasks);
        assert!(opened.is_ok(), "{url}");
    }
}
