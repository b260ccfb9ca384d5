//! The reading end: the last snapshot of a service, and waiting for the next.
//!
//! Reading never waits and never fails. A level rather than a stream of changes: who is slow sees the last state, not a
//! queue of old ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::Snapshot;

/// Follows the instances of a service; see [`crate::Registry::watch`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watch {
    known: watch::Receiver<Option<Arc<Snapshot>>>,
    /// One is enough.
    is_live: Vec<Arc<AtomicBool>>,
}

impl Watch {
    pub(crate) fn new(known: &watch::Sender<Option<Arc<Snapshot>>>, is_live: &Arc<AtomicBool>) -> Self {
        let mut known = known.subscribe();
        // What is there already is news to this one.
        known.mark_changed();
        Self {
            known,
            is_live: vec![is_live.clone()],
        }
    }

    /// Lets this watch be live while one of `sources`, which it is made of, is.
    pub(crate) fn made_of(mut self, sources: [&Self; 2]) -> Self {
        let flags = sources.into_iter().flat_map(|source| &source.is_live);
        self.is_live = flags.cloned().collect();
        self
    }

    /// Returns the last that is known: `None` until the registry has answered once, and then never again `None`.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.known.borrow().clone()
    }

    /// Returns whether the registry is being heard; while it is not, what is known may be out of date.
    pub fn is_live(&self) -> bool {
        self.is_live.iter().any(|is_live| is_live.load(Ordering::Relaxed))
    }

    /// Waits for a snapshot that this watch has not waited for before; the present one is the first.
    ///
    /// `None` when the tasks of the registry have ended with the process. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            self.known.changed().await.ok()?;
            let snapshot = self.known.borrow_and_update().clone();
            if snapshot.is_some() {
                return snapshot;
            }
        }
    }

    /// Waits until the last that is known satisfies `is_enough`; at once if it does already.
    ///
    /// `None` when the tasks of the registry have ended with the process. Cancel safe.
    pub async fn wait_for(&mut self, mut is_enough: impl FnMut(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        let known = self
            .known
            .wait_for(|known| known.as_deref().is_some_and(&mut is_enough))
            .await;
        known.ok()?.clone()
    }
}
