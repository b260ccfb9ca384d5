//! A list in the configuration (`static:`), for what does not move.
//!
//! Registering succeeds and changes nothing: the list was written by somebody who knows. A service that is not in the
//! list is known to have no instance, which lets a caller fail at once.

use std::collections::BTreeMap;

use mosaic_core::{Runtime, TaskGroup};

use crate::feed::Feeds;
use crate::{Instance, Registration, Registry, ServiceName, Watch};

#[derive(Debug)]
pub(crate) struct FixedRegistry {
    services: BTreeMap<ServiceName, Vec<Instance>>,
    feeds: Feeds,
}

impl FixedRegistry {
    pub(crate) fn new(services: BTreeMap<ServiceName, Vec<Instance>>, runtime: &Runtime, tasks: &TaskGroup) -> Self {
        let feeds = Feeds::new(runtime, tasks);
        Self { services, feeds }
    }
}

impl Registry for FixedRegistry {
    fn register(&self, _service: &ServiceName, _instance: Instance) -> Registration {
        Registration::by_others()
    }

    fn watch(&self, service: &ServiceName) -> Watch {
        let instances = self.services.get(service).cloned().unwrap_or_default();
        self.feeds.watch(service, move |publisher| {
            let instances = instances.clone();
            async move { publisher.publish(instances) }
        })
    }
}
