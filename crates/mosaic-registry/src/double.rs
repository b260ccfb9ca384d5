//! Two registries at once, for the time in which a fleet moves from one to the other.
//!
//! Both are written. The first is read while it names anybody; the second while the first has never answered or names
//! nobody, which is how the first looks before anyone has moved. Whichever is read, its outage keeps what is known.

use std::sync::Arc;

use mosaic_core::{Runtime, TaskGroup};

use crate::feed::{Feeds, Publisher};
use crate::{Instance, Registration, Registry, ServiceName, Snapshot, Watch};

#[derive(Debug)]
pub(crate) struct DoubleRegistry {
    first: Arc<dyn Registry>,
    second: Arc<dyn Registry>,
    feeds: Feeds,
}

impl DoubleRegistry {
    pub(crate) fn new(
        first: Arc<dyn Registry>,
        second: Arc<dyn Registry>,
        runtime: &Runtime,
        tasks: &TaskGroup,
    ) -> Self {
        let feeds = Feeds::new(runtime, tasks);
        Self { first, second, feeds }
    }
}

impl Registry for DoubleRegistry {
    fn register(&self, service: &ServiceName, instance: Instance) -> Registration {
        let first = self.first.register(service, instance.clone());
        first.join(self.second.register(service, instance))
    }

    fn watch(&self, service: &ServiceName) -> Watch {
        let (first, second) = (self.first.watch(service), self.second.watch(service));
        let sources = [first.clone(), second.clone()];
        let watch = self.feeds.watch(service, move |publisher| {
            let [first, second] = sources.clone();
            follow(first, second, publisher)
        });
        watch.made_of([&first, &second])
    }
}

async fn follow(mut first: Watch, mut second: Watch, publisher: Publisher) {
    loop {
        if let Some(snapshot) = choose(first.current(), second.current()) {
            publisher.publish(snapshot.instances().to_vec());
        }
        let changed = tokio::select! {
            changed = first.changed() => changed,
            changed = second.changed() => changed,
        };
        if changed.is_none() {
            return;
        }
    }
}

/// Returns the snapshot to believe.
fn choose(first: Option<Arc<Snapshot>>, second: Option<Arc<Snapshot>>) -> Option<Arc<Snapshot>> {
    let names_somebody = |known: &Arc<Snapshot>| !known.instances().is_empty();
    first
        .clone()
        .filter(names_somebody)
        .or_else(|| second.clone().filter(names_somebody))
        .or(first)
        .or(second)
}

#[cfg(test)]
mod tests {
    use mosaic_core::Timestamp;

    use super::*;

    #[test]
    fn the_first_is_believed_if_it_names_anybody() {
        let snapshot = |addresses: &[&str]| {
            let instances = addresses
                .iter()
                .map(|text| Instance::new(text.parse().unwrap()))
                .collect();
            Some(Arc::new(Snapshot::new(instances, 1, Timestamp::EPOCH)))
        };
        let (a, b, nobody) = (snapshot(&["a:1"]), snapshot(&["b:1"]), snapshot(&[]));
        assert_eq!(choose(a.clone(), b.clone()), a);
        assert_eq!(choose(nobody.clone(), b.clone()), b);
        assert_eq!(choose(None, b.clone()), b);
        assert_eq!(choose(a.clone(), None), a);
        assert_eq!(choose(nobody.clone(), None), nobody);
        assert_eq!(choose(None, nobody.clone()), nobody);
        assert_eq!(choose(None, None), None);
    }
}
