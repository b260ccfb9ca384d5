//! The registry of one process (`memory:`): for everything in one process, and for tests.
//!
//! `memory:` is one of its own for each opening; `memory:name` is the same for all of the process that say this name,
//! which is how a test has several "processes" find each other. It never fails and forgets nothing, but entries go with
//! the task that keeps them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup};
use tokio::sync::watch;

use crate::feed::Feeds;
use crate::keeper::{Keeper, Wanted};
use crate::{Instance, Registration, Registry, ServiceName, Watch};

static SHARED: LazyLock<Mutex<HashMap<String, watch::Sender<Entries>>>> = LazyLock::new(Mutex::default);

/// Who is registered, by the number of the registration: one address may be there twice.
#[derive(Debug, Default)]
struct Entries {
    n_drawn: u64,
    services: HashMap<ServiceName, BTreeMap<u64, Instance>>,
}

#[derive(Debug)]
pub(crate) struct MemoryRegistry {
    entries: watch::Sender<Entries>,
    feeds: Feeds,
    tasks: TaskGroup,
}

impl MemoryRegistry {
    /// Opens the registry that this process knows as `name`, or a new one without a name.
    pub(crate) fn open(name: &str, runtime: &Runtime, tasks: &TaskGroup) -> Self {
        let entries = if name.is_empty() {
            watch::Sender::default()
        } else {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            shared.entry(name.to_owned()).or_default().clone()
        };
        Self {
            entries,
            feeds: Feeds::new(runtime, tasks),
            tasks: tasks.clone(),
        }
    }
}

impl Registry for MemoryRegistry {
    fn register(&self, service: &ServiceName, instance: Instance) -> Registration {
        let (registration, keeper) = Keeper::new(service, instance, &self.tasks);
        let mut number = 0;
        self.entries.send_modify(|entries| {
            entries.n_drawn += 1;
            number = entries.n_drawn;
        });
        let (entries, service) = (self.entries.clone(), service.clone());
        // Now and not in the task: within a process one may be found as soon as one has said so.
        apply(&entries, &service, number, &mut keeper.clone());
        self.tasks.supervise("registration", Duration::from_secs(1), move || {
            let (entries, service, mut keeper) = (entries.clone(), service.clone(), keeper.clone());
            async move {
                while apply(&entries, &service, number, &mut keeper) {
                    keeper.changed().await;
                }
            }
        });
        registration
    }

    fn watch(&self, service: &ServiceName) -> Watch {
        let entries = self.entries.clone();
        self.feeds.watch(service, move |publisher| {
            let mut entries = entries.subscribe();
            async move {
                loop {
                    let instances = {
                        let entries = entries.borrow_and_update();
                        let instances = entries.services.get(publisher.service());
                        instances.map_or_else(Vec::new, |instances| instances.values().cloned().collect())
                    };
                    publisher.publish(instances);
                    if entries.changed().await.is_err() {
                        return;
                    }
                }
            }
        })
    }
}

/// Makes the entries agree with what is wanted; returns whether more may come.
fn apply(entries: &watch::Sender<Entries>, service: &ServiceName, number: u64, keeper: &mut Keeper) -> bool {
    let wanted = keeper.wanted();
    entries.send_if_modified(|entries| {
        let instances = entries.services.entry(service.clone()).or_default();
        match &wanted {
            Wanted::Listed(instance) => instances.insert(number, instance.clone()).as_ref() != Some(instance),
            Wanted::Gone => instances.remove(&number).is_some(),
        }
    });
    match wanted {
        Wanted::Listed(instance) => {
            keeper.listed(&instance);
            true
        }
        Wanted::Gone => {
            keeper.ended(true);
            false
        }
    }
}
