//! The handle of somebody who is announced.
//!
//! It holds what is wanted; a background task makes the registry agree and goes on for ever. Holding it is being
//! announced: dropped, it asks the task to take the entry away, but nobody waits for that, so an orderly stop calls
//! [`Registration::deregister`] before it drains.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::keeper::{Level, Wanted};

/// How long [`Registration::deregister`] waits: a registry that is down must not delay a stop.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(3);

/// An announced instance; see [`crate::Registry::register`].
///
/// Dropping it takes the instance away in the background, as far as the process still lives to do so; otherwise its
/// lease ends by itself.
#[derive(Debug)]
#[must_use = "an instance is announced for as long as its registration is held"]
pub struct Registration {
    parts: Vec<Part>,
}

/// The registration in one registry.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) level: watch::Receiver<Level>,
}

impl Registration {
    /// The registration in a registry that others write: nothing to do, nothing to wait for.
    pub(crate) const fn by_others() -> Self {
        Self { parts: Vec::new() }
    }

    pub(crate) fn of(part: Part) -> Self {
        Self { parts: vec![part] }
    }

    /// Two registrations held as one.
    pub(crate) fn join(mut self, mut other: Self) -> Self {
        self.parts.append(&mut other.parts);
        self
    }

    /// Returns whether the instance is listed now, as far as this process knows; in two registries: in both.
    pub fn is_registered(&self) -> bool {
        self.parts.iter().all(|part| *part.level.borrow() == Level::Listed)
    }

    /// Waits until the instance is listed. Cancel safe. Nothing on the way of a request or a start waits for this.
    pub async fn registered(&self) {
        while !self.is_registered() {
            for part in &self.parts {
                let mut level = part.level.clone();
                if level.wait_for(|level| *level == Level::Listed).await.is_err() {
                    // The task was aborted at the end of the process: never again.
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Replaces what the instance says of itself, such as its weight; announced in the background.
    pub fn update(&self, metadata: &BTreeMap<String, String>) {
        for part in &self.parts {
            part.wanted.send_if_modified(|wanted| match wanted {
                Wanted::Listed(instance) if instance.metadata != *metadata => {
                    instance.metadata.clone_from(metadata);
                    true
                }
                Wanted::Listed(_) | Wanted::Gone => false,
            });
        }
    }

    /// Takes the instance away and waits for it, at most 3 s.
    ///
    /// Returns whether the registry has agreed; otherwise the entry ends with its lease. Dropped early, the rest happens
    /// in the background.
    pub async fn deregister(self) -> bool {
        self.ask_to_go();
        let all_gone = async {
            for part in &self.parts {
                let mut level = part.level.clone();
                let ended = level.wait_for(|level| matches!(level, Level::Ended { .. })).await;
                if !ended.is_ok_and(|level| *level == Level::Ended { is_confirmed: true }) {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DEREGISTER_TIMEOUT, all_gone)
            .await
            .unwrap_or(false)
    }

    fn ask_to_go(&self) {
        for part in &self.parts {
            part.wanted.send_replace(Wanted::Gone);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.ask_to_go();
    }
}
