//! Kubernetes: the contract against a simulated API server, and the ways in which a real one ends a watch.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Runtime, TaskGroup};
use mosaic_registry::{Instance, Options, RegistryError, open};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::api_server::ApiServer;
use crate::contract::{contract, outage_contract};
use crate::stage::{Breakable, Process, Stage, at, sees, soon};

const ONE: &str = "10.0.0.1:9080";
const TWO: &str = "10.0.0.2:9080";

struct Cluster {
    server: ApiServer,
    n_slices: usize,
    /// Service, address and slice.
    slices: Vec<(String, String, String)>,
}

impl Cluster {
    fn url(&self) -> String {
        format!("kubernetes:?namespace=prod&server=http://{}", self.server.address())
    }
}

#[async_trait]
impl Stage for Cluster {
    async fn new() -> Option<Self> {
        Some(Self {
            server: ApiServer::start(None).await,
            n_slices: 0,
            slices: Vec::new(),
        })
    }

    fn open(&self) -> Process {
        Process::open(&self.url(), &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        self.n_slices += 1;
        let name = format!("{service}-{}", self.n_slices);
        self.server.apply(slice(service, &name, &[&instance]));
        self.slices
            .push((service.to_owned(), instance.address.to_string(), name));
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        let is_meant = |(of, at, _): &(String, String, String)| (of.as_str(), at.as_str()) == (service, address);
        let position = self.slices.iter().position(is_meant).expect("an announced instance");
        self.server.delete(&self.slices.remove(position).2);
    }
}

#[async_trait]
impl Breakable for Cluster {
    async fn break_down(&mut self) {
        self.server.stop().await;
    }

    async fn mend(&mut self) {
        self.server.run_again().await;
    }
}

contract!(Cluster);
outage_contract!(Cluster);

fn slice(service: &str, name: &str, instances: &[&Instance]) -> Value {
    let endpoint = |instance: &&Instance| {
        json!({
            "addresses": [instance.address.host()], "zone": instance.zone(),
            "conditions": { "ready": true, "serving": true, "terminating": false },
        })
    };
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": instances.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "grpc", "port": 9080 }],
    })
}

/// Waits until the server has begun this many watches.
async fn watches(cluster: &Cluster, n_watches: usize) {
    soon("a watch", async {
        while cluster.server.store().n_watches < n_watches {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until the server has been asked for this many lists.
async fn lists(cluster: &Cluster, n_lists: usize) {
    soon("a list", async {
        while cluster.server.store().n_lists < n_lists {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn slices_as_the_api_server_writes_them() {
    let cluster = Cluster::new().await.unwrap();
    let list: Value = serde_json::from_str(include_str!("endpoint_slices.json")).unwrap();
    for slice in list["items"].as_array().unwrap() {
        cluster.server.apply(slice.clone());
    }
    let mut watch = cluster.open().watch("users");
    let snapshot = sees(&mut watch, &["10.1.2.3:9080"]).await;
    let instance = &snapshot.instances()[0];
    assert_eq!(instance.zone(), Some("eu-1a"));
    assert_eq!(instance.metadata["pod"], "users-6d9f4c7b9-abcde");
    assert_eq!(instance.metadata["node"], "node-1");
}

#[tokio::test]
async fn a_pod_that_becomes_ready_is_called_and_one_that_terminates_is_not() {
    let cluster = Cluster::new().await.unwrap();
    let mut watch = cluster.open().watch("users");
    sees(&mut watch, &[]).await;
    let mut slice = slice("users", "users-1", &[&at(ONE), &at(TWO)]);
    slice["endpoints"][1]["conditions"]["ready"] = json!(false);
    cluster.server.apply(slice.clone());
    sees(&mut watch, &[ONE]).await;
    slice["endpoints"][1]["conditions"]["ready"] = json!(true);
    cluster.server.apply(slice.clone());
    sees(&mut watch, &[ONE, TWO]).await;
    slice["endpoints"][0]["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
    cluster.server.apply(slice);
    sees(&mut watch, &[TWO]).await;
}

#[tokio::test]
async fn a_watch_whose_time_is_over_goes_on_without_a_list() {
    let mut cluster = Cluster::new().await.unwrap();
    let mut watch = cluster.open().watch("users");
    sees(&mut watch, &[]).await;
    watches(&cluster, 1).await;
    cluster.server.end_watches();
    cluster.announce("users", at(ONE)).await;
    sees(&mut watch, &[ONE]).await;
    assert!(watch.is_live());
    assert_eq!(cluster.server.store().n_lists, 1);
}

#[tokio::test]
async fn a_bookmark_saves_a_list_after_a_compaction() {
    let mut cluster = Cluster::new().await.unwrap();
    cluster.announce("users", at(ONE)).await;
    let mut watch = cluster.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    watches(&cluster, 1).await;
    cluster.server.bookmark();
    // What comes after it on the same stream says that it was read.
    cluster.announce("users", at(TWO)).await;
    sees(&mut watch, &[ONE, TWO]).await;
    cluster.server.bookmark();
    cluster.server.end_watches();
    watches(&cluster, 2).await;
    cluster.server.compact();
    cluster.server.end_watches();
    watches(&cluster, 3).await;
    assert_eq!(cluster.server.store().n_lists, 1);
}

#[tokio::test]
async fn a_version_that_is_gone_means_a_new_list() {
    let mut cluster = Cluster::new().await.unwrap();
    cluster.announce("users", at(ONE)).await;
    let mut watch = cluster.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    watches(&cluster, 1).await;
    // On the stream of a watch.
    cluster.server.expire_watches();
    lists(&cluster, 2).await;
    watches(&cluster, 2).await;
    // As the answer to a watch: other services have moved the version on.
    cluster.announce("others", at("10.0.0.9:9080")).await;
    cluster.server.compact();
    cluster.server.end_watches();
    lists(&cluster, 3).await;
    cluster.announce("users", at(TWO)).await;
    let next = sees(&mut watch, &[ONE, TWO]).await;
    assert_eq!(next.version(), 2, "nothing in between");
}

#[tokio::test]
async fn an_error_on_the_stream_changes_nothing() {
    let mut cluster = Cluster::new().await.unwrap();
    cluster.announce("users", at(ONE)).await;
    let mut watch = cluster.open().watch("users");
    let before = sees(&mut watch, &[ONE]).await;
    watches(&cluster, 1).await;
    let failure = json!({ "kind": "Status", "code": 500, "message": "etcdserver: leader changed" });
    cluster.server.tell("ERROR", &failure);
    lists(&cluster, 2).await;
    cluster.announce("users", at(TWO)).await;
    let next = sees(&mut watch, &[ONE, TWO]).await;
    assert_eq!(next.version(), before.version() + 1, "nothing in between");
}

#[tokio::test]
async fn garbage_is_left_out_and_takes_nobody_with_it() {
    let mut cluster = Cluster::new().await.unwrap();
    let labels = json!({ "kubernetes.io/service-name": "users" });
    let strange = json!({ "metadata": { "name": "strange", "labels": labels }, "addressType": 7 });
    cluster.server.apply(strange.clone());
    cluster.announce("users", at(ONE)).await;
    let mut watch = cluster.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    cluster.server.apply(strange);
    cluster.announce("users", at(TWO)).await;
    sees(&mut watch, &[ONE, TWO]).await;
}

#[tokio::test]
async fn a_rollout_makes_few_snapshots() {
    let cluster = Cluster::new().await.unwrap();
    let mut watch = cluster.open().watch("users");
    sees(&mut watch, &[]).await;
    watches(&cluster, 1).await;
    let begun = tokio::time::Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..100 {
        beat.tick().await;
        cluster.server.apply(slice("users", "users-1", &[&at(ONE)]));
        cluster.server.apply(slice("users", "users-1", &[&at(TWO)]));
    }
    cluster.server.apply(slice("users", "users-1", &[&at(ONE), &at(TWO)]));
    let last = sees(&mut watch, &[ONE, TWO]).await;
    let most = begun.elapsed().as_millis() / 30 + 3;
    assert!(u128::from(last.version()) <= most, "{} snapshots", last.version());
}

#[tokio::test]
async fn a_token_that_is_replaced_is_read_again() {
    let mut cluster = Cluster::new().await.unwrap();
    cluster.announce("users", at(ONE)).await;
    cluster.server.store().token = Some("second".to_owned());
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let url = format!("{}&token_file={}", cluster.url(), file.display());
    let mut watch = Process::open(&url, &Options::default()).watch("users");
    let early = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
    assert!(early.is_err(), "refused");
    std::fs::write(&file, "second\n").unwrap();
    sees(&mut watch, &[ONE]).await;
}

#[tokio::test]
async fn a_missing_role_is_an_outage_and_not_an_empty_service() {
    let cluster = Cluster::new().await.unwrap();
    let url = cluster.url().replace("prod", "secret");
    let mut watch = Process::open(&url, &Options::default()).watch("users");
    let early = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
    assert!(early.is_err());
    assert_eq!((watch.current(), watch.is_live()), (None, false));
}

#[tokio::test]
async fn the_api_server_is_believed_only_with_its_certificate() {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
        )
        .unwrap();
    let server = ApiServer::start(Some(TlsAcceptor::from(Arc::new(config)))).await;
    server.apply(slice("users", "users-1", &[&at(ONE)]));
    let dir = TempDir::new().unwrap();
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let url = format!("kubernetes:?namespace=prod&server=https://{}", server.address());
    let mut stranger = Process::open(&url, &Options::default()).watch("users");
    let mut watch = Process::open(&format!("{url}&ca_file={}", ca.display()), &Options::default()).watch("users");
    sees(&mut watch, &[ONE]).await;
    let early = tokio::time::timeout(Duration::from_millis(300), stranger.changed()).await;
    assert!(early.is_err(), "signed by nobody whom the system believes");
}

#[tokio::test]
async fn mistakes_in_a_url_are_told() {
    let tasks = TaskGroup::new(|_| {});
    for url in [
        "kubernetes://cluster",
        "kubernetes:prod",
        "kubernetes:?namespace=a/b",
        "kubernetes:?server=https://k8s",
        "kubernetes:?namespace=prod&server=k8s",
        "kubernetes:?port=9080",
    ] {
        let opened = open(url, &Options::default(), &Runtime::system(), &tasks);
        assert!(matches!(opened, Err(RegistryError::Url(_))), "{url}");
    }
    assert!(open("kubernetes:", &Options::default(), &Runtime::system(), &tasks).is_ok());
}
