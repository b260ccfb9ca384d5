//! Moves events of one topic from a member of a group to the hands, and positions back.
//!
//! One task owns the member and all that is in hand, so there is nothing to lock. The member is asked without a break while runs
//! end and others start: a question to a database that is dropped halfway costs its connection. A partition that is revoked gets
//! nothing new, is committed when its runs have ended, and released; one that is lost is dropped with its runs. What was
//! done and not committed comes again: the inbox knows it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Error, Result, StopSignal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::hands::{Ended, Hands};
use super::run::Shop;
use crate::bus::{Change, Member};

/// Pause after the bus failed.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    shop: Arc<Shop>,
    member: Box<dyn Member>,
    hands: Hands,
    ended: mpsc::UnboundedReceiver<Ended>,
    commit_at: Instant,
    /// After a failure the member is left alone until then.
    ask_at: Instant,
}

impl Driver {
    pub(super) fn new(shop: Arc<Shop>, member: Box<dyn Member>) -> Self {
        let (hands, ended) = Hands::new(shop.clone());
        Self {
            shop,
            member,
            hands,
            ended,
            commit_at: Instant::now(),
            ask_at: Instant::now(),
        }
    }

    /// Works until asked to stop, then finishes what is begun, commits and leaves.
    pub(super) async fn drive(mut self, mut stop: StopSignal, mut paused: watch::Receiver<bool>) {
        while !stop.is_stopping() {
            if let Some(change) = self.ask(&mut stop, &mut paused).await {
                self.take(change);
            }
            if Instant::now() >= self.commit_at {
                self.commit_all().await;
            }
            self.release_over().await;
            for partition in self.hands.take_roomy() {
                self.member.resume(partition);
            }
        }
        self.stop().await;
    }

    /// Asks the member, and meanwhile ends and starts runs; returns without a change when the member is needed otherwise.
    async fn ask(&mut self, stop: &mut StopSignal, paused: &mut watch::Receiver<bool>) -> Option<Result<Change>> {
        let mut next = pin!(ask(self.ask_at, &mut self.member));
        loop {
            let is_paused = *paused.borrow_and_update();
            let batch_at = self.hands.start_runs(is_paused);
            let is_to_commit = self.hands.has_done();
            tokio::select! {
                biased;
                () = stop.stopped() => return None,
                Some(ended) = self.ended.recv() => {
                    self.hands.ended(&ended);
                    while let Ok(ended) = self.ended.try_recv() {
                        self.hands.ended(&ended);
                    }
                }
                // Nobody can change it any more once the sender is gone, and then the stop is near.
                _ = paused.changed() => {}
                () = sleep_until(self.commit_at), if is_to_commit => return None,
                () = until(batch_at) => {}
                change = &mut next => return Some(change),
            }
            if self.hands.needs_member() {
                return None;
            }
        }
    }

    fn take(&mut self, change: Result<Change>) {
        match change {
            Ok(Change::Assigned(partition)) => self.hands.assigned(partition),
            Ok(Change::Events { partition, events }) => {
                if self.hands.push(partition, events) {
                    self.member.pause(partition);
                }
            }
            Ok(Change::Revoked(partition)) => {
                self.hands.end(partition);
                self.count("events_rebalances_total");
            }
            Ok(Change::Lost(partition)) => {
                self.hands.drop(partition);
                self.count("events_rebalances_total");
            }
            Err(error) => self.failed(&error, "cannot read events"),
        }
    }

    async fn commit_all(&mut self) {
        self.commit_at = Instant::now() + self.shop.options.commit_every;
        for partition in self.hands.partitions() {
            self.commit(partition).await;
        }
    }

    async fn commit(&mut self, partition: u32) {
        let Some(done) = self.hands.take_done(partition) else {
            return;
        };
        match self.member.commit(partition, done).await {
            Ok(()) => {}
            // The member will say that it is lost.
            Err(error) if error.reason() == "EVENTS_FENCED" => {}
            Err(error) => {
                self.hands.put_back(partition, done);
                self.failed(&error, "cannot commit positions");
            }
        }
    }

    async fn release_over(&mut self) {
        for partition in self.hands.over() {
            self.commit(partition).await;
            match self.member.release(partition).await {
                Ok(()) => self.hands.drop(partition),
                Err(error) => {
                    self.failed(&error, "cannot release a partition");
                    // Others wait for it, and our seat stays warm: it must be tried again.
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn stop(mut self) {
        let deadline = Instant::now() + self.shop.options.drain;
        for partition in self.hands.partitions() {
            self.hands.end(partition);
        }
        while self.hands.is_busy() {
            self.hands.start_runs(false);
            match timeout_at(deadline, self.ended.recv()).await {
                Ok(Some(ended)) => self.hands.ended(&ended),
                _ => {
                    tracing::warn!(
                        group = self.shop.label,
                        "runs were cut at the end of the drain: their events come again"
                    );
                    break;
                }
            }
        }
        self.commit_all().await;
        self.hands.runs.shutdown(Duration::ZERO).await;
        if let Err(error) = self.member.leave().await {
            self.failed(&error, "cannot leave the group");
        }
    }

    fn failed(&mut self, error: &Error, what: &str) {
        self.ask_at = Instant::now() + PAUSE;
        tracing::warn!(group = self.shop.label, cause = error.cause_chain(), "{what}: {error}");
        self.count("events_bus_failures_total");
    }

    fn count(&self, name: &'static str) {
        let labels = [
            ("group", self.shop.label.clone()),
            ("topic", self.shop.topic.to_string()),
        ];
        metrics::counter!(name, &labels).increment(1);
    }
}

/// Asks the member, not before `at`. Cancel safe as the member is.
async fn ask(at: Instant, member: &mut Box<dyn Member>) -> Result<Change> {
    sleep_until(at).await;
    member.next().await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
