//! What a registry under test must be able to do, and the little that all tests share.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Runtime, TaskGroup};
use mosaic_registry::{Instance, Options, Registration, Registry, ServiceName, Snapshot, Watch, open};

/// Longest wait for anything that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A registry and whoever writes it.
#[async_trait]
pub(crate) trait Stage: Sized + Send {
    /// Whether instances can say anything beside their address.
    const HAS_METADATA: bool = true;

    /// Sets up; `None`, with a line that says so, if the machine lacks what it takes.
    async fn new() -> Option<Self>;
    /// Opens the registry as a process of its own would.
    fn open(&self) -> Process;
    /// Makes an instance be listed.
    async fn announce(&mut self, service: &str, instance: Instance);
    /// Makes an instance not be listed.
    async fn withdraw(&mut self, service: &str, address: &str);
}

/// A stage whose registry can be away.
#[async_trait]
pub(crate) trait Breakable: Stage {
    /// Ends the registry.
    async fn break_down(&mut self);
    /// Starts it with what it knew.
    async fn mend(&mut self);
}

/// A process that has opened a registry.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) tasks: TaskGroup,
}

impl Process {
    pub(crate) fn open(url: &str, options: &Options) -> Self {
        let tasks = TaskGroup::new(|panic| eprintln!("panic in {}: {}", panic.task, panic.message));
        let registry = open(url, options, &Runtime::system(), &tasks).expect("a URL without mistakes");
        Self { registry, tasks }
    }

    pub(crate) fn watch(&self, service: &str) -> Watching {
        Watching {
            watch: self.registry.watch(&name(service)),
            _process: self.clone(),
        }
    }

    pub(crate) fn register(&self, service: &str, instance: Instance) -> Registration {
        self.registry.register(&name(service), instance)
    }
}

/// A watch, and the process that it ends with.
#[derive(Debug, Clone)]
pub(crate) struct Watching {
    watch: Watch,
    _process: Process,
}

impl Deref for Watching {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl DerefMut for Watching {
    fn deref_mut(&mut self) -> &mut Watch {
        &mut self.watch
    }
}

/// The registrations of a stage that is written by registering.
#[derive(Debug, Default)]
pub(crate) struct Registrations(Vec<(String, String, Registration)>);

impl Registrations {
    pub(crate) async fn announce(&mut self, process: &Process, service: &str, instance: Instance) {
        let address = instance.address.to_string();
        let registration = process.register(service, instance);
        soon("to be registered", registration.registered()).await;
        self.0.push((service.to_owned(), address, registration));
    }

    pub(crate) async fn withdraw(&mut self, service: &str, address: &str) {
        let is_meant = |(of, at, _): &(String, String, Registration)| (of.as_str(), at.as_str()) == (service, address);
        let position = self.0.iter().position(is_meant).expect("an announced instance");
        let (_, _, registration) = self.0.remove(position);
        assert!(registration.deregister().await, "the registry confirms the end");
    }
}

pub(crate) fn name(text: &str) -> ServiceName {
    text.parse().expect("a service name")
}

pub(crate) fn at(address: &str) -> Instance {
    Instance::new(address.parse().expect("an address"))
}

/// Waits for what must happen.
#[track_caller]
pub(crate) fn soon<T>(what: &str, happens: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(SOON, happens).await {
            Ok(value) => value,
            Err(_) => panic!("not within {SOON:?}: {what} (at {caller})"),
        }
    }
}

/// Waits until the watch knows exactly these addresses.
#[track_caller]
pub(crate) fn sees<'a>(watch: &'a mut Watch, addresses: &'a [&'a str]) -> impl Future<Output = Arc<Snapshot>> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let known = tokio::time::timeout(SOON, watch.wait_for(|snapshot| addresses_of(snapshot) == addresses)).await;
        match known {
            Ok(Some(snapshot)) => snapshot,
            _ => panic!(
                "not within {SOON:?}: {addresses:?}, but {:?} (at {caller})",
                watch.current()
            ),
        }
    }
}

pub(crate) fn addresses_of(snapshot: &Snapshot) -> Vec<String> {
    let addresses = snapshot.instances().iter().map(|instance| instance.address.to_string());
    addresses.collect()
}

/// Returns whether engines must be there.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
pub(crate) fn are_engines_required() -> bool {
    std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required")
}
