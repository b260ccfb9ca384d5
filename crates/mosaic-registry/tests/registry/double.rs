//! Two registries at once.

use async_trait::async_trait;
use mosaic_core::Runtime;
use mosaic_registry::{Instance, Options};

use crate::contract::contract;
use crate::stage::{Process, Registrations, Stage, at, sees};

struct Double {
    name: String,
    writer: Process,
    registrations: Registrations,
}

impl Double {
    fn url(&self) -> String {
        format!("memory:{0}-new | memory:{0}-old", self.name)
    }

    fn open_one(&self, which: &str) -> Process {
        Process::open(&format!("memory:{}-{which}", self.name), &Options::default())
    }
}

#[async_trait]
impl Stage for Double {
    async fn new() -> Option<Self> {
        let mut stage = Self {
            name: Runtime::system().random_hex::<8>(),
            writer: Process::open("memory:", &Options::default()),
            registrations: Registrations::default(),
        };
        stage.writer = stage.open();
        Some(stage)
    }

    fn open(&self) -> Process {
        Process::open(&self.url(), &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        self.registrations.announce(&self.writer, service, instance).await;
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        self.registrations.withdraw(service, address).await;
    }
}

contract!(Double);

#[tokio::test]
async fn both_are_written() {
    let stage = Double::new().await.unwrap();
    let registration = stage.writer.register("users", at("10.0.0.1:9080"));
    for which in ["new", "old"] {
        sees(&mut stage.open_one(which).watch("users"), &["10.0.0.1:9080"]).await;
    }
    assert!(registration.deregister().await);
    for which in ["new", "old"] {
        sees(&mut stage.open_one(which).watch("users"), &[]).await;
    }
}

#[tokio::test]
async fn the_second_is_read_until_the_first_names_somebody() {
    let stage = Double::new().await.unwrap();
    let mut watch = stage.open().watch("users");
    let (old, new) = (stage.open_one("old"), stage.open_one("new"));
    let _not_moved = old.register("users", at("10.0.0.1:9080"));
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    let moved = new.register("users", at("10.0.0.2:9080"));
    sees(&mut watch, &["10.0.0.2:9080"]).await;
    assert!(moved.deregister().await);
    sees(&mut watch, &["10.0.0.1:9080"]).await;
}

#[tokio::test]
async fn the_second_does_while_the_first_is_away() {
    let name = Runtime::system().random_hex::<8>();
    // Port 1 refuses.
    let process = Process::open(&format!("etcd://127.0.0.1:1|memory:{name}"), &Options::default());
    let mut watch = process.watch("users");
    let registration = process.register("users", at("10.0.0.1:9080"));
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    assert!(watch.is_live(), "one of them is heard");
    assert!(
        !registration.is_registered(),
        "in both, or it would be a promise too much"
    );
    assert!(
        registration.deregister().await,
        "there is nothing to take out of the first"
    );
    sees(&mut watch, &[]).await;
}

#[tokio::test]
async fn with_both_away_nothing_is_known_and_nothing_is_live() {
    let process = Process::open("etcd://127.0.0.1:1|etcd://127.0.0.1:1", &Options::default());
    let mut watch = process.watch("users");
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), watch.changed()).await;
    assert!(early.is_err());
    assert_eq!((watch.current(), watch.is_live()), (None, false));
}
