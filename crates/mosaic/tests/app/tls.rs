//! Processes that prove themselves to each other by certificates: who is believed, as what, and while they are replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mosaic::rpc::{Channel, ChannelOptions, Client, Connect, PeerKey, Routing, Tls, TlsFiles};
use mosaic::{Code, Runtime, Timestamp};
use mosaic_cli::ca::{self, Authority, Existing, Issued, Order, Subject};
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::{Shape, TestApp, TestAppBuilder, until};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::grpc::{Connection, framed, open_tls};
use crate::stage::{Stage, act, traced};

const FRONT: Shape = Shape::Apart(&[&["edge", "front"]]);
const BACK: Shape = Shape::Apart(&[&["back"]]);
const INSIDE: &str = "/front.v1.Front/Inside";
/// Connections end often, but live longer than a client takes for a failure.
const AGEING: [(&str, &str); 1] = [("rpc.max_connection_age", "1200ms")];
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    Runtime::system().now()
}

fn subject(services: &[&str]) -> Subject {
    Subject {
        services: services.iter().map(|name| name.parse().unwrap()).collect(),
        dns: Vec::new(),
        ips: Vec::new(),
    }
}

/// A CA made by the tool, in a folder, and the files of processes in it.
struct Ca {
    folder: TempDir,
}

impl Ca {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        ca::init(folder.path(), 10, Existing::Keep, now()).unwrap();
        Self { folder }
    }

    /// Issues, or issues anew, the certificate of a process.
    fn issue(&self, services: &[&str]) -> PathBuf {
        let order = Order {
            services: subject(services).services,
            dns: Vec::new(),
            ips: Vec::new(),
            days: 1,
            out: None,
        };
        ca::issue(self.folder.path(), &order, Existing::Replace, now()).unwrap();
        self.folder.path().join("issued").join(services[0])
    }

    fn authority(&self) -> Authority {
        Authority::from_key(&fs::read_to_string(self.folder.path().join("ca.key")).unwrap()).unwrap()
    }

    fn good(&self, services: &[&str]) -> Issued {
        self.authority()
            .issue(&subject(services), now(), now().plus(DAY))
            .unwrap()
    }
}

fn files(process: &Path) -> TlsFiles {
    TlsFiles {
        cert: process.join("tls.crt"),
        key: process.join("tls.key"),
        ca: process.join("ca.crt"),
    }
}

/// Gives a process the certificate in `folder`.
fn secured(builder: TestAppBuilder, folder: &Path) -> TestAppBuilder {
    let files = files(folder);
    builder
        .set("tls.cert", files.cert.display().to_string())
        .set("tls.key", files.key.display().to_string())
        .set("tls.ca", files.ca.display().to_string())
        .set("tls.reload", "20ms")
}

fn grpc(app: &TestApp) -> SocketAddr {
    app.processes()[0].addresses().grpc
}

/// Front and back, each with its certificate; they call each other.
struct Apart {
    ca: Ca,
    stage: Stage,
    front: TestApp,
    back: TestApp,
}

impl Apart {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (ca, stage) = (Ca::new(), Stage::new());
        let reserved: Vec<_> = (0..2)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let [front_at, back_at] = [0, 1].map(|position: usize| reserved[position].local_addr().unwrap());
        drop(reserved);
        let builder = |shape| {
            let mut builder = stage.builder(shape);
            for (key, value) in settings {
                builder = builder.set(key, *value);
            }
            // Both spellings: with TLS, either is called over it.
            let builder = builder.set("rpc.services.front", format!("http://{front_at}"));
            builder.set("rpc.services.back", format!("https://{back_at}"))
        };
        let [front_files, back_files] = [&["edge", "front"][..], &["back"]].map(|services| ca.issue(services));
        let front = secured(builder(FRONT).set("grpc", front_at.to_string()), &front_files);
        let back = secured(builder(BACK).set("grpc", back_at.to_string()), &back_files);
        Self {
            front: front.start().await,
            back: back.start().await,
            ca,
            stage,
        }
    }

    async fn stop(self) {
        self.front.stop().await;
        self.back.stop().await;
    }
}

/// Returns a client that calls `address`, with a certificate if there is one, and claims no name.
fn client<C: Connect>(address: SocketAddr, tls: Option<Tls>) -> C {
    let options = ChannelOptions {
        tls,
        ready_timeout: Duration::from_millis(800),
        ..ChannelOptions::default()
    };
    let addresses = [address.try_into().unwrap()];
    let channel = Channel::listed(
        &Runtime::system(),
        &addresses,
        C::SERVICE.name,
        options,
        Routing::default(),
    );
    C::from_client(Client::remote(C::SERVICE, channel, "stranger"))
}

#[tokio::test]
async fn the_application_works_apart_over_mutual_tls() {
    let apart = Apart::start(&[]).await;
    let reply = apart
        .front
        .anonymous()
        .post("/front/v1/ask", json!({"hops": 2, "mark": "tls"}))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(apart.stage.witness.seen("tls").n_done, 3);
    let back: BackClient = apart.front.client("front");
    let items = back
        .watch(
            &traced().0,
            ActRequest {
                hops: 3,
                ..act("", "tls")
            },
        )
        .await
        .unwrap();
    assert_eq!(futures::StreamExt::count(items).await, 3);
    // From the process of the back, whose name it is.
    let front: FrontClient = apart.back.client("back");
    front.inside(&traced().0, ()).await.unwrap();
    apart.stop().await;
}

#[tokio::test]
async fn a_service_is_what_its_certificate_names_whatever_it_claims() {
    let apart = Apart::start(&[]).await;
    let hmac = PeerKey::new(b"mosaic-development-key-that-is-no-secret".to_vec()).unwrap();
    let call = async |services: &[&str], claim: Option<&str>| {
        let issued = apart.ca.good(services);
        let stream = open_tls(grpc(&apart.front), Some((&issued.certificate, &issued.key)))
            .await
            .unwrap();
        let connection = Connection::on(stream).await.unwrap();
        let headers: Vec<_> = claim.iter().map(|claim| ("x-mosaic-peer", *claim)).collect();
        connection
            .call(INSIDE, &headers, &framed(&[]))
            .await
            .unwrap()
            .status
            .unwrap()
    };
    let (ok, not_found, unauthenticated) = (0, 5, 16);
    assert_eq!(call(&["back"], Some("back")).await, ok);
    assert_eq!(call(&["back"], None).await, ok, "it has only one name");
    assert_eq!(call(&["back"], Some("users")).await, unauthenticated);
    assert_eq!(call(&["back"], Some("")).await, unauthenticated);
    assert_eq!(call(&["back", "users"], Some("users")).await, ok);
    assert_eq!(
        call(&["back", "users"], None).await,
        not_found,
        "nobody knows who it is"
    );
    // A good token of the key that all share is no more than the name in it.
    assert_eq!(
        call(&["back"], Some(&hmac.issue("users", now()))).await,
        unauthenticated
    );
    assert_eq!(call(&["back"], Some(&hmac.issue("back", now()))).await, ok);
    apart.stop().await;
}

#[tokio::test]
async fn without_tls_a_claim_needs_its_token_and_insiders_are_hidden() {
    let app = Stage::new().start(Shape::Together).await;
    let connection = Connection::open(grpc(&app)).await;
    let status = async |headers: &[(&str, &str)]| {
        connection
            .call(INSIDE, headers, &framed(&[]))
            .await
            .unwrap()
            .status
            .unwrap()
    };
    assert_eq!(status(&[]).await, 5, "as if there were no such method");
    assert_eq!(status(&[("x-mosaic-peer", "back")]).await, 16);
    app.stop().await;
}

/// Does the server at `address` answer a call of who shows `identity`?
async fn is_let_in(address: SocketAddr, identity: Option<(&str, &str)>) -> bool {
    let Ok(stream) = open_tls(address, identity).await else {
        return false;
    };
    let Ok(connection) = Connection::on(stream).await else {
        return false;
    };
    connection.call("/front.v1.Front/Tell", &[], &framed(&[])).await.is_ok()
}

#[tokio::test]
async fn who_has_no_good_certificate_gets_no_connection() {
    let apart = Apart::start(&[]).await;
    let address = grpc(&apart.front);
    let ca = apart.ca.authority();
    let stranger = Authority::generate().unwrap();
    let (past, future) = (now().minus(2 * DAY), now().plus(DAY));
    let good = subject(&["back"]);
    let cases = [
        ("expired", ca.issue(&good, past, now().minus(DAY)).unwrap()),
        ("not yet", ca.issue(&good, future, future.plus(DAY)).unwrap()),
        ("another CA", stranger.issue(&good, now(), future).unwrap()),
        ("no service", ca.issue(&subject(&[]), now(), future).unwrap()),
        (
            "self-signed",
            Issued {
                certificate: stranger.certificate(now(), future).unwrap(),
                key: stranger.key(),
            },
        ),
    ];
    for (what, issued) in &cases {
        assert!(
            !is_let_in(address, Some((&issued.certificate, &issued.key))).await,
            "{what}"
        );
    }
    assert!(!is_let_in(address, None).await, "no certificate");
    let issued = apart.ca.good(&["back"]);
    assert!(is_let_in(address, Some((&issued.certificate, &issued.key))).await);
    apart.stop().await;
}

#[tokio::test]
async fn plain_text_and_tls_do_not_meet() {
    let apart = Apart::start(&[]).await;
    let mut plain = TcpStream::connect(grpc(&apart.front)).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut rest = Vec::new();
    // An alert of TLS, and the end; or the end by reset.
    let _ = plain.read_to_end(&mut rest).await;
    assert!(rest.len() <= 7 && !rest.contains(&4), "no frame of HTTP/2: {rest:?}");
    let error = client::<FrontClient>(grpc(&apart.front), None)
        .tell(&traced().0, ())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);

    let app = Stage::new().start(Shape::Together).await;
    let tls = Tls::load(&Runtime::system(), files(&apart.ca.issue(&["back"]))).unwrap();
    let error = client::<FrontClient>(grpc(&app), Some(tls))
        .tell(&traced().0, ())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        client::<FrontClient>(grpc(&app), None)
            .tell(&traced().0, ())
            .await
            .is_ok(),
        "it lives"
    );
    app.stop().await;
    apart.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_of_another_name() {
    let apart = Apart::start(&[]).await;
    let tls = |services| Tls::load(&Runtime::system(), files(&apart.ca.issue(services))).unwrap();
    // Good certificates of the CA at both ends; but the address, which a registry gave, is that of somebody else.
    let wrong: BackClient = client(grpc(&apart.front), Some(tls(&["order"])));
    let error = wrong.act(&traced().0, act("", "wrong")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let log = mosaic_testing::log();
    let address = grpc(&apart.front).to_string();
    let why = log
        .lines()
        .find(|line| line.contains("cannot be called") && line.contains(&address));
    assert!(
        why.is_some_and(|line| line.contains("TLS") && line.contains("NotValidForName")),
        "{why:?}"
    );
    let right: BackClient = client(grpc(&apart.back), Some(tls(&["order"])));
    right.act(&traced().0, act("", "right")).await.unwrap();
    apart.stop().await;
}

#[tokio::test]
async fn a_server_that_has_only_its_own_word_is_not_called() {
    let apart = Apart::start(&[]).await;
    let folder = TempDir::new().unwrap();
    ca::init(folder.path(), 10, Existing::Keep, now()).unwrap();
    let order = Order {
        services: subject(&["front"]).services,
        dns: Vec::new(),
        ips: Vec::new(),
        days: 1,
        out: None,
    };
    ca::issue(folder.path(), &order, Existing::Keep, now()).unwrap();
    // A caller that believes another CA: the names are right, the signatures are not.
    let tls = Tls::load(&Runtime::system(), files(&folder.path().join("issued/front"))).unwrap();
    let front: FrontClient = client(grpc(&apart.front), Some(tls));
    assert_eq!(front.tell(&traced().0, ()).await.unwrap_err().code(), Code::Unavailable);
    apart.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_at_the_start() {
    let (ca, stage) = (Ca::new(), Stage::new());
    let folder = ca.issue(&["back"]);
    let mistakes = async |change: &[(&str, String)]| {
        let files = files(&folder);
        let mut layers = mosaic::config::Layers::default()
            .set("mode", "dev")
            .set("data", folder.join("data").display().to_string())
            .set("run", "back")
            .set("tls.cert", files.cert.display().to_string())
            .set("tls.key", files.key.display().to_string())
            .set("tls.ca", files.ca.display().to_string());
        for key in ["http", "grpc", "admin"] {
            layers = layers.set(key, "127.0.0.1:0");
        }
        for (key, value) in change {
            layers = layers.set(key, value.clone());
        }
        match stage.app().start(&Runtime::system(), layers).await {
            Ok(process) => {
                process.stop().await;
                String::new()
            }
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(mistakes(&[]).await, "");
    let path = |name: &str| folder.join(name).display().to_string();
    let told = mistakes(&[("tls.ca", String::new())]).await;
    assert!(told.contains("tls.ca: missing"), "{told}");
    let told = mistakes(&[("tls.key", path("absent"))]).await;
    assert!(told.contains("tls.key: cannot read"), "{told}");
    let told = mistakes(&[("run", "front,back".to_owned())]).await;
    assert!(
        told.contains("tls.cert: the certificate does not name front; it names back"),
        "{told}"
    );

    let other = ca.issue(&["front"]);
    let told = mistakes(&[("tls.key", files(&other).key.display().to_string())]).await;
    assert!(
        told.contains("tls.key: the key is not that of the certificate"),
        "{told}"
    );
    let old = ca
        .authority()
        .issue(&subject(&["back"]), now().minus(2 * DAY), now().minus(DAY))
        .unwrap();
    fs::write(folder.join("old.crt"), &old.certificate).unwrap();
    fs::write(folder.join("old.key"), &old.key).unwrap();
    let told = mistakes(&[("tls.cert", path("old.crt")), ("tls.key", path("old.key"))]).await;
    assert!(
        told.contains("tls.cert: others would refuse the certificate") && told.contains("xpired"),
        "{told}"
    );
}

/// Calls the back from the front, over and over, until `work` is done; returns how many calls there were.
async fn under_load(apart: &Apart, work: impl Future<Output = ()>) -> usize {
    let back: BackClient = apart.front.client("front");
    let front: FrontClient = apart.back.client("back");
    let is_done = AtomicBool::new(false);
    let callers = (0..8).map(|_| async {
        let mut n_calls = 0;
        while !is_done.load(Ordering::SeqCst) {
            back.act(
                &traced().0,
                ActRequest {
                    ms: 2,
                    ..act("", "load")
                },
            )
            .await
            .expect("back is there");
            front
                .inside(&traced().0, ())
                .await
                .expect("front is there, and knows who calls");
            n_calls += 2;
        }
        n_calls
    });
    let work = async {
        work.await;
        is_done.store(true, Ordering::SeqCst);
    };
    let (n_calls, ()) = tokio::join!(futures::future::join_all(callers), work);
    n_calls.iter().sum()
}

/// Returns the certificate that the server at `address` shows.
async fn shown(ca: &Ca, address: SocketAddr) -> Vec<u8> {
    let issued = ca.good(&["back"]);
    let stream = open_tls(address, Some((&issued.certificate, &issued.key)))
        .await
        .unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Waits until the server at `address` shows another certificate than `before`.
async fn until_renewed(ca: &Ca, address: SocketAddr, before: &[u8]) {
    until("the new certificate", Duration::from_secs(10), || async {
        shown(ca, address).await != before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_under_load_and_broken_ones_change_nothing() {
    let apart = Apart::start(&AGEING).await;
    let address = grpc(&apart.back);
    let n_calls = under_load(
        &apart,
        Box::pin(async {
            for _ in 0..3 {
                let before = shown(&apart.ca, address).await;
                apart.ca.issue(&["back"]);
                apart.ca.issue(&["edge", "front"]);
                until_renewed(&apart.ca, address, &before).await;
            }
            let before = shown(&apart.ca, address).await;
            let folder = apart.ca.folder.path().join("issued/back");
            fs::write(folder.join("tls.crt"), "nonsense").unwrap();
            let told = "the new certificate is of no use, the old one stays";
            until("the broken file is told", Duration::from_secs(5), || async {
                mosaic_testing::log().contains(told)
            })
            .await;
            assert_eq!(shown(&apart.ca, address).await, before);
            // Of the right CA, but for somebody else.
            let other = apart.ca.good(&["users"]);
            fs::write(folder.join("tls.key"), &other.key).unwrap();
            fs::write(folder.join("tls.crt"), &other.certificate).unwrap();
            until("the wrong name is told", Duration::from_secs(5), || async {
                mosaic_testing::log().contains("does not name back; it names users")
            })
            .await;
            assert_eq!(shown(&apart.ca, address).await, before);
            apart.ca.issue(&["back"]);
            until_renewed(&apart.ca, address, &before).await;
            let log = mosaic_testing::log();
            let lines = log
                .lines()
                .filter(|line| line.contains(told) && line.contains("does not name back"));
            assert_eq!(lines.count(), 1, "told once");
        }),
    )
    .await;
    assert!(n_calls > 100, "{n_calls}");
    apart.stop().await;
}

/// Waits until connections from before are gone: nothing else says so.
async fn all_renewed() {
    tokio::time::sleep(Duration::from_millis(1600)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_the_ca_is_replaced_under_load() {
    let apart = Apart::start(&AGEING).await;
    let (front, back) = (grpc(&apart.front), grpc(&apart.back));
    let folder = apart.ca.folder.path().to_owned();
    let old = apart.ca.good(&["order"]);
    let old = (old.certificate.as_str(), old.key.as_str());
    under_load(
        &apart,
        Box::pin(async {
            ca::rotate(&folder, 10, now()).unwrap();
            // One has a certificate of the new key while the other has not even heard of it.
            for (address, services) in [(back, &["back"][..]), (front, &["edge", "front"])] {
                let before = shown(&apart.ca, address).await;
                apart.ca.issue(services);
                until("the new certificate", Duration::from_secs(10), || async {
                    let stream = open_tls(address, Some(old)).await.unwrap();
                    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec() != before
                })
                .await;
                all_renewed().await;
            }
            assert!(
                is_let_in(front, Some(old)).await,
                "the old key is believed until the end"
            );
            ca::finish_rotation(&folder, Existing::Keep, now()).expect_err("certificates of the old key are good");
            ca::finish_rotation(&folder, Existing::Replace, now()).unwrap();
            for services in [&["edge", "front"][..], &["back"]] {
                apart.ca.issue(services);
            }
            for address in [front, back] {
                until("the old key is not believed", Duration::from_secs(10), || async {
                    !is_let_in(address, Some(old)).await
                })
                .await;
            }
            all_renewed().await;
        }),
    )
    .await;
    apart.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_ended_and_holds_nobody_up() {
    let apart = Apart::start(&[]).await;
    let mut silent = TcpStream::connect(grpc(&apart.front)).await.unwrap();
    // Half a record of TLS.
    silent.write_all(&[22, 3, 1, 0, 200, 1]).await.unwrap();
    let good = apart.ca.good(&["back"]);
    assert!(is_let_in(grpc(&apart.front), Some((&good.certificate, &good.key))).await);
    let started = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    let took = started.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(7)).contains(&took),
        "{took:?}"
    );
    apart.stop().await;
}

#[tokio::test]
async fn a_listener_of_nobody_is_left_in_time() {
    // Accepts and says nothing: the caller's own patience ends it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ca = Ca::new();
    let tls = Tls::load(&Runtime::system(), files(&ca.issue(&["order"]))).unwrap();
    let front: FrontClient = client(listener.local_addr().unwrap(), Some(tls));
    let started = tokio::time::Instant::now();
    assert_eq!(front.tell(&traced().0, ()).await.unwrap_err().code(), Code::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
