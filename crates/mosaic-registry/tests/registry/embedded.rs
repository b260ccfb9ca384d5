//! Memory and the static list.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mosaic_core::{Runtime, TaskGroup};
use mosaic_registry::{Instance, Options, RegistryError, open};

use crate::contract::contract;
use crate::stage::{Process, Registrations, Stage, at, name, sees, soon};

struct Memory {
    name: String,
    writer: Process,
    registrations: Registrations,
}

#[async_trait]
impl Stage for Memory {
    async fn new() -> Option<Self> {
        let name = Runtime::system().random_hex::<8>();
        let writer = Process::open(&format!("memory:{name}"), &Options::default());
        Some(Self {
            name,
            writer,
            registrations: Registrations::default(),
        })
    }

    fn open(&self) -> Process {
        Process::open(&format!("memory:{}", self.name), &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        self.registrations.announce(&self.writer, service, instance).await;
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        self.registrations.withdraw(service, address).await;
    }
}

contract!(Memory);

#[tokio::test]
async fn a_dropped_registration_disappears() {
    let process = Process::open("memory:", &Options::default());
    let mut watch = process.watch("users");
    let registration = process.register("users", at("10.0.0.1:9080"));
    assert!(registration.is_registered(), "at once, within a process");
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    drop(registration);
    sees(&mut watch, &[]).await;
}

#[tokio::test]
async fn a_changed_weight_is_seen() {
    let process = Process::open("memory:", &Options::default());
    let mut watch = process.watch("users");
    let registration = process.register("users", at("10.0.0.1:9080"));
    registration.update(&BTreeMap::from([("weight".to_owned(), "7".to_owned())]));
    let is_light = |snapshot: &mosaic_registry::Snapshot| snapshot.instances().iter().any(|found| found.weight() == 7);
    soon("the new weight", watch.wait_for(is_light)).await;
}

#[tokio::test]
async fn the_end_of_a_process_ends_its_registrations() {
    let (stage, mut watch) = {
        let stage = Memory::new().await.unwrap();
        let watch = stage.open().watch("users");
        (stage, watch)
    };
    let process = stage.open();
    let registration = process.register("users", at("10.0.0.1:9080"));
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    assert_eq!(
        process.tasks.shutdown(crate::stage::SOON).await,
        0,
        "no task is left behind"
    );
    sees(&mut watch, &[]).await;
    drop(registration);
}

#[tokio::test]
async fn the_end_of_a_process_ends_its_watches() {
    for url in ["memory:", "static:", "memory:|memory:"] {
        let process = Process::open(url, &Options::default());
        let mut watch = process.watch("users");
        sees(&mut watch, &[]).await;
        assert_eq!(
            process.tasks.shutdown(crate::stage::SOON).await,
            0,
            "no task is left behind"
        );
        assert_eq!(soon("the end", watch.changed()).await, None);
        assert!(watch.current().is_some(), "what was known stays known");
    }
}

#[tokio::test]
async fn memory_without_a_name_is_nobody_elses() {
    let (one, other) = (
        Process::open("memory:", &Options::default()),
        Process::open("memory:", &Options::default()),
    );
    let _registration = one.register("users", at("10.0.0.1:9080"));
    sees(&mut other.watch("users"), &[]).await;
}

#[tokio::test]
async fn a_static_list_is_known_as_written_and_registering_changes_nothing() {
    let listed = vec![
        at("10.0.0.2:9080").with("weight", "5"),
        at("10.0.0.1:9080"),
        at("10.0.0.1:9080"),
    ];
    let options = Options {
        services: BTreeMap::from([(name("users"), listed)]),
    };
    let process = Process::open("static:", &options);
    let registration = process.register("users", at("10.0.0.9:9080"));
    assert!(registration.is_registered());
    soon("nothing", registration.registered()).await;
    let snapshot = sees(&mut process.watch("users"), &["10.0.0.1:9080", "10.0.0.2:9080"]).await;
    assert_eq!(snapshot.instances()[1].weight(), 5);
    sees(&mut process.watch("nobody"), &[]).await;
    assert!(soon("nothing", registration.deregister()).await);
}

#[tokio::test]
async fn mistakes_in_a_url_are_told() {
    let tasks = TaskGroup::new(|_| {});
    let error = |url: &str| open(url, &Options::default(), &Runtime::system(), &tasks).err();
    for url in ["", "memory", "consul://a:1", "memory:|consul:", "|"] {
        assert_eq!(error(url), Some(RegistryError::Scheme), "{url}");
    }
    for url in ["memory:?a=b", "static:list", "static://host"] {
        assert!(matches!(error(url), Some(RegistryError::Url(_))), "{url}");
    }
}
