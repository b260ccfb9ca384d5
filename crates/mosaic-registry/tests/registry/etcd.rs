//! etcd: the contract, and everything that has cost others their registrations.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::Runtime;
use mosaic_registry::{Instance, Options};

use crate::contract::{contract, outage_contract};
use crate::etcd_server::EtcdServer;
use crate::stage::{
    Breakable, Process, Registrations, SOON, Stage, addresses_of, are_engines_required, at, sees, soon,
};

const ONE: &str = "10.0.0.1:9080";
const TWO: &str = "10.0.0.2:9080";
const KEY: &str = "service/users/10.0.0.1:9080";

/// The etcd of the developer, below a prefix that nobody else has.
struct Shared {
    url: String,
    writer: Process,
    registrations: Registrations,
}

#[async_trait]
impl Stage for Shared {
    async fn new() -> Option<Self> {
        let url = engine_url()?;
        let url = format!("{url}/{}", Runtime::system().random_hex::<8>());
        Some(Self {
            writer: Process::open(&url, &Options::default()),
            url,
            registrations: Registrations::default(),
        })
    }

    fn open(&self) -> Process {
        Process::open(&self.url, &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        self.registrations.announce(&self.writer, service, instance).await;
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        self.registrations.withdraw(service, address).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn engine_url() -> Option<String> {
    let url = std::env::var("MOSAIC_TEST_ETCD").ok();
    if url.is_none() {
        assert!(
            !are_engines_required(),
            "MOSAIC_TEST_ETCD is not set and engines are required"
        );
        eprintln!("skipped: MOSAIC_TEST_ETCD is not set");
    }
    url
}

contract!(Shared);

/// An etcd that can be killed.
struct Private {
    server: EtcdServer,
    writer: Process,
    registrations: Registrations,
}

#[async_trait]
impl Stage for Private {
    async fn new() -> Option<Self> {
        let server = EtcdServer::start().await?;
        Some(Self {
            writer: Process::open(&server.url(), &Options::default()),
            server,
            registrations: Registrations::default(),
        })
    }

    fn open(&self) -> Process {
        Process::open(&self.server.url(), &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        self.registrations.announce(&self.writer, service, instance).await;
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        self.registrations.withdraw(service, address).await;
    }
}

#[async_trait]
impl Breakable for Private {
    async fn break_down(&mut self) {
        self.server.kill();
    }

    async fn mend(&mut self) {
        self.server.run().await;
    }
}

outage_contract!(Private);

#[tokio::test]
async fn key_and_value_are_those_of_etcds_naming_package() {
    let Some(mut stage) = Private::new().await else { return };
    stage.announce("users", at(ONE).with("weight", "5")).await;
    let (value, lease) = stage.server.get(KEY).await.expect("the key");
    assert_eq!(value, r#"{"Op":0,"Addr":"10.0.0.1:9080","Metadata":{"weight":"5"}}"#);
    assert_ne!(lease, "", "a key without a lease would outlive its process");
}

#[tokio::test]
async fn a_registration_begun_in_an_outage_succeeds_after_it() {
    let Some(mut stage) = Private::new().await else { return };
    stage.break_down().await;
    let process = stage.open();
    let registration = process.register("users", at(ONE));
    assert!(!registration.is_registered());
    stage.mend().await;
    soon("to be registered", registration.registered()).await;
    assert!(stage.server.get(KEY).await.is_some());
}

#[tokio::test]
async fn a_lease_that_is_revoked_behind_our_back_is_replaced() {
    let Some(mut stage) = Private::new().await else { return };
    stage.announce("users", at(ONE)).await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    let (_, lease) = stage.server.get(KEY).await.expect("the key");
    stage.server.revoke(&lease).await;
    sees(&mut watch, &[]).await;
    sees(&mut watch, &[ONE]).await;
    let (_, new_lease) = stage.server.get(KEY).await.expect("the key");
    assert_ne!(new_lease, lease);
}

#[tokio::test]
async fn a_key_that_somebody_removes_is_put_again() {
    let Some(mut stage) = Private::new().await else { return };
    stage.announce("users", at(ONE)).await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    stage.server.delete(KEY).await;
    sees(&mut watch, &[]).await;
    sees(&mut watch, &[ONE]).await;
}

#[tokio::test]
async fn an_outage_longer_than_the_lease_ends_with_everybody_back() {
    let Some(mut stage) = Private::new().await else { return };
    let process = stage.open();
    let registration = process.register("users", at(ONE));
    soon("to be registered", registration.registered()).await;
    stage.break_down().await;
    soon("the lease to be over", async {
        while registration.is_registered() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stage.mend().await;
    soon("to be registered again", registration.registered()).await;
    sees(&mut stage.open().watch("users"), &[ONE]).await;
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_is_told_again_and_nobody_sees_a_gap() {
    let Some(mut stage) = Private::new().await else { return };
    stage.announce("users", at(ONE)).await;
    stage.announce("users", at(TWO)).await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE, TWO]).await;
    let mut seen = watch.clone();
    stage.server.wipe();
    stage.mend().await;
    soon("both keys to be there again", async {
        while stage.server.get(KEY).await.is_none() || stage.server.get(&KEY.replace(ONE, TWO)).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Later changes are seen, so the watch is well; and nothing else was seen before them.
    stage.announce("users", at("10.0.0.3:9080")).await;
    let next = soon("the next snapshot", seen.changed()).await.expect("a snapshot");
    assert_eq!(addresses_of(&next), [ONE, TWO, "10.0.0.3:9080"]);
}

#[tokio::test]
async fn who_does_not_come_back_after_lost_data_is_given_up() {
    let Some(mut stage) = Private::new().await else { return };
    stage.announce("users", at(ONE)).await;
    stage
        .server
        .put(&KEY.replace(ONE, TWO), format!(r#"{{"Addr":"{TWO}"}}"#))
        .await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE, TWO]).await;
    stage.server.wipe();
    stage.mend().await;
    sees(&mut watch, &[ONE]).await;
}

#[tokio::test]
async fn garbage_is_left_out_and_takes_nobody_with_it() {
    let Some(mut stage) = Private::new().await else { return };
    let users = |name: &str| format!("service/users/{name}");
    stage.announce("users", at(ONE)).await;
    stage.server.put(&users("10.0.0.7:1"), "{").await;
    stage.server.put(&users("10.0.0.8:1"), [0xff, 0x00]).await;
    stage
        .server
        .put(&users("not an address"), r#"{"Addr":"10.0.0.9:1"}"#)
        .await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    // While watching as well, and an instance whose entry turns into garbage goes.
    stage
        .server
        .put(&users("10.0.0.2:9080"), r#"{"Addr":"10.0.0.2:9080"}"#)
        .await;
    sees(&mut watch, &[ONE, TWO]).await;
    stage.server.put(&users("10.0.0.2:9080"), r#"{"Op":0}"#).await;
    sees(&mut watch, &[ONE]).await;
    // One that is deleted the way of etcd's naming package.
    stage.server.put(&users("10.0.0.7:1"), r#"{"Addr":"10.0.0.7:1"}"#).await;
    sees(&mut watch, &[ONE, "10.0.0.7:1"]).await;
    stage
        .server
        .put(&users("10.0.0.7:1"), r#"{"Op":1,"Addr":"10.0.0.7:1"}"#)
        .await;
    sees(&mut watch, &[ONE]).await;
}

#[tokio::test]
async fn a_key_that_flaps_makes_few_snapshots() {
    let Some(stage) = Private::new().await else { return };
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[]).await;
    let begun = tokio::time::Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..100 {
        beat.tick().await;
        stage.server.put(KEY, format!(r#"{{"Addr":"{ONE}"}}"#)).await;
        stage.server.delete(KEY).await;
    }
    let last_value = format!(r#"{{"Addr":"{ONE}","Metadata":{{"weight":"9"}}}}"#);
    stage.server.put(KEY, last_value).await;
    let took = begun.elapsed();
    let is_last = |snapshot: &mosaic_registry::Snapshot| snapshot.instances().iter().any(|found| found.weight() == 9);
    let last = soon("the last change", watch.wait_for(is_last))
        .await
        .expect("a snapshot");
    let most = took.as_millis() / 30 + 3;
    assert!(
        u128::from(last.version()) <= most,
        "{} snapshots in {took:?}",
        last.version()
    );
}

#[tokio::test]
async fn a_dropped_registration_goes_before_its_lease() {
    let Some(stage) = Private::new().await else { return };
    let process = Process::open(
        &format!("etcd://{}?ttl=1h", stage.server.address()),
        &Options::default(),
    );
    let registration = process.register("users", at(ONE));
    let mut watch = process.watch("users");
    sees(&mut watch, &[ONE]).await;
    drop(registration);
    sees(&mut watch, &[]).await;
}

#[tokio::test]
async fn a_killed_process_is_gone_after_its_lease() {
    let Some(stage) = Private::new().await else { return };
    let (url, mut watch) = (stage.server.url(), stage.open().watch("users"));
    let (tell, told) = tokio::sync::oneshot::channel();
    let killed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let registration = runtime.block_on(async {
            let process = Process::open(&url, &Options::default());
            let registration = process.register("users", at(ONE));
            registration.registered().await;
            (process, registration)
        });
        // Nothing of it runs any more: what a SIGKILL leaves behind.
        drop(runtime);
        drop(registration);
        let _ = tell.send(());
    });
    soon("the end", told).await.expect("no panic");
    killed.join().expect("no panic");
    assert!(stage.server.get(KEY).await.is_some(), "nobody has deregistered it");
    sees(&mut watch, &[ONE]).await;
    sees(&mut watch, &[]).await;
}

#[tokio::test]
async fn a_new_process_on_an_old_address_stays_when_the_old_one_goes() {
    let Some(stage) = Private::new().await else { return };
    let (old, new) = (stage.open(), stage.open());
    let leaving = old.register("users", at(ONE));
    soon("to be registered", leaving.registered()).await;
    let staying = new.register("users", at(ONE).with("weight", "7"));
    soon("to be registered", staying.registered()).await;
    assert!(leaving.deregister().await);
    let (value, _) = stage.server.get(KEY).await.expect("the key of the new process");
    assert!(value.contains(r#""weight":"7""#), "{value}");
}

#[tokio::test]
async fn a_changed_weight_is_announced() {
    let Some(stage) = Private::new().await else { return };
    let process = stage.open();
    let mut watch = process.watch("users");
    let registration = process.register("users", at(ONE));
    sees(&mut watch, &[ONE]).await;
    registration.update(&BTreeMap::from([("weight".to_owned(), "7".to_owned())]));
    let is_light = |snapshot: &mosaic_registry::Snapshot| snapshot.instances().iter().any(|found| found.weight() == 7);
    soon("the new weight", watch.wait_for(is_light)).await;
    assert!(registration.is_registered());
}

#[tokio::test]
async fn a_stop_in_an_outage_is_not_held_up() {
    let Some(mut stage) = Private::new().await else { return };
    let process = stage.open();
    let registration = process.register("users", at(ONE));
    soon("to be registered", registration.registered()).await;
    stage.break_down().await;
    let agreed = tokio::time::timeout(Duration::from_secs(4), registration.deregister()).await;
    assert_eq!(agreed, Ok(false));
    assert_eq!(process.tasks.shutdown(SOON).await, 0, "no task is left behind");
}

#[tokio::test]
async fn the_end_of_a_process_ends_its_registrations() {
    let Some(stage) = Private::new().await else { return };
    let process = Process::open(
        &format!("etcd://{}?ttl=1h", stage.server.address()),
        &Options::default(),
    );
    let registration = process.register("users", at(ONE));
    soon("to be registered", registration.registered()).await;
    assert_eq!(process.tasks.shutdown(SOON).await, 0, "no task is left behind");
    assert_eq!(stage.server.get(KEY).await, None);
    drop(registration);
}
