//! The other end of a registration: what the task that keeps it knows and reports.
//!
//! Levels and not events: the task may sleep through any number of changes and then acts on the last. What changes is
//! told to the log and the metrics here, once a change, so that no engine tells it differently.

use mosaic_core::{StopSignal, TaskGroup};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::registration::{Part, Registration};
use crate::{Instance, ServiceName};

/// What the owner of a registration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Listed(Instance),
    Gone,
}

/// How far the registry agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Not yet.
    Pending,
    /// Not yet, and an attempt has failed.
    Waiting,
    Listed,
    /// It was listed and is not any more.
    Lost,
    /// Taken away; the task has ended.
    Ended {
        is_confirmed: bool,
    },
}

/// Held by the task that keeps a registration.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    service: ServiceName,
    wanted: watch::Receiver<Wanted>,
    level: watch::Sender<Level>,
    stop: StopSignal,
}

impl Keeper {
    /// Makes the two ends of a registration.
    pub(crate) fn new(service: &ServiceName, instance: Instance, tasks: &TaskGroup) -> (Registration, Self) {
        let (wanted, seen) = watch::channel(Wanted::Listed(instance));
        let (level, reported) = watch::channel(Level::Pending);
        let keeper = Self {
            service: service.clone(),
            wanted: seen,
            level,
            stop: tasks.stop_signal(),
        };
        let part = Part {
            wanted,
            level: reported,
        };
        (Registration::of(part), keeper)
    }

    /// Returns what is wanted now. A process that stops wants its instances gone.
    pub(crate) fn wanted(&mut self) -> Wanted {
        let wanted = self.wanted.borrow_and_update().clone();
        if self.stop.is_stopping() { Wanted::Gone } else { wanted }
    }

    /// Waits until something else is wanted than [`Keeper::wanted`] last said. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            changed = self.wanted.changed() => {
                // The registration says `Gone` before it goes, so an error has been seen as that.
                if changed.is_err() {
                    self.stop.stopped().await;
                }
            }
            () = self.stop.stopped() => {}
        }
    }

    /// Reports that the registry lists the instance.
    pub(crate) fn listed(&self, instance: &Instance) {
        let (service, address) = (&self.service, &instance.address);
        match self.level.send_replace(Level::Listed) {
            Level::Listed => {}
            Level::Lost => {
                metrics::counter!("mosaic_registry_reregistrations_total", "service" => service.to_string())
                    .increment(1);
                info!(%service, %address, "registered {service} at {address} again");
            }
            Level::Pending | Level::Waiting | Level::Ended { .. } => {
                metrics::counter!("mosaic_registry_registrations_total", "service" => service.to_string()).increment(1);
                info!(%service, %address, "registered {service} at {address}");
            }
        }
    }

    /// Reports that the registry does not list the instance, or must have ceased to.
    pub(crate) fn lost(&self, cause: &str) {
        let service = &self.service;
        let level = *self.level.borrow();
        match level {
            Level::Pending => {
                self.level.send_replace(Level::Waiting);
                warn!(%service, cause, "{service} cannot be registered yet, trying until it is");
            }
            Level::Listed => {
                self.level.send_replace(Level::Lost);
                warn!(%service, cause, "{service} is registered no more, trying until it is");
            }
            Level::Waiting | Level::Lost | Level::Ended { .. } => {}
        }
    }

    /// Reports that the instance was taken away, or at least that nobody renews it.
    pub(crate) fn ended(&self, is_confirmed: bool) {
        let service = &self.service;
        info!(%service, is_confirmed, "{service} is deregistered");
        self.level.send_replace(Level::Ended { is_confirmed });
    }
}
