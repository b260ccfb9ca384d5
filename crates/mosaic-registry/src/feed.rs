//! One conversation with the registry for each service, however many watch it.
//!
//! The conversation belongs to a supervised task that lives as long as somebody watches, and some time longer: a watcher
//! that comes back shortly after finds what was known, even if the registry is down by then.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup, lock};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::instance::merged;
use crate::{Instance, ServiceName, Snapshot, Watch};

/// How long a service that nobody watches is still followed.
const LINGER: Duration = Duration::from_secs(60);
/// Pause after a panic of the task that follows.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// Unreadable entries of a service that are remembered, so as to be told once.
const GARBAGE_MAX: usize = 1000;

/// The services of a registry that are followed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feeds {
    publishers: Publishers,
    runtime: Runtime,
    tasks: TaskGroup,
}

impl Feeds {
    pub(crate) fn new(runtime: &Runtime, tasks: &TaskGroup) -> Self {
        Self {
            publishers: Publishers::default(),
            runtime: runtime.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Joins the conversation about `service`, or begins one with `follow`, which never returns while there is more to say.
    pub(crate) fn watch<T>(
        &self,
        service: &ServiceName,
        follow: impl Fn(Publisher) -> T + Clone + Send + Sync + 'static,
    ) -> Watch
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut publishers = lock(&self.publishers.0);
        if let Some(publisher) = publishers.get(service) {
            return publisher.watch();
        }
        let publisher = Publisher::new(service, &self.runtime);
        let watch = publisher.watch();
        publishers.insert(service.clone(), publisher.clone());
        drop(publishers);

        // Not all of ourselves: a task that held its group would keep it alive.
        let (publishers, stop) = (self.publishers.clone(), self.tasks.stop_signal());
        self.tasks.supervise("registry watch", PANIC_PAUSE, move || {
            let (publishers, publisher, mut stop) = (publishers.clone(), publisher.clone(), stop.clone());
            let follow = follow.clone();
            async move {
                let follow = async {
                    follow(publisher.clone()).await;
                    // Nothing more will be said, but it stays known while somebody listens.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = follow => {}
                    () = publishers.abandoned(&publisher) => {}
                    () = stop.stopped() => publishers.forget(&publisher),
                }
            }
        });
        watch
    }
}

/// The conversations that go on.
#[derive(Debug, Clone, Default)]
struct Publishers(Arc<Mutex<HashMap<ServiceName, Publisher>>>);

impl Publishers {
    /// Lets go of a service; with the task gone as well, its watches end.
    fn forget(&self, publisher: &Publisher) {
        lock(&self.0).remove(&publisher.service);
    }

    /// Waits until nobody has watched for some time, then forgets the service.
    async fn abandoned(&self, publisher: &Publisher) {
        loop {
            publisher.known.closed().await;
            tokio::time::sleep(LINGER).await;
            // Under the lock, so that nobody joins a conversation that is ending.
            let mut publishers = lock(&self.0);
            if publisher.known.is_closed() {
                publishers.remove(&publisher.service);
                return;
            }
        }
    }
}

/// Where a conversation puts what it learns about a service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    service: ServiceName,
    known: watch::Sender<Option<Arc<Snapshot>>>,
    is_live: Arc<AtomicBool>,
    is_loss_told: Arc<AtomicBool>,
    garbage: Arc<Mutex<HashSet<String>>>,
    runtime: Runtime,
}

impl Publisher {
    pub(crate) fn new(service: &ServiceName, runtime: &Runtime) -> Self {
        Self {
            service: service.clone(),
            known: watch::Sender::new(None),
            is_live: Arc::default(),
            is_loss_told: Arc::default(),
            garbage: Arc::default(),
            runtime: runtime.clone(),
        }
    }

    pub(crate) fn service(&self) -> &ServiceName {
        &self.service
    }

    fn watch(&self) -> Watch {
        Watch::new(&self.known, &self.is_live)
    }

    /// Passes on what the registry says; nothing happens if it is what is known already.
    pub(crate) fn publish(&self, instances: Vec<Instance>) {
        self.alive();
        let instances = merged(instances);
        let (service, n_instances) = (&self.service, instances.len());
        let mut before = None;
        let is_news = self.known.send_if_modified(|known| {
            before = known.as_ref().map(|known| known.instances().len());
            if known.as_ref().is_some_and(|known| known.instances() == instances) {
                return false;
            }
            let version = known.as_ref().map_or(0, |known| known.version()) + 1;
            *known = Some(Arc::new(Snapshot::new(instances, version, self.runtime.now())));
            true
        });
        if !is_news {
            return;
        }
        metrics::gauge!("mosaic_registry_instances", "service" => service.to_string()).set(n_instances as f64);
        match (before, n_instances) {
            (Some(1..), 0) => warn!(%service, "{service} has no instance any more"),
            (None | Some(0), _) => info!(%service, n_instances, "{service} has {n_instances} instances"),
            (Some(_), _) => debug!(%service, n_instances, "{service} has {n_instances} instances"),
        }
    }

    /// Reports that the registry answers; [`Publisher::publish`] does so as well.
    pub(crate) fn alive(&self) {
        let service = &self.service;
        self.is_live.store(true, Ordering::Relaxed);
        if self.is_loss_told.swap(false, Ordering::Relaxed) {
            info!(%service, "the registry is heard about {service} again");
        }
    }

    /// Reports that the registry does not answer: what is known stays.
    pub(crate) fn lost(&self, cause: &str) {
        let service = &self.service;
        self.restarted();
        self.is_live.store(false, Ordering::Relaxed);
        if !self.is_loss_told.swap(true, Ordering::Relaxed) {
            warn!(%service, cause, "the registry is not heard about {service}; going on with what is known");
        }
    }

    /// Reports that the conversation begins anew.
    pub(crate) fn restarted(&self) {
        metrics::counter!("mosaic_registry_watch_restarts_total", "service" => self.service.to_string()).increment(1);
    }

    /// Reports an entry that cannot be read and is left out.
    pub(crate) fn garbage(&self, entry: &str, why: &str) {
        let service = &self.service;
        let mut garbage = lock(&self.garbage);
        if garbage.len() < GARBAGE_MAX && garbage.insert(entry.to_owned()) {
            metrics::counter!("mosaic_registry_garbage_total", "service" => service.to_string()).increment(1);
            warn!(%service, entry, why, "an entry of {service} in the registry cannot be read and is left out");
        }
    }
}
