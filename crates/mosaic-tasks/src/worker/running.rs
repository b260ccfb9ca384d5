//! What a worker has in hand: its leases, until when they surely last, and how to stop each task.
//!
//! A worker that cannot reach the engine stops its tasks when their leases end by its own (monotonic) clock, measured from
//! before it asked: by then another worker may have them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::{Hold, Lease};

/// Why a task is stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody wants it cancelled: to be reported.
    Cancelled,
    /// The lease is lost: nothing to report.
    Lost,
}

struct Held {
    until: Instant,
    stop: Option<oneshot::Sender<Stop>>,
}

#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<Lease, Held>>);

impl Running {
    fn held(&self) -> MutexGuard<'_, HashMap<Lease, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a lease that lasts until `until`; the receiver is told to stop.
    pub(crate) fn add(&self, lease: Lease, until: Instant) -> oneshot::Receiver<Stop> {
        let (stop, stopped) = oneshot::channel();
        let held = Held {
            until,
            stop: Some(stop),
        };
        self.held().insert(lease, held);
        stopped
    }

    pub(crate) fn remove(&self, lease: &Lease) {
        self.held().remove(lease);
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.held().keys().copied().collect()
    }

    /// Takes the engine's answers to a heartbeat that was sent at `asked`.
    pub(crate) fn answered(&self, leases: &[Lease], holds: &[Hold], asked: Instant, lease: Duration) {
        let mut all = self.held();
        for (id, hold) in leases.iter().zip(holds) {
            let Some(held) = all.get_mut(id) else { continue };
            let stop = match hold {
                Hold::Kept => None,
                Hold::Cancelled => Some(Stop::Cancelled),
                Hold::Lost => Some(Stop::Lost),
            };
            if *hold != Hold::Lost {
                held.until = asked + lease;
            }
            tell(held, stop);
        }
    }

    /// Stops what may belong to another worker by `now`.
    pub(crate) fn stop_overdue(&self, now: Instant) {
        for held in self.held().values_mut().filter(|held| held.until <= now) {
            tell(held, Some(Stop::Lost));
        }
    }
}

fn tell(held: &mut Held, why: Option<Stop>) {
    if let Some(why) = why
        && let Some(stop) = held.stop.take()
    {
        // Nobody listens any more if the task has just ended.
        let _ = stop.send(why);
    }
}
