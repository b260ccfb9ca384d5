//! What a consumer has in hand of a topic: its partitions with their lanes, and the runs that are going.

use std::collections::BTreeMap;
use std::sync::Arc;

use mosaic_core::TaskGroup;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::group::BatchSize;
use super::lanes::Lanes;
use super::run::{Phase, Shop};
use crate::bus::Delivered;

/// Events of one key in a run.
const RUN_MAX: usize = 64;

/// What a run did.
pub(super) struct Ended {
    partition: u32,
    epoch: u64,
    lane: String,
    done: Vec<u64>,
    /// Were events of the run left?
    is_cut: bool,
}

/// A partition that we have.
struct Work {
    /// Tells this assignment of the partition from an earlier one.
    epoch: u64,
    lanes: Lanes,
    phase: watch::Sender<Phase>,
    /// Dropped with the partition, and with it go its runs.
    alive: watch::Sender<()>,
    is_paused: bool,
    /// When the oldest waiting event of a batch came.
    waits_since: Option<Instant>,
}

impl Work {
    fn is_ending(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ending(_))
    }

    /// Returns up to which position events may start; all, unless the partition is ending.
    fn last(&self) -> Option<u64> {
        match *self.phase.borrow() {
            Phase::Working(_) => Some(u64::MAX),
            Phase::Ending(last) => last,
        }
    }

    /// Returns when a batch must start that is not full and may still become so.
    fn full_at(&self, size: BatchSize) -> Option<Instant> {
        let at = self.waits_since? + size.wait;
        let may_wait = (1..size.events).contains(&self.lanes.n_ready()) && !self.is_ending();
        (may_wait && Instant::now() < at).then_some(at)
    }

    /// Is it to be released: ending, and all is done that is to be?
    fn is_over(&self) -> bool {
        self.is_ending() && self.lanes.n_running() == 0 && !self.lanes.has_ready(self.last())
    }
}

pub(super) struct Hands {
    shop: Arc<Shop>,
    work: BTreeMap<u32, Work>,
    epoch: u64,
    pub(super) runs: TaskGroup,
    tell: mpsc::UnboundedSender<Ended>,
}

impl Hands {
    /// Makes empty hands; the receiver is told of runs that ended, no more of them than are in hand.
    pub(super) fn new(shop: Arc<Shop>) -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (tell, ended) = mpsc::unbounded_channel();
        let runs = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "a run panicked"));
        let hands = Self {
            shop,
            work: BTreeMap::new(),
            epoch: 0,
            runs,
            tell,
        };
        (hands, ended)
    }

    pub(super) fn assigned(&mut self, partition: u32) {
        self.epoch += 1;
        let work = Work {
            epoch: self.epoch,
            lanes: Lanes::default(),
            phase: watch::Sender::new(Phase::Working(None)),
            alive: watch::Sender::new(()),
            is_paused: false,
            waits_since: None,
        };
        self.work.insert(partition, work);
    }

    /// Lets runs of a partition end.
    pub(super) fn end(&self, partition: u32) {
        if let Some(work) = self.work.get(&partition) {
            Phase::end(&work.phase);
        }
    }

    /// Drops a partition with its runs.
    pub(super) fn drop(&mut self, partition: u32) {
        self.work.remove(&partition);
    }

    /// Takes events; returns whether the partition is to be paused.
    pub(super) fn push(&mut self, partition: u32, events: Vec<Delivered>) -> bool {
        let Some(work) = self.work.get_mut(&partition) else {
            return false;
        };
        let is_batch = self.shop.handlers.batch.is_some();
        // A batch takes the whole partition, in order.
        work.lanes
            .push(events, |event| if is_batch { "" } else { &event.message.key });
        work.waits_since = work.waits_since.or(Some(Instant::now()));
        work.is_paused = work.lanes.len() >= self.shop.in_hand_max();
        work.is_paused
    }

    /// Starts what may start, if paused only what is ending; returns when a batch must start that is not full yet.
    pub(super) fn start_runs(&mut self, is_paused: bool) -> Option<Instant> {
        let mut batch_at: Option<Instant> = None;
        let (concurrency, n_max) = match self.shop.handlers.batch {
            None => (self.shop.options.concurrency.max(1), RUN_MAX),
            Some(size) => (1, size.events.max(1)),
        };
        for (partition, work) in &mut self.work {
            while work.lanes.n_running() < concurrency && (!is_paused || work.is_ending()) {
                if let Some(at) = self.shop.handlers.batch.and_then(|size| work.full_at(size)) {
                    batch_at = Some(batch_at.map_or(at, |earlier| earlier.min(at)));
                    break;
                }
                let Some((lane, events)) = work.lanes.start(n_max, work.last()) else {
                    break;
                };
                work.waits_since = None;
                let n_events = events.len();
                let run = run(self.shop.clone(), events, work.phase.clone(), work.alive.subscribe());
                let (partition, epoch, tell) = (*partition, work.epoch, self.tell.clone());
                self.runs.spawn("events.run", async move {
                    let done = run.await;
                    let ended = Ended {
                        partition,
                        epoch,
                        lane,
                        is_cut: done.len() < n_events,
                        done,
                    };
                    // Nobody listens if the driver is gone, which is a crash.
                    let _ = tell.send(ended);
                });
            }
        }
        batch_at
    }

    pub(super) fn ended(&mut self, ended: &Ended) {
        let Some(work) = self
            .work
            .get_mut(&ended.partition)
            .filter(|work| work.epoch == ended.epoch)
        else {
            return;
        };
        work.lanes.end(&ended.lane, &ended.done, ended.is_cut);
        if work.lanes.n_ready() > 0 {
            work.waits_since = work.waits_since.or(Some(Instant::now()));
        }
    }

    /// Returns paused partitions that have room again, once.
    pub(super) fn take_roomy(&mut self) -> Vec<u32> {
        let half = self.shop.in_hand_max() / 2;
        let roomy = self
            .work
            .iter_mut()
            .filter(|(_, work)| work.is_paused && work.lanes.len() <= half);
        roomy
            .map(|(partition, work)| {
                work.is_paused = false;
                *partition
            })
            .collect()
    }

    /// Returns partitions that are to be released: ending, and no run is going.
    pub(super) fn over(&self) -> Vec<u32> {
        self.work
            .iter()
            .filter(|(_, work)| work.is_over())
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// Must the member be told something that cannot wait?
    pub(super) fn needs_member(&self) -> bool {
        let half = self.shop.in_hand_max() / 2;
        let needs = |work: &Work| (work.is_paused && work.lanes.len() <= half) || work.is_over();
        self.work.values().any(needs)
    }

    pub(super) fn partitions(&self) -> Vec<u32> {
        self.work.keys().copied().collect()
    }

    /// Is there a partition with something to do?
    pub(super) fn is_busy(&self) -> bool {
        self.work.values().any(|work| !work.is_over())
    }

    /// Is there anything to commit?
    pub(super) fn has_done(&self) -> bool {
        self.work.values().any(|work| work.lanes.has_done())
    }

    pub(super) fn take_done(&mut self, partition: u32) -> Option<u64> {
        self.work.get_mut(&partition)?.lanes.take_done()
    }

    pub(super) fn put_back(&mut self, partition: u32, done: u64) {
        if let Some(work) = self.work.get_mut(&partition) {
            work.lanes.put_back(done);
        }
    }
}

/// Runs until the partition is lost.
async fn run(
    shop: Arc<Shop>,
    events: Vec<Delivered>,
    phase: watch::Sender<Phase>,
    mut alive: watch::Receiver<()>,
) -> Vec<u64> {
    tokio::select! {
        biased;
        done = shop.run(events, &phase) => done,
        // Nothing is ever sent: this is the end of the sender.
        _ = alive.changed() => Vec::new(),
    }
}
